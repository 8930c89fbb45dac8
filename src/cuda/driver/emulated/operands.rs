//! Which registers an instruction reads and writes.

use super::asynchronous::{Accumulate, Left, Way, Wgmma};
use super::instr::{
    Address, Atomic, Barrier, BarrierKind, Base, CpAsync, Guard, Mbarrier, MbarrierOp, Mma, MmaType, Op, Shuffle,
    VoteKind,
};
use super::registers::Register;
use super::scalar::Scalar;
use super::scalar::compare::{Compare, SetPredicate};
use super::scalar::integer::{Binary, Narrow, Ternary, Unary, WideUnary};

/// The registers of one instruction, without its guard. Sinks are left out.
#[derive(Clone, Debug, Default)]
pub struct Operands {
    /// What it computes with, stores, compares or goes by.
    pub reads: Vec<Register>,
    /// What it only passes on, as a whole or as a part of its result.
    pub carries: Vec<Register>,
    /// What lanes hold out to each other: it counts where another lane takes it.
    pub offers: Option<Register>,
    /// What it writes.
    pub writes: Vec<Register>,
}

impl Operands {
    /// Those of an instruction.
    pub fn of(op: &Op) -> Self {
        let mut found = Self::default();
        found.collect(op);
        [&mut found.reads, &mut found.carries, &mut found.writes]
            .into_iter()
            .for_each(|registers| registers.retain(|register| *register != Register::Sink));
        found
    }

    fn collect(&mut self, op: &Op) {
        match op {
            Op::Scalar(scalar) => self.scalar(scalar),
            Op::Load(load) => self.address(&load.address).writes(load.to.into_iter().take(load.count.into())),
            Op::Store(store) => self.address(&store.address).reads(store.from.into_iter().take(store.count.into())),
            Op::Atomic(atomic) => self.atomic(atomic),
            Op::BranchIndexed(selector, _) => self.reads([*selector]),
            Op::Barrier(barrier) => self.barrier(barrier),
            Op::WarpSync(members) => self.reads([*members]),
            Op::Shuffle(shuffle) => self.shuffle(shuffle),
            Op::Vote(kind, guard, members) => {
                self.guard(*guard).reads([*members]);
                match kind {
                    VoteKind::All(to) | VoteKind::Any(to) | VoteKind::Uniform(to) => self.writes([*to]),
                    VoteKind::Ballot(to) => self.writes([*to]),
                }
            }
            Op::MatchAny(to, value, members) => self.write(*to).read(*value).reads([*members]),
            Op::MatchAll(to, whether, value, members) => {
                self.write(*to).read(*value).read(*members).writes(*whether);
            }
            Op::Redux(_, to, value, members) => self.write(*to).reads([*value, *members]),
            Op::ActiveMask(to) => self.writes([*to]),
            Op::Elect(to, whether, members) => self.write(*whether).read(*members).writes(*to),
            Op::CpAsync(copy) => self.copy(copy),
            Op::Mbarrier(mbarrier) => self.mbarrier(mbarrier),
            Op::LoadMatrix(matrices) => {
                self.address(&matrices.address).writes(matrices.registers.into_iter().take(matrices.count.into()));
            }
            Op::StoreMatrix(matrices) => {
                self.address(&matrices.address).reads(matrices.registers.into_iter().take(matrices.count.into()));
            }
            Op::Mma(mma) => self.mma(mma),
            Op::Bulk(bulk) => {
                self.way(bulk.way).address(&bulk.shared).address(&bulk.global).reads([bulk.bytes]);
            }
            Op::BulkTensor(copy) => {
                self.way(copy.way).address(&copy.shared).address(&copy.map).reads(copy.coordinates);
                self.reads(copy.offsets.into_iter().flatten());
            }
            Op::Wgmma(wgmma) => self.wgmma(wgmma),
            Op::Prefetch(_, address) | Op::Discard(_, address) => {
                self.address(address);
            }
            Op::ReadClock(to, _) => self.writes([*to]),
            Op::Branch(_) | Op::Exit | Op::Trap | Op::Yield | Op::Fence(_) => {}
            Op::CpAsyncCommit | Op::CpAsyncWait(_) | Op::CpAsyncWaitAll | Op::BulkCommit | Op::BulkWait(_) => {}
            Op::FenceProxy | Op::FenceMbarriers | Op::SetRegisters(_) => {}
            Op::WgmmaFence | Op::WgmmaCommit | Op::WgmmaWait(_) => {}
        }
    }

