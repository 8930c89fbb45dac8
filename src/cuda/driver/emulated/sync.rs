//! CTA barriers (PTX ISA 9.7.13.1): arrivals, reductions, completion and misuse.

use std::rc::Rc;

use super::clocks::Clocks;
use super::execute::{Context, Flow, lanes};
use super::instr::{Barrier, BarrierKind, Guard};
use super::order::Knowledge;
use super::registers::Registers;
use super::report::{Check, Finding, Outcome};
use super::warp::{Fragment, State, Warp};

/// Barriers of a CTA.
pub const BARRIERS: usize = 16;

/// What lanes wait for at a barrier, and what they get from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Number of the barrier.
    pub id: usize,
    /// What the instruction asks for.
    pub kind: BarrierKind,
}

/// One barrier, between two completions.
#[derive(Clone, Debug, Default)]
pub struct BarrierState {
    arrived: u32,
    /// Threads it waits for; all of the CTA if none. Unset before the first arrival.
    expected: Option<Option<u32>>,
    /// Whether arrivals bring predicates.
    reduces: Option<bool>,
    /// Warps that arrived as a whole.
    warps: u32,
    clocks: Option<Clocks>,
    learned: Rc<Knowledge>,
    /// Threads whose predicate holds, and those whose does not.
    holds: u32,
    fails: u32,
}

impl BarrierState {
    /// Whether anybody has arrived.
    pub fn is_begun(&self) -> bool {
        self.arrived > 0
    }

    /// For reports: how many threads have arrived and how many must.
    pub fn progress(&self, live: u32) -> (u32, u32) {
        (self.arrived, self.expected.flatten().unwrap_or(live))
    }

    fn is_complete(&self, live: u32) -> bool {
        let (arrived, needed) = self.progress(live);
        self.is_begun() && arrived >= needed
    }
}

fn holding(registers: &Registers, guard: Guard) -> u32 {
    let holds = registers.predicate(guard.predicate);
    if guard.negated { !holds } else { holds }
}

impl Context<'_, '_> {
    /// A barrier instruction. The fragment waits unless the instruction only arrives; then it pauses where that completes
    /// the barrier, so that those who wait are let go before anybody arrives again.
    pub(super) fn barrier(&mut self, barrier: &Barrier, index: usize, active: u32) -> Outcome<Flow> {
        let live = self.warp.live;
        if barrier.aligned && self.checks().barriers && active != live {
            self.warp.assemble(index, active, 0);
            return Ok(Flow::Changed);
        }
        let id = self.uniform(self.warp.registers.word(barrier.id), active, "barrier number")?;
        let count = match barrier.threads {
            Some(word) => Some(self.uniform(self.warp.registers.word(word), active, "thread count")?),
            None => None,
        };
        let id = self.check_barrier(id, count, barrier.kind, active)?;
        // A warp counts as 32 threads where threads are counted in warps.
        let arriving = if barrier.aligned && count.is_some() { 32 } else { active.count_ones() };
        let live = self.block.live;
        let (warp, state) = (&mut *self.warp, &mut self.block.barriers[id]);
        state.warps |= u32::from(barrier.aligned) << warp.index;
        state.arrived += arriving;
        state.expected.get_or_insert(count);
        state.reduces.get_or_insert(!matches!(barrier.kind, BarrierKind::Sync | BarrierKind::Arrive));
        warp.learning.tell(active, &mut state.learned);
        match &mut state.clocks {
            Some(clocks) => clocks.join(&warp.clocks),
            None => state.clocks = Some(warp.clocks.clone()),
        }
        if let BarrierKind::CountTrue(_, guard) | BarrierKind::All(_, guard) | BarrierKind::Any(_, guard) = barrier.kind
        {
            let holds = (holding(&warp.registers, guard) & active).count_ones();
            state.holds += holds;
            state.fails += active.count_ones() - holds;
        }
        self.block.begun |= 1 << id;
        if barrier.kind == BarrierKind::Arrive {
            warp.clocks.tick(warp.index);
            warp.settle_floor();
            return Ok(if state.is_complete(live) { Flow::Pause } else { Flow::Next });
        }
        let waits = State::Barrier(Waiting { id, kind: barrier.kind });
        let fragment = &mut warp.fragments[index];
        fragment.mask &= !active;
        fragment.pc = warp.pc + 1;
        if fragment.mask == 0 {
            warp.fragments.swap_remove(index);
        }
        warp.fragments.push(Fragment::new(warp.pc + 1, active, waits));
        Ok(Flow::Changed)
    }

