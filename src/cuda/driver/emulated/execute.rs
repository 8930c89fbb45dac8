//! The interpreter's loop: one warp runs until it ends, waits, or has spun for long.

use super::access::Access;
use super::checks::Checks;
use super::counters::Class;
use super::function::Touch;
use super::instr::{Clock, Function, Guard, Op, Order, Scope, Space};
use super::registers::LANES;
use super::report::{Check, Finding, Outcome};
use super::scalar;
use super::schedule::{Block, Grid};
use super::warp::{Fragment, Pick, State, Warp};

/// Nanoseconds that one instruction is taken to last, for the timers.
const NANOSECONDS: u64 = 1;

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All lanes have exited.
    Done,
    /// No lane can go on by itself.
    Blocked,
    /// It could go on.
    Yielded,
}

/// What an instruction leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The fragment goes on with the next instruction.
    Next,
    /// The fragments have changed.
    Changed,
    /// The fragment goes on with the next instruction, after others.
    Yield,
    /// The fragment comes back to this instruction, after others.
    Again,
    /// The fragment goes on with the next instruction, after the CTA's barriers have been settled.
    Pause,
}

/// One warp at work, with its CTA and the launch.
pub struct Context<'a, 'g> {
    /// The launch.
    pub grid: &'a mut Grid<'g>,
    /// The CTA.
    pub block: &'a mut Block,
    /// The warp.
    pub warp: &'a mut Warp,
}

/// The lanes of a mask.
#[inline]
pub(super) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}

impl Context<'_, '_> {
    #[inline]
    pub(super) fn checks(&self) -> &Checks {
        &self.grid.options.checks
    }

    /// Lanes of `mask` in which a guard lets an instruction run.
    #[inline]
    pub(super) fn guarded(&self, guard: Guard, mask: u32) -> u32 {
        let holds = self.warp.registers.predicate(guard.predicate);
        mask & if guard.negated { !holds } else { holds }
    }

    /// Runs the warp until it stops.
    pub fn run(&mut self) -> Outcome<Stop> {
        let mut budget = self.warp.slice;
        loop {
            match self.warp.pick() {
                Pick::Run(index, limit) => {
                    if !self.run_fragment(index, limit, &mut budget)? {
                        return Ok(Stop::Yielded);
                    }
                }
                Pick::Tired => return Ok(Stop::Yielded),
                Pick::Blocked if self.warp.live == 0 => return Ok(Stop::Done),
                Pick::Blocked => return Ok(Stop::Blocked),
            }
        }
    }

    /// Runs a fragment until the fragments change or it meets another one; false if the warp has spun for long.
    fn run_fragment(&mut self, index: usize, limit: usize, budget: &mut u32) -> Outcome<bool> {
        let function: &Function = self.grid.function;
        let Fragment { mut pc, mask, .. } = self.warp.fragments[index];
        let alone = self.warp.fragments.len() == 1;
        let watches = self.watches(function);
        loop {
            let instr = function.code.get(pc).ok_or_else(|| without_end(mask))?;
            self.warp.pc = pc;
            self.grid.tick(self.block, self.warp, mask)?;
            let active = instr.guard.map_or(mask, |guard| self.guarded(guard, mask));
            if watches != [false; 2] {
                self.follow_registers(watches, mask, active)?;
            }
            match &instr.op {
                Op::Scalar(scalar) => {
                    self.scalar(scalar, active);
                    pc += 1;
                }
                Op::Branch(target) => {
                    self.grid.count(Class::Control);
                    let target = *target as usize;
                    let back = active != 0 && target <= pc;
                    if back {
                        self.warp.last_loop = Some((target, pc));
                    }
                    if active != mask && active != 0 {
                        self.diverge(index, target, active);
                        return Ok(true);
                    }
                    pc = if active == 0 { pc + 1 } else { target };
                    if back {
                        self.warp.fragments[index].pc = pc;
                        *budget = budget.saturating_sub(1);
                        if *budget == 0 || !alone {
                            self.warp.fragments[index].spin(false);
                            return Ok(*budget != 0);
                        }
                    }
                }
                _ if active == 0 => pc += 1,
                op => match self.step(op, index, active)? {
                    Flow::Next => pc += 1,
                    Flow::Changed => return Ok(true),
                    Flow::Pause => {
                        self.warp.fragments[index].pc = pc + 1;
                        return Ok(false);
                    }
                    flow @ (Flow::Yield | Flow::Again) => {
                        self.warp.fragments[index].pc = pc + usize::from(flow == Flow::Yield);
                        self.warp.fragments[index].spin(true);
                        return Ok(true);
                    }
                },
            }
            if pc >= limit {
                self.warp.fragments[index].pc = pc;
                return Ok(true);
            }
        }
    }

