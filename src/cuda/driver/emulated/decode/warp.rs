//! Barriers, warp-wide instructions and matrices of a warp (9.7.9.6, 9.7.13, 9.7.14).

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::instr::{
    Barrier, BarrierKind, MatrixMove, Mma, MmaType, Op, ReduxOp, Shuffle, ShuffleMode, Space, VoteKind,
};
use crate::cuda::driver::emulated::registers::{Predicate, Register, Word};
use crate::cuda::ptx::Operand;

const U32: Kind = Kind::Unsigned(32);
const B32: Kind = Kind::Bits(32);

impl Decoder<'_> {
    /// `bar`, `barrier`, not of clusters (9.7.13.1, 9.7.13.2).
    pub(super) fn barrier(&mut self) -> Result<()> {
        if self.opcode_word() == "bar" && self.flag("warp") {
            self.require(&[("sync", ())])?;
            let members = self.word(0, B32)?;
            self.push(Op::WarpSync(members));
            return Ok(());
        }
        self.flag("cta");
        let aligned = self.opcode_word() == "bar" || self.flag("aligned");
        let what = self.require(&[("sync", 0), ("arrive", 1), ("red", 2)])?;
        let (at, kind) = match what {
            0 => (0, BarrierKind::Sync),
            1 => (0, BarrierKind::Arrive),
            _ => self.barrier_reduction()?,
        };
        let id = self.word(at, U32)?;
        let last = self.count() - usize::from(what == 2);
        let threads = if last > at + 1 { Some(self.word(at + 1, U32)?) } else { None };
        if what == 1 && threads.is_none() {
            return Err(self.fault("the number of threads is missing"));
        }
        self.push(Op::Barrier(Barrier { kind, id, threads, aligned }));
        Ok(())
    }

    fn barrier_reduction(&mut self) -> Result<(usize, BarrierKind)> {
        let op = self.require(&[("popc", 0), ("and", 1), ("or", 2)])?;
        let kind = self.kind()?;
        let last = self.count().saturating_sub(1);
        let condition = self.condition(last)?;
        if op == 0 && kind == U32 {
            return Ok((1, BarrierKind::CountTrue(self.destination_word(32)?, condition)));
        }
        if op == 0 || kind != Kind::Pred {
            return self.unsupported();
        }
        let to = self.operand(0)?;
        let to = self.predicate_of(to)?;
        Ok((1, if op == 1 { BarrierKind::All(to, condition) } else { BarrierKind::Any(to, condition) }))
    }

    /// `d|p`, or `d` alone: a word and perhaps a predicate.
    fn word_and_predicate(&mut self) -> Result<(Option<Word>, Option<Predicate>)> {
        let (first, second) = match self.operand(0)? {
            Operand::Pair(first, second) => (first.as_ref(), Some(second.as_ref())),
            single => (single, None),
        };
        let word = match first {
            Operand::Sink => None,
            register => match self.target_of(register, 32, false)? {
                (Register::Word(word), _) => Some(word),
                _ => return self.unsupported(),
            },
        };
        let predicate = match second {
            None | Some(Operand::Sink) => None,
            Some(predicate) => Some(self.predicate_of(predicate)?),
        };
        Ok((word, predicate))
    }

    /// As [`Self::word_and_predicate`], with a word to spare for a sink.
    fn word_or_spare(&mut self) -> Result<(Word, Option<Predicate>)> {
        let (word, predicate) = self.word_and_predicate()?;
        match (word, self.allocate_if(word.is_none())?) {
            (Some(word), _) | (None, Some(Register::Word(word))) => Ok((word, predicate)),
            _ => self.unsupported(),
        }
    }

    fn allocate_if(&mut self, wanted: bool) -> Result<Option<Register>> {
        if wanted { self.allocate(32).map(Some) } else { Ok(None) }
    }

    /// `shfl.sync` (9.7.9.6).
    pub(super) fn shuffle(&mut self) -> Result<()> {
        self.require(&[("sync", ())])?;
        let mode = self.require(&[
            ("up", ShuffleMode::Up),
            ("down", ShuffleMode::Down),
            ("bfly", ShuffleMode::Butterfly),
            ("idx", ShuffleMode::Index),
        ])?;
        if self.kind()? != B32 {
            return self.unsupported();
        }
        let (to, valid) = self.word_or_spare()?;
        let [value, lane, control, members] = self.words(1, B32)?;
        self.push(Op::Shuffle(Shuffle { mode, to, valid, value, lane, control, members }));
        Ok(())
    }

    /// `vote.sync` (9.7.13.9).
    pub(super) fn vote(&mut self) -> Result<()> {
        self.require(&[("sync", ())])?;
        let what = self.require(&[("all", 0), ("any", 1), ("uni", 2), ("ballot", 3)])?;
        let kind = self.kind()?;
        let vote = match (what, kind) {
            (3, Kind::Bits(32)) => VoteKind::Ballot(self.destination_word(32)?),
            (0..=2, Kind::Pred) => {
                let to = self.operand(0)?;
                let to = self.predicate_of(to)?;
                [VoteKind::All(to), VoteKind::Any(to), VoteKind::Uniform(to)][what]
            }
            _ => return self.unsupported(),
        };
        let (condition, members) = (self.condition(1)?, self.word(2, B32)?);
        self.push(Op::Vote(vote, condition, members));
        Ok(())
    }

    /// `match.sync` (9.7.13.10).
    pub(super) fn matching(&mut self) -> Result<()> {
        let all = self.require(&[("all", true), ("any", false)])?;
        self.require(&[("sync", ())])?;
        let kind = self.kind()?;
        if !matches!(kind, Kind::Bits(32 | 64)) {
            return self.unsupported();
        }
        let (to, whether) = self.word_or_spare()?;
        let value = self.operand(1)?;
        let (value, members) = (self.source(value, kind)?, self.word(2, B32)?);
        match (all, whether) {
            (true, whether) => self.push(Op::MatchAll(to, whether, value, members)),
            (false, None) => self.push(Op::MatchAny(to, value, members)),
            (false, Some(_)) => return self.unsupported(),
        }
        Ok(())
    }

    /// `redux.sync` (9.7.13.12).
    pub(super) fn redux(&mut self) -> Result<()> {
        self.require(&[("sync", ())])?;
        let op = self.require(&[("add", 0), ("min", 1), ("max", 2), ("and", 3), ("or", 4), ("xor", 5)])?;
        let kind = self.kind()?;
        let op = match (op, kind) {
            (0, Kind::Unsigned(32) | Kind::Signed(32)) => ReduxOp::Add,
            (1, Kind::Unsigned(32)) => ReduxOp::MinUnsigned,
            (1, Kind::Signed(32)) => ReduxOp::MinSigned,
            (2, Kind::Unsigned(32)) => ReduxOp::MaxUnsigned,
            (2, Kind::Signed(32)) => ReduxOp::MaxSigned,
            (3, Kind::Bits(32)) => ReduxOp::And,
            (4, Kind::Bits(32)) => ReduxOp::Or,
            (5, Kind::Bits(32)) => ReduxOp::Xor,
            _ => return self.unsupported(),
        };
        self.needs(80)?;
        let (to, [value, members]) = (self.destination_word(32)?, self.words(1, kind)?);
        self.push(Op::Redux(op, to, value, members));
        Ok(())
    }

    /// `activemask` (9.7.13.11).
    pub(super) fn active_mask(&mut self) -> Result<()> {
        if self.kind()? != B32 {
            return self.unsupported();
        }
        let to = self.destination_word(32)?;
        self.push(Op::ActiveMask(to));
        Ok(())
    }

    /// `elect.sync` (9.7.13.14).
    pub(super) fn elect(&mut self) -> Result<()> {
        self.require(&[("sync", ())])?;
        self.needs(90)?;
        let (to, predicate) = self.word_and_predicate()?;
        let Some(predicate) = predicate else { return Err(self.fault("the predicate is missing")) };
        let members = self.word(1, B32)?;
        self.push(Op::Elect(to, predicate, members));
        Ok(())
    }

    /// Registers of a vector, to read or to write; those after the last repeat the first.
    fn fragment<const N: usize>(&mut self, at: usize, count: usize, kind: Kind, write: bool) -> Result<[Word; N]> {
        let operand = self.operand(at)?;
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() != count || count > N {
            return Err(self.fault(format!("operand {} needs {count} registers", at + 1)));
        }
        let mut words = [Word(0); N];
        for (word, element) in words.iter_mut().zip(elements) {
            let register = if write { self.target_of(element, 32, false)?.0 } else { self.source(element, kind)? };
            let Register::Word(register) = register else { return self.unsupported() };
            *word = register;
        }
        for spare in count..N {
            words[spare] = words[0];
        }
        Ok(words)
    }

    /// `ldmatrix`, `stmatrix` (9.7.14.5.15, 9.7.14.5.16).
    pub(super) fn matrix_move(&mut self, load: bool) -> Result<()> {
        for word in ["sync", "aligned", "m8n8"] {
            self.require(&[(word, ())])?;
        }
        let count: u8 = self.require(&[("x1", 1), ("x2", 2), ("x4", 4)])?;
        let transposed = self.flag("trans");
        let space = self.take(&[("shared", Space::Shared), ("shared::cta", Space::Shared)]).unwrap_or(Space::Generic);
        if self.kind()? != Kind::Bits(16) {
            return self.unsupported();
        }
        if !load {
            self.needs(90)?;
        }
        let (register_at, address_at) = if load { (0, 1) } else { (1, 0) };
        let registers = self.fragment(register_at, usize::from(count), B32, load)?;
        let (space, address) = self.address(address_at, space)?;
        let matrices = MatrixMove { count, transposed, space, registers, address };
        self.push(if load { Op::LoadMatrix(matrices) } else { Op::StoreMatrix(matrices) });
        Ok(())
    }

    /// `mma.sync` of m16n8 (9.7.14.5).
    pub(super) fn mma(&mut self) -> Result<()> {
        for word in ["sync", "aligned"] {
            self.require(&[(word, ())])?;
        }
        let k: u8 = self.require(&[("m16n8k16", 16), ("m16n8k8", 8), ("m16n8k4", 4)])?;
        for word in ["row", "col"] {
            self.require(&[(word, ())])?;
        }
        let (c, b, a, d) = (self.kind()?, self.kind()?, self.kind()?, self.kind()?);
        let kind = match a {
            Kind::F16 => MmaType::F16,
            Kind::Bf16 => MmaType::Bf16,
            Kind::Tf32 => MmaType::Tf32,
            _ => return self.unsupported(),
        };
        let half_sum = d == Kind::F16 && kind == MmaType::F16;
        let depth = match kind {
            MmaType::Tf32 => k != 16,
            MmaType::F16 | MmaType::Bf16 => k != 4,
        };
        if a != b || c != d || !(half_sum || d == Kind::F32) || !depth {
            return self.unsupported();
        }
        self.needs(80)?;
        let full = k == 16 || k == 8 && kind == MmaType::Tf32;
        let (sums, sum_kind) = if half_sum { (2, B32) } else { (4, Kind::F32) };
        let d = self.fragment(0, sums, sum_kind, true)?;
        let a = self.fragment(1, if full { 4 } else { 2 }, B32, false)?;
        let b = self.fragment(2, if full { 2 } else { 1 }, B32, false)?;
        let c = self.fragment(3, sums, sum_kind, false)?;
        self.push(Op::Mma(Mma { k, kind, half_sum, d, a, b, c }));
        Ok(())
    }
}
