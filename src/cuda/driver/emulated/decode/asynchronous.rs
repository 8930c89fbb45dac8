//! The async proxy of sm_90 (9.7.9.25.4, 9.7.9.27, 9.7.15, 9.7.19.5): bulk copies, copies of tensors, matrix products of
//! warpgroups. A CTA is a cluster of its own: forms that reach others of a cluster are refused.

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::asynchronous::{Accumulate, Bulk, BulkTensor, Left, Way, Wgmma};
use crate::cuda::driver::emulated::instr::{AtomicOp, AtomicType, MmaType, Op, Space};
use crate::cuda::driver::emulated::registers::{Register, Word};
use crate::cuda::ptx::Operand;

/// Spaces of the destination of a load: the CTA's own shared memory by either name.
const SHARED: [(&str, ()); 2] = [("shared::cluster", ()), ("shared::cta", ())];

const RANKS: [(&str, u8); 5] = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];

/// Columns of a product at most.
const COLUMNS: u16 = 256;

/// Registers that `setmaxnreg` may name, in steps of 8.
const REGISTERS: std::ops::RangeInclusive<i128> = 24..=256;

impl<'m> Decoder<'m> {
    /// `cp.async.bulk` after these words, and `cp.async.bulk.tensor`.
    pub(super) fn bulk(&mut self) -> Result<()> {
        self.needs(90)?;
        if self.flag("commit_group") {
            self.push(Op::BulkCommit);
            return Ok(());
        }
        if self.flag("wait_group") {
            self.flag("read");
            let Operand::Integer(count @ 0..=0xffff) = *self.operand(0)? else {
                return Err(self.fault("the number of groups is not an immediate"));
            };
            self.push(Op::BulkWait(count as u32));
            return Ok(());
        }
        if self.flag("prefetch") {
            return self.bulk_prefetch();
        }
        if self.flag("multicast::cluster") {
            return Err(
                self.fault("copies to several blocks of a cluster are not modelled; a block is a cluster of its own")
            );
        }
        match self.flag("tensor") {
            true => self.bulk_tensor(None),
            false => self.bulk_bytes(None),
        }
    }

    /// `cp.reduce.async.bulk`, after `cp.reduce`.
    pub(super) fn bulk_reduce(&mut self) -> Result<()> {
        self.require(&[("async", ())])?;
        self.require(&[("bulk", ())])?;
        self.needs(90)?;
        let op = self.require(&[("add", AtomicOp::Add), ("min", AtomicOp::Min), ("max", AtomicOp::Max)])?;
        match self.flag("tensor") {
            true => self.bulk_tensor(Some(op)),
            false => self.bulk_bytes(Some(op)),
        }
    }

    /// `cp.async.bulk.prefetch`: a hint; the addresses need not be valid.
    fn bulk_prefetch(&mut self) -> Result<()> {
        let tensor = self.flag("tensor");
        self.require(&[("L2", ())])?;
        self.require(&[("global", ())])?;
        let address = match tensor {
            true => {
                let rank = self.require(&RANKS)?;
                let im2col = self.take(&[("tile", false), ("im2col", true)]).unwrap_or(false);
                let (address, rest) = self.tensor(0)?;
                self.coordinates(rest, rank)?;
                if im2col {
                    self.offsets(1, rank)?;
                }
                self.cache_policy(1 + usize::from(im2col))?;
                address
            }
            false => {
                self.word(1, Kind::Unsigned(32))?;
                self.cache_policy(2)?;
                self.address(0, Space::Global)?.1
            }
        };
        self.push(Op::Prefetch(Space::Generic, address));
        Ok(())
    }

    /// Whether it loads (with the mbarrier as operand `at`), or stores or combines by `reduce`.
    fn way(&mut self, at: usize, reduce: Option<AtomicOp>, kind: Option<AtomicType>) -> Result<Way> {
        if self.flag("bulk_group") {
            self.require(&[("shared::cta", ())])?;
            self.require(&[("global", ())])?;
            return Ok(reduce.map_or(Way::Store, |op| Way::Reduce(op, kind)));
        }
        self.require(&[("mbarrier::complete_tx::bytes", ())])?;
        self.require(&SHARED)?;
        if reduce.is_some() || !self.flag("global") {
            return Err(self.fault("only copies between global memory and the block's own shared memory are modelled"));
        }
        Ok(Way::Load(self.address(at, Space::Shared)?.1))
    }