    #[inline(always)]
    fn scalar(&mut self, scalar: &scalar::Scalar, active: u32) {
        if active != 0 {
            self.grid.count(scalar.class().into());
            self.grid.counters.flops += scalar.flops() * u64::from(active.count_ones());
            scalar::execute(scalar, &mut self.warp.registers, active);
        }
    }

    /// Whether registers that may not have been written are followed, and those of products.
    fn watches(&self, function: &Function) -> [bool; 2] {
        let Checks { registers, products, .. } = *self.checks();
        [registers && !function.watched.names.is_empty(), products && !function.products.names.is_empty()]
    }

    /// Follows registers that may not have been written, and those of products, as far as these are watched.
    fn follow_registers(&mut self, [written, products]: [bool; 2], mask: u32, active: u32) -> Outcome {
        let (function, pc): (&Function, usize) = (self.grid.function, self.warp.pc);
        if written && let Some(touch) = &function.watched.touches[pc] {
            self.follow(touch, mask, active)?;
        }
        let product = matches!(function.code[pc].op, Op::Wgmma(_));
        match &function.products.touches.get(pc) {
            Some(Some(touch)) if products && active != 0 && !product => self.follow_products(touch),
            _ => Ok(()),
        }
    }

    /// Reports uses of registers by lanes that have not written them, and notes what the instruction writes.
    fn follow(&mut self, touch: &Touch, mask: u32, active: u32) -> Outcome {
        let written = &mut self.warp.written;
        let guards = touch.guard.into_iter().map(|slot| (slot, mask));
        for (slot, users) in guards.chain(touch.reads.iter().map(|slot| (*slot, active))) {
            let without = users & !written[slot as usize];
            if without != 0 {
                let name = &self.grid.function.watched.names[slot as usize];
                let text = format!("`{name}` is used, which this thread has not written");
                return Err(Finding::new(Check::Register, without.trailing_zeros() as usize, text));
            }
        }
        let carried = touch.carries.iter().fold(0, |all, slot| all | written[*slot as usize]);
        let carried = if touch.carries.is_empty() { active } else { carried & active };
        // With an offer it is not known yet which lanes take it, and when.
        for slot in touch.writes.iter().filter(|_| touch.offers.is_none()) {
            let lanes = &mut written[*slot as usize];
            *lanes = *lanes & !active | carried;
        }
        Ok(())
    }

    /// Reports a register that a lane takes from another one which has not written it.
    pub(super) fn take_offers(&mut self, from: &[usize; LANES], takers: u32) -> Outcome {
        let function: &Function = self.grid.function;
        let Some(Some(touch)) = function.watched.touches.get(self.warp.pc) else { return Ok(()) };
        let Some(slot) = touch.offers.filter(|_| self.checks().registers) else { return Ok(()) };
        let written = self.warp.written[slot as usize];
        if let Some(lane) = lanes(takers).find(|lane| written >> from[*lane] & 1 == 0) {
            let name = &function.watched.names[slot as usize];
            let text = format!("`{name}` is taken from lane {}, which has not written it", from[lane]);
            return Err(Finding::new(Check::Register, lane, text));
        }
        touch.writes.iter().for_each(|slot| self.warp.written[*slot as usize] |= takers);
        Ok(())
    }

