//! Loads, stores, atomics, asynchronous copies and hints (9.7.9, 9.7.13.5, 9.7.13.6).

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::instr::{
    Atomic, AtomicOp, AtomicType, CpAsync, Load, Op, Order, Scope, Space, Store,
};
use crate::cuda::driver::emulated::registers::Register;
use crate::cuda::ptx::Operand;

const SPACES: [(&str, Space); 8] = [
    ("global", Space::Global),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("local", Space::Local),
    ("param", Space::Param),
    ("param::entry", Space::Param),
    ("param::func", Space::Param),
    ("const", Space::Const),
];

/// Scopes (8.5).
pub const SCOPES: [(&str, Scope); 4] =
    [("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::System)];

/// Caching of loads and stores (9.7.9.1, 9.7.9.2): it changes no value.
const LOAD_HINTS: [(&str, ()); 8] =
    [("ca", ()), ("cg", ()), ("cs", ()), ("lu", ()), ("cv", ()), ("L2::64B", ()), ("L2::128B", ()), ("L2::256B", ())];
const STORE_HINTS: [(&str, ()); 4] = [("wb", ()), ("cg", ()), ("cs", ()), ("wt", ())];
const EVICTION_HINTS: [(&str, ()); 8] = [
    ("L1::evict_normal", ()),
    ("L1::evict_unchanged", ()),
    ("L1::evict_first", ()),
    ("L1::evict_last", ()),
    ("L1::no_allocate", ()),
    ("L2::evict_normal", ()),
    ("L2::evict_first", ()),
    ("L2::evict_last", ()),
];

impl<'m> Decoder<'m> {
    /// Memory order of a load (`acquire`) or store (`release`).
    fn order(&mut self, strongest: &str) -> Result<Order> {
        if self.flag("volatile") {
            return Ok(Order::Volatile);
        }
        self.flag("weak");
        if self.flag("relaxed") {
            return Ok(Order::Relaxed(self.require(&SCOPES)?));
        }
        if self.flag(strongest) {
            let scope = self.require(&SCOPES)?;
            return Ok(if strongest == "acquire" { Order::Acquire(scope) } else { Order::Release(scope) });
        }
        Ok(Order::Weak)
    }

    /// A cache policy as the last operand, which changes no value.
    pub(super) fn cache_policy(&mut self, at: usize) -> Result<()> {
        if self.flag("L2::cache_hint") {
            self.wide(at, Kind::Bits(64))?;
        }
        Ok(())
    }

    /// Elements of a vector instruction.
    fn vector(&mut self) -> u8 {
        self.take(&[("v2", 2), ("v4", 4)]).unwrap_or(1)
    }

    /// The operands of a vector, or the one operand.
    fn elements(&self, operand: &'m Operand, count: usize) -> Result<&'m [Operand]> {
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() == count { Ok(elements) } else { Err(self.fault(format!("{count} registers belong here"))) }
    }

    fn element_bytes(&self, kind: Kind) -> Result<u8> {
        let fits = matches!(kind, Kind::Bits(_) | Kind::Unsigned(_) | Kind::Signed(_) | Kind::F32 | Kind::F64);
        if fits { Ok(kind.bits() / 8) } else { self.unsupported() }
    }

    /// `ld`, `ldu` (9.7.9.8, 9.7.9.9, 9.7.9.10).
    pub(super) fn load(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let bytes = self.element_bytes(kind)?;
        let order = self.order("acquire")?;
        let non_coherent = self.flag("nc") || self.opcode_word() == "ldu";
        let space = self.take(&SPACES).unwrap_or(Space::Generic);
        if non_coherent && (order != Order::Weak || space != Space::Global) {
            return self.unsupported();
        }
        while self.take(&LOAD_HINTS).is_some() || self.take(&EVICTION_HINTS).is_some() {}
        let count = self.vector();
        let (mut to, mut half) = ([Register::Sink; 4], false);
        let operand = self.operand(0)?;
        for (to, element) in to.iter_mut().zip(self.elements(operand, usize::from(count))?) {
            if *element != Operand::Sink {
                let (register, bits) = self.target_of(element, kind.bits(), true)?;
                *to = register;
                half = bits == 16;
            }
        }
        if u32::from(count) * u32::from(bytes) > 16 {
            return self.unsupported();
        }
        let (space, address) = self.address(1, space)?;
        self.cache_policy(2)?;
        let signed = matches!(kind, Kind::Signed(_));
        self.push(Op::Load(Load { space, bytes, count, signed, half, non_coherent, order, to, address }));
        Ok(())
    }

    /// `st` (9.7.9.11).
    pub(super) fn store(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let bytes = self.element_bytes(kind)?;
        let order = self.order("release")?;
        let space = self.take(&SPACES).unwrap_or(Space::Generic);
        if space == Space::Const {
            return self.unsupported();
        }
        while self.take(&STORE_HINTS).is_some() || self.take(&EVICTION_HINTS).is_some() {}
        let count = self.vector();
        if u32::from(count) * u32::from(bytes) > 16 {
            return self.unsupported();
        }
        let (space, address) = self.address(0, space)?;
        if space == Space::Param {
            return Err(self.fault("the parameters of a kernel cannot be written"));
        }
        let mut from = [Register::Sink; 4];
        let operand = self.operand(1)?;
        for (from, element) in from.iter_mut().zip(self.elements(operand, usize::from(count))?) {
            *from = self.stored(element, kind)?;
        }
        self.cache_policy(2)?;
        self.push(Op::Store(Store { space, bytes, count, order, from, address }));
        Ok(())
    }

    /// A value to store: a register of at least the type's size, or an immediate.
    fn stored(&mut self, element: &'m Operand, kind: Kind) -> Result<Register> {
        if let Operand::Name(name) = element
            && let Some((register, bits)) = self.register_named(name)?
        {
            if bits < kind.bits() {
                return Err(self.fault(format!("{name} has {bits} bits instead of {}", kind.bits())));
            }
            return Ok(register);
        }
        self.source(element, kind)
    }

    /// `atom`, `red` (9.7.13.5, 9.7.13.6); atomics are relaxed at the scope of the GPU unless they say otherwise.
    pub(super) fn atomic(&mut self, returns: bool) -> Result<()> {
        let kind = self.kind()?;
        let count = self.take(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1);
        let order = self.take(&[("relaxed", 0), ("acquire", 1), ("release", 2), ("acq_rel", 3)]).unwrap_or(0);
        let scope = self.take(&SCOPES).unwrap_or(Scope::Gpu);
        let order = match order {
            0 => Order::Relaxed(scope),
            1 if returns => Order::Acquire(scope),
            2 => Order::Release(scope),
            3 if returns => Order::AcquireRelease(scope),
            _ => return self.unsupported(),
        };
        let space = self.take(&SPACES[..3]).unwrap_or(Space::Generic);
        let op = self.require(&[
            ("and", AtomicOp::And),
            ("or", AtomicOp::Or),
            ("xor", AtomicOp::Xor),
            ("exch", AtomicOp::Exchange),
            ("cas", AtomicOp::CompareExchange),
            ("add", AtomicOp::Add),
            ("inc", AtomicOp::Increment),
            ("dec", AtomicOp::Decrement),
            ("min", AtomicOp::Min),
            ("max", AtomicOp::Max),
        ])?;
        let Some(element) = self.atomic_type(op, kind, count) else { return self.unsupported() };
        if !returns && matches!(op, AtomicOp::Exchange | AtomicOp::CompareExchange) {
            return self.unsupported();
        }
        if count > 1 && (space != Space::Global || op == AtomicOp::Increment) {
            return self.unsupported();
        }
        let at = usize::from(returns);
        let (space, address) = self.address(at, space)?;
        let mut to = Vec::new();
        if returns {
            let operand = self.operand(0)?;
            for element in self.elements(operand, count)? {
                to.push(match element {
                    Operand::Sink => Register::Sink,
                    register => self.target_of(register, kind.bits(), false)?.0,
                });
            }
        }
        let operand = self.operand(at + 1)?;
        let mut from = Vec::with_capacity(count);
        for element in self.elements(operand, count)? {
            from.push(self.source(element, kind)?);
        }
        let (mut swap, mut next) = (Register::Sink, at + 2);
        if op == AtomicOp::CompareExchange {
            let operand = self.operand(next)?;
            swap = self.source(operand, kind)?;
            next += 1;
        }
        self.cache_policy(next)?;
        self.push(Op::Atomic(Box::new(Atomic { space, op, kind: element, order, address, to, from, swap })));
        Ok(())
    }

    /// The element type, if the operation exists for it; takes `.noftz`.
    fn atomic_type(&mut self, op: AtomicOp, kind: Kind, count: usize) -> Option<AtomicType> {
        use AtomicOp::{Add, And, CompareExchange, Decrement, Exchange, Increment, Max, Min, Or, Xor};
        let half = matches!(kind, Kind::F16 | Kind::F16x2 | Kind::Bf16 | Kind::Bf16x2);
        if half && !self.flag("noftz") || count > 1 && self.target < 90 {
            return None;
        }
        if half && self.target < 90 && matches!(kind, Kind::Bf16 | Kind::Bf16x2) {
            return None;
        }
        let single = count == 1;
        match (kind, op) {
            (Kind::Bits(16), CompareExchange) if single => Some(AtomicType::B16),
            (Kind::Bits(32), And | Or | Xor | Exchange | CompareExchange) if single => Some(AtomicType::U32),
            (Kind::Bits(64), And | Or | Xor | Exchange | CompareExchange) if single => Some(AtomicType::U64),
            (Kind::Unsigned(32), Add | Increment | Decrement | Min | Max) if single => Some(AtomicType::U32),
            (Kind::Signed(32), Add | Min | Max) if single => Some(AtomicType::S32),
            (Kind::Unsigned(64), Add | Min | Max) if single => Some(AtomicType::U64),
            (Kind::Signed(64), Min | Max) if single => Some(AtomicType::S64),
            (Kind::F32, Add) if count <= 4 => Some(AtomicType::F32),
            (Kind::F64, Add) if single => Some(AtomicType::F64),
            (Kind::F16, Add) => Some(AtomicType::F16),
            (Kind::Bf16, Add) => Some(AtomicType::Bf16),
            (Kind::F16x2, Add) if count <= 4 => Some(AtomicType::F16x2),
            (Kind::Bf16x2, Add) if count <= 4 => Some(AtomicType::Bf16x2),
            (Kind::F16, Min | Max) if !single => Some(AtomicType::F16),
            (Kind::Bf16, Min | Max) if !single => Some(AtomicType::Bf16),
            (Kind::F16x2, Min | Max) if !single && count <= 4 => Some(AtomicType::F16x2),
            (Kind::Bf16x2, Min | Max) if !single && count <= 4 => Some(AtomicType::Bf16x2),
            _ => None,
        }
    }

    /// `cp.async`, `cp.reduce.async.bulk` (9.7.9.25).
    pub(super) fn cp_async(&mut self) -> Result<()> {
        if self.flag("reduce") {
            return self.bulk_reduce();
        }
        if !self.flag("async") {
            return self.unsupported();
        }
        if self.flag("mbarrier") {
            return self.arrive_copies();
        }
        if self.flag("bulk") {
            return self.bulk();
        }
        if self.flag("commit_group") {
            self.push(Op::CpAsyncCommit);
            return Ok(());
        }
        if self.flag("wait_all") {
            self.push(Op::CpAsyncWaitAll);
            return Ok(());
        }
        if self.flag("wait_group") {
            let Operand::Integer(count @ 0..=0xffff) = *self.operand(0)? else {
                return Err(self.fault("the number of groups is not an immediate"));
            };
            self.push(Op::CpAsyncWait(count as u32));
            return Ok(());
        }
        let Some(all) = self.take(&[("ca", true), ("cg", false)]) else { return self.unsupported() };
        self.require(&[("shared", ()), ("shared::cta", ())])?;
        self.require(&[("global", ())])?;
        self.take(&[("L2::64B", ()), ("L2::128B", ()), ("L2::256B", ())]);
        let (_, to) = self.address(0, Space::Shared)?;
        let (_, from) = self.address(1, Space::Global)?;
        let bytes = match *self.operand(2)? {
            Operand::Integer(bytes @ (4 | 8 | 16)) if all || bytes == 16 => bytes as u8,
            _ => return Err(self.fault("the size is 4, 8 or 16 bytes, with .cg only 16")),
        };
        let (mut source_bytes, mut ignore_source, mut next) = (None, None, 3);
        let hint = self.flag("L2::cache_hint");
        if self.count() > 3 + usize::from(hint) {
            next = 4;
            match self.operand(3)? {
                Operand::Name(name) if self.is_predicate(name)? => ignore_source = Some(self.condition(3)?),
                Operand::Not(_) => ignore_source = Some(self.condition(3)?),
                _ => source_bytes = Some(self.word(3, Kind::Unsigned(32))?),
            }
        }
        if hint {
            self.wide(next, Kind::Bits(64))?;
        }
        self.push(Op::CpAsync(CpAsync { to, from, bytes, source_bytes, ignore_source }));
        Ok(())
    }

    fn is_predicate(&mut self, name: &'m str) -> Result<bool> {
        Ok(matches!(self.register_named(name)?, Some((Register::Predicate(_), _))))
    }

    /// `prefetch`, `prefetchu`, `applypriority`, `discard` (9.7.9.15 to 9.7.9.17).
    pub(super) fn hint(&mut self) -> Result<()> {
        let opcode = self.opcode_word();
        if opcode == "prefetch" && self.flag("tensormap") {
            self.needs(90)?;
            let space = self.take(&[("param", Space::Param), ("const", Space::Const)]).unwrap_or(Space::Generic);
            let (space, address) = self.address(0, space)?;
            self.push(Op::Prefetch(space, address));
            return Ok(());
        }
        let space = self.take(&SPACES[..1]).unwrap_or(Space::Generic);
        let levels: &[(&str, ())] = match opcode {
            "prefetch" => &[("L1", ()), ("L2", ()), ("L2::evict_last", ()), ("L2::evict_normal", ())],
            "prefetchu" => &[("L1", ())],
            "applypriority" => &[("L2::evict_normal", ())],
            _ => &[("L2", ())],
        };
        self.require(levels)?;
        let (space, address) = self.address(0, space)?;
        if matches!(opcode, "applypriority" | "discard") && !matches!(self.operand(1)?, Operand::Integer(128)) {
            return Err(self.fault("the size is 128 bytes"));
        }
        self.push(if opcode == "discard" { Op::Discard(space, address) } else { Op::Prefetch(space, address) });
        Ok(())
    }

    /// `createpolicy` (9.7.9.18): a policy, whose value nobody reads.
    pub(super) fn create_policy(&mut self) -> Result<()> {
        self.require(&[("fractional", ())])?;
        self.require(&EVICTION_HINTS[5..])?;
        if self.kind()? != Kind::Bits(64) {
            return self.unsupported();
        }
        let to = self.operand(0)?;
        let (to, _) = self.target_of(to, 64, false)?;
        if self.count() > 1 {
            let fraction = self.operand(1)?;
            self.source(fraction, Kind::F32)?;
        }
        let policy = self.constant(64, 0)?;
        self.push_move(to, policy)
    }

    /// `fence`, `membar` (9.7.13.4), not of proxies but the async one.
    pub(super) fn fence(&mut self) -> Result<()> {
        if self.opcode_word() == "fence" && self.flag("mbarrier_init") {
            self.needs(90)?;
            self.require(&[("release", ())])?;
            self.require(&[("cluster", ())])?;
            self.push(Op::FenceMbarriers);
            return Ok(());
        }
        if self.opcode_word() == "fence" && self.flag("proxy") {
            self.require(&[("async", ())])?;
            self.needs(90)?;
            self.take(&[("global", ()), ("shared::cta", ()), ("shared::cluster", ())]);
            self.push(Op::FenceProxy);
            return Ok(());
        }
        let order: fn(Scope) -> Order = if self.opcode_word() == "membar" {
            let scope = self.require(&[("cta", Scope::Cta), ("gl", Scope::Gpu), ("sys", Scope::System)])?;
            self.push(Op::Fence(Order::AcquireRelease(scope)));
            return Ok(());
        } else {
            match self.take(&[("sc", 0), ("acq_rel", 0), ("acquire", 1), ("release", 2)]) {
                Some(1) => Order::Acquire,
                Some(2) => Order::Release,
                _ => Order::AcquireRelease,
            }
        };
        let scope = self.require(&SCOPES)?;
        self.push(Op::Fence(order(scope)));
        Ok(())
    }
}