    fn bulk_bytes(&mut self, reduce: Option<AtomicOp>) -> Result<()> {
        let kind = match reduce {
            Some(op) => Some(self.reduced(op)?),
            None => None,
        };
        let way = self.way(3, reduce, kind)?;
        let loads = matches!(way, Way::Load(_));
        let (to, from) = if loads { (Space::Shared, Space::Global) } else { (Space::Global, Space::Shared) };
        let (_, to) = self.address(0, to)?;
        let (_, from) = self.address(1, from)?;
        let bytes = self.word(2, Kind::Unsigned(32))?;
        self.cache_policy(3 + usize::from(loads))?;
        let (shared, global) = if loads { (to, from) } else { (from, to) };
        self.push(Op::Bulk(Box::new(Bulk { way, shared, global, bytes })));
        Ok(())
    }

    /// The type of the elements that are combined.
    fn reduced(&mut self, op: AtomicOp) -> Result<AtomicType> {
        let kind = self.kind()?;
        let half = matches!(kind, Kind::F16 | Kind::Bf16);
        if half && op == AtomicOp::Add && !self.flag("noftz") {
            return Err(self.fault("sums of 16-bit floats need .noftz"));
        }
        Ok(match (kind, op) {
            (Kind::F32, AtomicOp::Add) => AtomicType::F32,
            (Kind::F64, AtomicOp::Add) => AtomicType::F64,
            (Kind::F16, _) => AtomicType::F16,
            (Kind::Bf16, _) => AtomicType::Bf16,
            (Kind::Unsigned(32), _) => AtomicType::U32,
            (Kind::Signed(32), _) => AtomicType::S32,
            (Kind::Unsigned(64), _) => AtomicType::U64,
            _ => return self.unsupported(),
        })
    }

    fn bulk_tensor(&mut self, reduce: Option<AtomicOp>) -> Result<()> {
        let rank = self.require(&RANKS)?;
        let im2col = self.take(&[("tile", false), ("im2col", true), ("im2col_no_offs", true)]).unwrap_or(false);
        let way = self.way(2, reduce, None)?;
        let loads = matches!(way, Way::Load(_));
        if im2col && (!loads || rank < 3) {
            return Err(self.fault("im2col is modelled for loads of 3 to 5 dimensions"));
        }
        let (map, rest) = self.tensor(usize::from(loads))?;
        let coordinates = self.coordinates(rest, rank)?;
        let (_, shared) = self.address(usize::from(!loads), Space::Shared)?;
        let offsets = if im2col { self.offsets(3, rank)? } else { [None; 3] };
        self.cache_policy(2 + usize::from(loads) + usize::from(im2col))?;
        self.push(Op::BulkTensor(Box::new(BulkTensor { way, rank, im2col, map, shared, coordinates, offsets })));
        Ok(())
    }

    /// Coordinates of a box; those beyond the rank repeat the first.
    fn coordinates(&mut self, rest: &'m [Operand], rank: u8) -> Result<[Word; 5]> {
        if rest.len() != usize::from(rank) {
            return Err(self.fault(format!("{rank} coordinates belong here")));
        }
        let mut words = [Word(0); 5];
        for (word, operand) in words.iter_mut().zip(rest) {
            let Register::Word(register) = self.source(operand, Kind::Signed(32))? else { return self.unsupported() };
            *word = register;
        }
        let first = words[0];
        words[rest.len()..].fill(first);
        Ok(words)
    }

    /// Offsets in a convolution's window.
    fn offsets(&mut self, at: usize, rank: u8) -> Result<[Option<Word>; 3]> {
        let count = usize::from(rank).saturating_sub(2);
        let elements = match self.operand(at)? {
            Operand::Vector(elements) if elements.len() == count => elements,
            _ => return Err(self.fault(format!("{count} offsets belong here"))),
        };
        let mut words = [None; 3];
        for (word, operand) in words.iter_mut().zip(elements) {
            let Register::Word(register) = self.source(operand, Kind::Unsigned(16))? else { return self.unsupported() };
            *word = Some(register);
        }
        Ok(words)
    }

    /// `setmaxnreg` (9.7.19.5).
    pub(super) fn set_registers(&mut self) -> Result<()> {
        self.require(&[("inc", ()), ("dec", ())])?;
        self.require(&[("sync", ())])?;
        self.require(&[("aligned", ())])?;
        self.require(&[("u32", ())])?;
        self.needs_hopper()?;
        match *self.operand(0)? {
            Operand::Integer(count) if REGISTERS.contains(&count) && count % 8 == 0 => {
                self.push(Op::SetRegisters(count as u32));
                Ok(())
            }
            _ => Err(self.fault("the number of registers is an immediate from 24 to 256 in steps of 8")),
        }
    }