    /// Some lanes of a fragment branch, the others go on.
    fn diverge(&mut self, index: usize, target: usize, active: u32) {
        let fragment = &mut self.warp.fragments[index];
        fragment.mask &= !active;
        fragment.pc = self.warp.pc + 1;
        self.warp.fragments.push(Fragment::new(target, active, State::Ready));
    }

    fn step(&mut self, op: &Op, index: usize, active: u32) -> Outcome<Flow> {
        self.grid.count(class(op));
        match op {
            Op::Load(load) => self.load(load, active)?,
            Op::Store(store) => self.store(store, active)?,
            Op::Atomic(atomic) => self.atomic(atomic, active)?,
            Op::CpAsync(copy) => self.copy_async(copy, active)?,
            Op::CpAsyncCommit => self.warp.copies.commit(active),
            Op::CpAsyncWait(youngest) => self.wait_copies(active, *youngest)?,
            Op::CpAsyncWaitAll => {
                self.warp.copies.commit(active);
                self.wait_copies(active, 0)?;
            }
            Op::Mbarrier(mbarrier) => {
                self.mbarrier(mbarrier, active)?;
                if mbarrier.suspends && self.waits_in_vain(mbarrier.op, active) {
                    return Ok(Flow::Yield);
                }
            }
            Op::Fence(order) => self.fence(*order, active),
            Op::Bulk(bulk) => self.bulk(bulk, active)?,
            Op::BulkTensor(copy) => self.bulk_tensor(copy, active)?,
            Op::BulkCommit => self.warp.stores.commit(active),
            Op::BulkWait(youngest) => self.wait_stores(active, *youngest)?,
            Op::FenceProxy => self.warp.fence_proxy(self.block.serial, active),
            Op::FenceMbarriers => self.fence_mbarriers(active),
            Op::Prefetch(..) => {}
            Op::Discard(space, address) => self.discard(*space, address, active)?,
            Op::ReadClock(to, clock) => self.read_clock(*to, *clock, active),
            Op::Yield => return Ok(Flow::Yield),
            Op::Trap => return Err(Finding::new(Check::Trap, active.trailing_zeros() as usize, "the kernel traps")),
            Op::Exit => {
                self.leave_copies(active)?;
                self.leave_products(active)?;
                self.block.live -= active.count_ones();
                self.warp.fragments[index].pc = self.warp.pc + 1;
                self.warp.exit(index, active);
                return Ok(Flow::Changed);
            }
            Op::BranchIndexed(selector, targets) => return self.branch_indexed(*selector, targets, index, active),
            Op::Barrier(barrier) => return self.barrier(barrier, index, active),
            Op::WarpSync(members) => return self.warp_sync(*members, index, active),
            Op::ActiveMask(to) => {
                let row = self.warp.registers.word_mut(*to);
                lanes(active).for_each(|lane| row[lane] = active);
            }
            op => return self.together(op, index, active),
        }
        Ok(Flow::Next)
    }

    fn branch_indexed(&mut self, by: super::registers::Word, to: &[u32], index: usize, active: u32) -> Outcome<Flow> {
        let row = *self.warp.registers.word(by);
        for lane in lanes(active) {
            let Some(target) = to.get(row[lane] as usize) else {
                let text = format!("branch to entry {} of {}", row[lane], to.len());
                return Err(Finding::new(Check::Bounds, lane, text));
            };
            self.warp.fragments.push(Fragment::new(*target as usize, 1 << lane, State::Ready));
        }
        self.warp.fragments[index].mask &= !active;
        self.warp.fragments[index].pc = self.warp.pc + 1;
        self.warp.fragments.retain(|fragment| fragment.mask != 0);
        Ok(Flow::Changed)
    }

    /// `fence`, `membar` (9.7.13.4): makes what was seen hold, or releases what was done, or both.
    fn fence(&mut self, order: Order, active: u32) {
        let scope = scope_of(order).unwrap_or(Scope::System);
        if !matches!(order, Order::Release(_)) {
            self.warp.acquire(active, is_wide(scope));
        }
        if !matches!(order, Order::Acquire(_)) {
            self.release(scope, active);
        }
    }