    fn uniform(&self, row: &[u32; 32], active: u32, what: &str) -> Outcome<u32> {
        let first = row[active.trailing_zeros() as usize % 32];
        match (0..32).find(|lane| active >> lane & 1 == 1 && row[*lane] != first) {
            Some(lane) => {
                Err(Finding::new(Check::Barrier, lane, format!("{what} {first} in one lane, {} here", row[lane])))
            }
            None => Ok(first),
        }
    }

    fn check_barrier(&self, id: u32, count: Option<u32>, kind: BarrierKind, active: u32) -> Outcome<usize> {
        let fault = |text: String| {
            Err(Finding::new(Check::Barrier, lanes(active).next(), format!("{text} (lanes {active:#010x} are here)")))
        };
        let at = id as usize;
        let Some(state) = self.block.barriers.get(at) else {
            return fault(format!("barrier {id}; there are barriers 0 to {}", BARRIERS - 1));
        };
        if !self.checks().barriers {
            return Ok(at);
        }
        if state.warps >> self.warp.index & 1 == 1 {
            return fault(format!("barrier {id}: this warp has arrived already and the others have not"));
        }
        let threads = self.grid.shape.threads.next_multiple_of(32) as u32;
        if let Some(count) = count
            && (count == 0 || count % 32 != 0 || count > threads)
        {
            return fault(format!("barrier {id} for {count} threads; it takes whole warps, up to {threads} threads"));
        }
        let reduces = !matches!(kind, BarrierKind::Sync | BarrierKind::Arrive);
        match (state.expected, state.reduces) {
            (Some(expected), _) if expected != count => {
                let text = |count: Option<u32>| count.map_or("all".to_owned(), |count| count.to_string());
                fault(format!("barrier {id} for {} threads, but others arrived for {}", text(count), text(expected)))
            }
            (_, Some(other)) if other != reduces => {
                fault(format!("barrier {id}: some threads reduce a predicate, others do not"))
            }
            _ => Ok(at),
        }
    }
}

/// Completes the barriers of a CTA that all have reached; says whether there was one.
pub(super) fn settle(barriers: &mut [BarrierState; BARRIERS], begun: &mut u32, live: u32, warps: &mut [Warp]) -> bool {
    let mut any = false;
    for id in (0..BARRIERS).filter(|id| *begun >> id & 1 == 1).collect::<Vec<_>>() {
        if !barriers[id].is_complete(live) {
            continue;
        }
        any = true;
        *begun &= !(1 << id);
        let done = std::mem::take(&mut barriers[id]);
        warps.iter_mut().for_each(|warp| release(warp, id, &done));
    }
    any
}

fn release(warp: &mut Warp, id: usize, done: &BarrierState) {
    let mut passes = false;
    for index in 0..warp.fragments.len() {
        let fragment = warp.fragments[index];
        let State::Barrier(waiting) = fragment.state else { continue };
        if waiting.id != id {
            continue;
        }
        passes = true;
        warp.fragments[index].state = State::Ready;
        let registers = &mut warp.registers;
        let all = |holds: bool| if holds { u32::MAX } else { 0 };
        match waiting.kind {
            BarrierKind::Sync | BarrierKind::Arrive => {}
            BarrierKind::CountTrue(to, _) => {
                let row = registers.word_mut(to);
                (0..32).filter(|lane| fragment.mask >> lane & 1 == 1).for_each(|lane| row[lane] = done.holds);
            }
            BarrierKind::All(to, _) => registers.set_predicate(to, all(done.fails == 0), fragment.mask),
            BarrierKind::Any(to, _) => registers.set_predicate(to, all(done.holds > 0), fragment.mask),
        }
    }
    if passes {
        if let Some(clocks) = &done.clocks {
            warp.clocks.join(clocks);
        }
        warp.learning.learn(&done.learned);
        warp.synchronize();
    }
}