    fn way(&mut self, way: Way) -> &mut Self {
        match way {
            Way::Load(mbarrier) => self.address(&mbarrier),
            Way::Store | Way::Reduce(..) => self,
        }
    }

    /// What accumulators hold counts only where it is surely added to.
    fn wgmma(&mut self, wgmma: &Wgmma) {
        match wgmma.a {
            Left::Registers(registers) => self.reads(registers),
            Left::Shared(descriptor) => self.reads([descriptor]),
        }
        match wgmma.accumulate {
            Accumulate::Always => self.reads(wgmma.d.iter().copied()),
            Accumulate::If(guard) => self.reads([guard.predicate]),
        }
        self.read(wgmma.b).writes(wgmma.d.iter().copied());
    }

    fn reads(&mut self, registers: impl IntoIterator<Item = impl Into<Register>>) {
        self.reads.extend(registers.into_iter().map(Into::into));
    }

    fn writes(&mut self, registers: impl IntoIterator<Item = impl Into<Register>>) {
        self.writes.extend(registers.into_iter().map(Into::into));
    }

    fn read(&mut self, register: impl Into<Register>) -> &mut Self {
        self.reads.push(register.into());
        self
    }

    fn carry(&mut self, register: impl Into<Register>) {
        self.carries.push(register.into());
    }

    fn write(&mut self, register: impl Into<Register>) -> &mut Self {
        self.writes.push(register.into());
        self
    }

    fn guard(&mut self, guard: Guard) -> &mut Self {
        self.read(guard.predicate)
    }

    fn address(&mut self, address: &Address) -> &mut Self {
        match address.base {
            Base::None => self,
            Base::Word(word) => self.read(word),
            Base::Wide(wide) => self.read(wide),
        }
    }

    fn atomic(&mut self, atomic: &Atomic) {
        self.address(&atomic.address).reads(atomic.from.iter().copied());
        self.read(atomic.swap).writes(atomic.to.iter().copied());
    }

    fn barrier(&mut self, barrier: &Barrier) {
        self.read(barrier.id).reads(barrier.threads);
        match barrier.kind {
            BarrierKind::Sync | BarrierKind::Arrive => {}
            BarrierKind::CountTrue(to, guard) => self.guard(guard).writes([to]),
            BarrierKind::All(to, guard) | BarrierKind::Any(to, guard) => self.guard(guard).writes([to]),
        }
    }

    fn shuffle(&mut self, shuffle: &Shuffle) {
        self.offers = Some(shuffle.value.into());
        self.reads([shuffle.lane, shuffle.control, shuffle.members]);
        self.write(shuffle.to).writes(shuffle.valid);
    }

    fn copy(&mut self, copy: &CpAsync) {
        self.address(&copy.to).address(&copy.from).reads(copy.source_bytes);
        self.reads(copy.ignore_source.map(|guard| guard.predicate));
    }

    fn mbarrier(&mut self, mbarrier: &Mbarrier) {
        self.address(&mbarrier.address);
        match mbarrier.op {
            MbarrierOp::Init(word) | MbarrierOp::ExpectBytes(word) | MbarrierOp::CompleteBytes(word) => {
                self.reads([word])
            }
            MbarrierOp::Arrive { state, count, expects, .. } => {
                self.reads(expects);
                self.write(state).reads([count]);
            }
            MbarrierOp::TestState(to, state) => self.write(to).reads([state]),
            MbarrierOp::TestParity(to, parity) => self.write(to).reads([parity]),
            MbarrierOp::Invalidate | MbarrierOp::ArriveCopies { .. } => {}
        }
    }

    fn mma(&mut self, mma: &Mma) {
        let sums = if mma.half_sum { 2 } else { 4 };
        let steps = usize::from(mma.k) / if mma.kind == MmaType::Tf32 { 4 } else { 8 };
        self.reads(mma.a.into_iter().take(2 * steps));
        self.reads(mma.b.into_iter().take(steps));
        self.reads(mma.c.into_iter().take(sums));
        self.writes(mma.d.into_iter().take(sums));
    }

    fn compare(&mut self, compare: &Compare, combine: Option<Guard>) -> &mut Self {
        self.reads(compare.operands);
        self.reads(combine.map(|guard| guard.predicate));
        self
    }