    /// `fence.mbarrier_init` (9.7.13.4).
    fn fence_mbarriers(&mut self, active: u32) {
        self.block.mbarriers.show(active, self.warp.stamp(false));
        self.warp.clocks.tick(self.warp.index);
        self.warp.settle_floor();
    }

    fn discard(&mut self, space: Space, address: &super::instr::Address, active: u32) -> Outcome {
        const LINE: usize = 128;
        let addresses = self.addresses(address);
        for lane in lanes(active) {
            let at = addresses[lane];
            if self.checks().alignment && !at.is_multiple_of(LINE as u64) {
                return Err(self.misaligned(space, at, Access::weak("discard", LINE), lane));
            }
            match self.grid.memory.spot(at, LINE) {
                Some(spot) => {
                    let segment = self.grid.memory.segment_mut(spot.segment);
                    segment.into_iter().for_each(|segment| segment.forget(spot.offset, LINE));
                }
                None if self.checks().bounds => {
                    return Err(self.grid.memory.outside(at, LINE, &format!("discard in {space:?} memory"), lane));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn read_clock(&mut self, to: super::registers::Register, clock: Clock, active: u32) {
        let now = match clock {
            Clock::Cycles => self.grid.steps,
            Clock::CyclesHigh => self.grid.steps >> 32,
            Clock::Nanoseconds => self.grid.steps * NANOSECONDS,
        };
        lanes(active).for_each(|lane| self.warp.registers.set_lane(to, lane, now));
    }
}

/// Whether a scope takes in other CTAs. A cluster is one CTA: launches have no others.
pub(super) fn is_wide(scope: Scope) -> bool {
    matches!(scope, Scope::Gpu | Scope::System)
}

/// The scope of an order that has one.
pub(super) fn scope_of(order: Order) -> Option<Scope> {
    match order {
        Order::Weak => None,
        Order::Volatile => Some(Scope::System),
        Order::Relaxed(scope) | Order::Acquire(scope) | Order::Release(scope) | Order::AcquireRelease(scope) => {
            Some(scope)
        }
    }
}

fn class(op: &Op) -> Class {
    match op {
        Op::Scalar(scalar) => scalar.class().into(),
        Op::Load(load) => class_of(load.space),
        Op::Store(store) => class_of(store.space),
        Op::Discard(..) => Class::Global,
        Op::LoadMatrix(_) | Op::StoreMatrix(_) => Class::Shared,
        Op::Atomic(_) => Class::Atomic,
        Op::Branch(_) | Op::BranchIndexed(..) | Op::Exit | Op::Trap => Class::Control,
        Op::Barrier(_) | Op::WarpSync(_) | Op::Fence(_) | Op::Mbarrier(_) => Class::Synchronization,
        Op::CpAsyncCommit | Op::CpAsyncWait(_) | Op::CpAsyncWaitAll => Class::Synchronization,
        Op::BulkCommit | Op::BulkWait(_) | Op::FenceProxy | Op::FenceMbarriers => Class::Synchronization,
        Op::WgmmaFence | Op::WgmmaCommit | Op::WgmmaWait(_) => Class::Synchronization,
        Op::Shuffle(_) | Op::Vote(..) | Op::MatchAny(..) | Op::MatchAll(..) => Class::Collective,
        Op::Redux(..) | Op::Elect(..) | Op::ActiveMask(_) => Class::Collective,
        Op::CpAsync(_) | Op::Bulk(_) | Op::BulkTensor(_) => Class::Copy,
        Op::Mma(_) | Op::Wgmma(_) => Class::Matrix,
        Op::SetRegisters(_) | Op::Yield | Op::Prefetch(..) | Op::ReadClock(..) => Class::Other,
    }
}

fn class_of(space: Space) -> Class {
    match space {
        Space::Generic | Space::Global | Space::Const => Class::Global,
        Space::Shared => Class::Shared,
        Space::Local | Space::Param => Class::Private,
    }
}

#[cold]
fn without_end(mask: u32) -> Box<Finding> {
    Finding::new(Check::Trap, lanes(mask).next(), "the code ends here without `ret` or `exit`")
}