    /// `wgmma` (9.7.15).
    pub(super) fn wgmma(&mut self) -> Result<()> {
        self.needs_hopper()?;
        let what = self.require(&[("fence", 0), ("commit_group", 1), ("wait_group", 2), ("mma_async", 3)])?;
        self.require(&[("sync", ())])?;
        self.require(&[("aligned", ())])?;
        let op = match what {
            0 => Op::WgmmaFence,
            1 => Op::WgmmaCommit,
            2 => match *self.operand(0)? {
                Operand::Integer(count @ 0..=0xffff) => Op::WgmmaWait(count as u32),
                _ => return Err(self.fault("the number of groups is not an immediate")),
            },
            _ => return self.product_of_warpgroup(),
        };
        self.push(op);
        Ok(())
    }

    fn product_of_warpgroup(&mut self) -> Result<()> {
        let (b, a, d) = (self.kind()?, self.kind()?, self.kind()?);
        let kind = match a {
            Kind::F16 => MmaType::F16,
            Kind::Bf16 => MmaType::Bf16,
            Kind::Tf32 => MmaType::Tf32,
            _ => return self.unsupported(),
        };
        if a != b || d != Kind::F32 {
            return self.unsupported();
        }
        let columns = self.columns(if kind == MmaType::Tf32 { 8 } else { 16 })?;
        let sums = self.accumulators(usize::from(columns) / 2)?;
        let from_registers = matches!(self.operand(1)?, Operand::Vector(_));
        let left = match from_registers {
            true => Left::Registers(self.factor()?),
            false => Left::Shared(self.wide(1, Kind::Bits(64))?),
        };
        let right = self.wide(2, Kind::Bits(64))?;
        let accumulate = match self.operand(3)? {
            Operand::Integer(value) if *value != 0 => Accumulate::Always,
            _ => Accumulate::If(self.condition(3)?),
        };
        let negated = [self.choice(4, [1, -1])?, self.choice(5, [1, -1])?];
        let transposed = match (kind, from_registers) {
            (MmaType::Tf32, _) => [false, false],
            (_, true) => [false, self.choice(6, [0, 1])?],
            (_, false) => [self.choice(6, [0, 1])?, self.choice(7, [0, 1])?],
        };
        self.push(Op::Wgmma(Box::new(Wgmma {
            columns,
            kind,
            d: sums.into(),
            a: left,
            b: right,
            accumulate,
            negated,
            transposed,
        })));
        Ok(())
    }

    /// N of the shape `m64nNkK`.
    fn columns(&mut self, depth: u16) -> Result<u16> {
        let suffix = format!("k{depth}");
        let shapes = (8..=COLUMNS).step_by(8).map(|columns| (format!("m64n{columns}{suffix}"), columns));
        for (name, columns) in shapes {
            if self.flag(&name) {
                return Ok(columns);
            }
        }
        Err(self.fault(format!("the shape is m64nN{suffix} for N from 8 to {COLUMNS} in steps of 8")))
    }

    fn accumulators(&mut self, count: usize) -> Result<Vec<Word>> {
        let Operand::Vector(elements) = self.operand(0)? else { return self.unsupported() };
        if elements.len() != count {
            return Err(self.fault(format!("{count} accumulators belong here")));
        }
        let mut words = Vec::with_capacity(count);
        for element in elements {
            let (Register::Word(word), _) = self.target_of(element, 32, false)? else { return self.unsupported() };
            words.push(word);
        }
        Ok(words)
    }

    /// A in four registers.
    fn factor(&mut self) -> Result<[Word; 4]> {
        let Operand::Vector(elements) = self.operand(1)? else { return self.unsupported() };
        if elements.len() != 4 {
            return Err(self.fault("four registers of A belong here"));
        }
        let mut words = [Word(0); 4];
        for (word, element) in words.iter_mut().zip(elements) {
            let Register::Word(register) = self.source(element, Kind::Bits(32))? else { return self.unsupported() };
            *word = register;
        }
        Ok(words)
    }

    /// An immediate of two, whether it is the second.
    fn choice(&mut self, at: usize, [first, second]: [i128; 2]) -> Result<bool> {
        match *self.operand(at)? {
            Operand::Integer(value) if value == first => Ok(false),
            Operand::Integer(value) if value == second => Ok(true),
            _ => Err(self.fault(format!("operand {} is {first} or {second}", at + 1))),
        }
    }
}