    fn set_predicate(&mut self, set: &SetPredicate) {
        self.compare(&set.compare, set.combine.map(|(_, guard)| guard)).writes(set.to);
        self.writes(set.opposite);
    }

    fn scalar(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Unary(Unary::Move, to, a) => self.write(*to).carry(*a),
            Scalar::WideUnary(WideUnary::Move, to, a) => self.write(*to).carry(*a),
            Scalar::Predicate(to, guard) => self.write(*to).carry(guard.predicate),
            Scalar::Narrow(Narrow::Truncate { .. } | Narrow::High, to, a) => self.write(*to).carry(*a),
            Scalar::PackWords(to, parts) => {
                self.write(*to);
                parts.iter().for_each(|part| self.carry(*part));
            }
            Scalar::Pack(to, parts, _) => {
                self.write(*to);
                parts.iter().for_each(|part| self.carry(*part));
            }
            Scalar::Unpack(parts, from, _) => {
                self.carry(*from);
                self.writes(parts.iter().copied());
            }
            Scalar::Select(to, parts, by) => {
                self.write(*to).guard(*by);
                parts.iter().for_each(|part| self.carry(*part));
            }
            Scalar::SelectWide(to, parts, by) => {
                self.write(*to).guard(*by);
                parts.iter().for_each(|part| self.carry(*part));
            }
            // Compilers put bytes together by `prmt`, and leave out those that nobody will look at.
            Scalar::Ternary(Ternary::Permute | Ternary::PermuteMode(_), to, [a, b, by]) => {
                self.write(*to).read(*by).carry(*a);
                self.carry(*b);
            }
            // Whatever it held, it is 0 afterwards.
            Scalar::Binary(Binary::Xor, to, [a, b]) if a == b => self.writes([*to]),
            _ => self.computation(scalar),
        }
    }

    /// What computes with all its operands.
    fn computation(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Unary(_, to, a) => self.write(*to).reads([*a]),
            Scalar::Binary(_, to, ab) => self.write(*to).reads(*ab),
            Scalar::Ternary(_, to, abc) => self.write(*to).reads(*abc),
            Scalar::Insert(to, abcd) => self.write(*to).reads(*abcd),
            Scalar::WideUnary(_, to, a) => self.write(*to).reads([*a]),
            Scalar::WideBinary(_, to, ab) => self.write(*to).reads(*ab),
            Scalar::WideMad(to, abc) => self.write(*to).reads(*abc),
            Scalar::WideShiftLeft(to, a, by)
            | Scalar::WideShiftRight(to, a, by)
            | Scalar::WideShiftRightSigned(to, a, by) => self.write(*to).read(*a).reads([*by]),
            Scalar::WideExtract(_, to, a, at) => self.write(*to).read(*a).reads(*at),
            Scalar::WideInsert(to, ab, at) => {
                self.write(*to).reads(*ab);
                self.reads(*at);
            }
            Scalar::Narrow(_, to, a) => self.write(*to).reads([*a]),
            Scalar::Widen(_, _, to, a) => self.write(*to).reads([*a]),
            Scalar::MulWide(_, to, ab) => self.write(*to).reads(*ab),
            Scalar::MadWide(_, to, ab, c) => self.write(*to).read(*c).reads(*ab),
            Scalar::FloatUnary(_, _, to, a) => self.write(*to).reads([*a]),
            Scalar::FloatBinary(_, _, to, ab) => self.write(*to).reads(*ab),
            Scalar::FloatFused(_, to, abc) => self.write(*to).reads(*abc),
            Scalar::Double(_, to, abc) => self.write(*to).reads(*abc),
            Scalar::Half(_, to, abc) => self.write(*to).reads(*abc),
            Scalar::Convert(_, to, a) => self.write(*to).reads([*a]),
            Scalar::ConvertPair(_, to, ab) => self.write(*to).reads(*ab),
            Scalar::SetPredicate(set) => self.set_predicate(set),
            Scalar::Set(set) => self.compare(&set.compare, set.combine.map(|(_, guard)| guard)).writes([set.to]),
            Scalar::Logic(_, to, ab) => self.write(*to).reads(*ab),
            Scalar::Within(to, a, ..) | Scalar::WithinGlobal(to, a) => self.write(*to).reads([*a]),
            Scalar::Predicate(..) | Scalar::Select(..) | Scalar::SelectWide(..) => {}
            Scalar::PackWords(..) | Scalar::Pack(..) | Scalar::Unpack(..) => {}
        }
    }
}
