//! Instructions of several lanes together: shuffles, votes, matches, reductions (PTX ISA 9.7.9.6, 9.7.13).
//!
//! They order no memory: only `bar.warp.sync` and barriers do.

use super::execute::{Context, Flow, lanes};
use super::instr::{Op, ReduxOp, Shuffle, ShuffleMode, VoteKind};
use super::registers::{LANES, Row, Word};
use super::report::{Check, Finding, Outcome};
use super::warp::{Fragment, State};
use crate::base::Rng;

impl Context<'_, '_> {
    /// Executes an instruction for which lanes must be together, once they are.
    pub(super) fn together(&mut self, op: &Op, index: usize, active: u32) -> Outcome<Flow> {
        let ready = match op {
            Op::Shuffle(shuffle) => self.ready(shuffle.members, active)?,
            Op::Vote(_, _, members)
            | Op::MatchAny(_, _, members)
            | Op::MatchAll(_, _, _, members)
            | Op::Redux(_, _, _, members)
            | Op::Elect(_, _, members) => self.ready(*members, active)?,
            _ => self.ready_warp(active)?,
        };
        let together = self.warp.assemble(index, active, ready);
        match op {
            _ if ready == 0 => {}
            Op::WgmmaWait(youngest) => {
                if self.wait_products(*youngest)? == Flow::Again {
                    return Ok(Flow::Again);
                }
            }
            op => self.act(op, ready)?,
        }
        Ok(if together { Flow::Next } else { Flow::Changed })
    }

    fn act(&mut self, op: &Op, lanes: u32) -> Outcome {
        match op {
            Op::Shuffle(shuffle) => self.shuffle(shuffle, lanes)?,
            Op::Vote(kind, guard, members) => {
                let holds = self.guarded(*guard, lanes);
                self.groups(*members, lanes).into_iter().for_each(|group| self.vote(*kind, holds, group));
            }
            Op::MatchAny(to, value, members) => {
                let values: [u64; LANES] = std::array::from_fn(|lane| self.warp.registers.lane(*value, lane));
                for group in self.groups(*members, lanes) {
                    let row = self.warp.registers.word_mut(*to);
                    set(row, group, |lane| same(&values, group, values[lane]));
                }
            }
            Op::MatchAll(to, whether, value, members) => {
                let values: [u64; LANES] = std::array::from_fn(|lane| self.warp.registers.lane(*value, lane));
                for group in self.groups(*members, lanes) {
                    let all = same(&values, group, values[group.trailing_zeros() as usize % LANES]) == group;
                    set(self.warp.registers.word_mut(*to), group, |_| if all { group } else { 0 });
                    if let Some(whether) = whether {
                        self.warp.registers.set_predicate(*whether, if all { u32::MAX } else { 0 }, group);
                    }
                }
            }
            Op::Redux(op, to, value, members) => {
                for group in self.groups(*members, lanes) {
                    let sum = reduce(*op, self.warp.registers.word(*value), group);
                    set(self.warp.registers.word_mut(*to), group, |_| sum);
                }
            }
            Op::Elect(to, whether, members) => {
                for group in self.groups(*members, lanes) {
                    let leader = self.leader(group);
                    if let Some(to) = to {
                        set(self.warp.registers.word_mut(*to), group, |_| leader);
                    }
                    self.warp.registers.set_predicate(*whether, 1 << leader, group);
                }
            }
            Op::LoadMatrix(matrices) => self.load_matrix(matrices)?,
            Op::StoreMatrix(matrices) => self.store_matrix(matrices)?,
            Op::Mma(mma) => self.mma(mma),
            Op::Wgmma(wgmma) => self.wgmma(wgmma)?,
            Op::WgmmaFence => self.warp.products.fence(),
            Op::WgmmaCommit => self.warp.products.commit(),
            Op::SetRegisters(count) => self.set_registers(*count)?,
            _ => {}
        }
        Ok(())
    }

    /// The lanes of `active` whose members are all here, leaving out lanes that have exited.
    fn ready(&self, members: Word, active: u32) -> Outcome<u32> {
        let row = self.warp.registers.word(members);
        if !self.checks().collectives || active == u32::MAX && row.iter().all(|members| *members == u32::MAX) {
            return Ok(active);
        }
        let mut ready = 0;
        for lane in lanes(active) {
            let named = row[lane];
            if named >> lane & 1 == 0 {
                let text = format!("the lane executes this with members {named:#010x}, which do not name it");
                return Err(Finding::new(Check::Collective, lane, text));
            }
            if named & self.warp.live & !active != 0 {
                continue;
            }
            if let Some(other) = lanes(named & active).find(|other| row[*other] != named) {
                let text = format!("members {named:#010x} here, {:#010x} in lane {other}", row[other]);
                return Err(Finding::new(Check::Collective, lane, text));
            }
            ready |= 1 << lane;
        }
        Ok(ready)
    }

    /// For instructions of whole warps (`.aligned`): all lanes if all are here, else none.
    fn ready_warp(&self, active: u32) -> Outcome<u32> {
        if active == u32::MAX || !self.checks().collectives {
            return Ok(active);
        }
        if self.warp.live != u32::MAX {
            let text = format!("needs a whole warp, but only lanes {:#010x} are there", self.warp.live);
            return Err(Finding::new(Check::Collective, active.trailing_zeros() as usize, text));
        }
        Ok(0)
    }

    /// Lanes by their members: each group acts on its own.
    fn groups(&self, members: Word, mut ready: u32) -> Vec<u32> {
        let row = self.warp.registers.word(members);
        let mut groups = Vec::with_capacity(1);
        while ready != 0 {
            let named = row[ready.trailing_zeros() as usize % LANES];
            let group = lanes(ready).filter(|lane| row[*lane] == named).fold(0, |group, lane| group | 1 << lane);
            groups.push(group);
            ready &= !group;
        }
        groups
    }

    /// `shfl.sync` (9.7.9.6).
    fn shuffle(&mut self, shuffle: &Shuffle, ready: u32) -> Outcome {
        let registers = &self.warp.registers;
        let (values, by, control) =
            (*registers.word(shuffle.value), registers.word(shuffle.lane), registers.word(shuffle.control));
        let members = registers.word(shuffle.members);
        let (mut from, mut valid) = ([0; LANES], 0u32);
        for lane in lanes(ready) {
            let (number, distance) = (lane as u32, by[lane] & 31);
            let (clamp, segment) = (control[lane] & 31, control[lane] >> 8 & 31);
            let last = number & segment | clamp & !segment;
            let (source, inside) = match shuffle.mode {
                ShuffleMode::Up => (number.wrapping_sub(distance), number as i32 - distance as i32 >= last as i32),
                ShuffleMode::Down => (number + distance, number + distance <= last),
                ShuffleMode::Butterfly => (number ^ distance, number ^ distance <= last),
                ShuffleMode::Index => {
                    let source = number & segment | distance & !segment;
                    (source, source <= last)
                }
            };
            valid |= u32::from(inside) << lane;
            from[lane] = if inside { source as usize % LANES } else { lane };
            let named = members[lane] & ready;
            if self.checks().collectives && named >> from[lane] & 1 == 0 {
                let text = format!("shuffle from lane {}, but only lanes {named:#010x} take part", from[lane]);
                return Err(Finding::new(Check::Collective, lane, text));
            }
        }
        self.take_offers(&from, ready)?;
        set(self.warp.registers.word_mut(shuffle.to), ready, |lane| values[from[lane]]);
        if let Some(to) = shuffle.valid {
            self.warp.registers.set_predicate(to, valid, ready);
        }
        Ok(())
    }

    fn vote(&mut self, kind: VoteKind, holds: u32, group: u32) {
        let holds = holds & group;
        let spread = |whether: bool| if whether { u32::MAX } else { 0 };
        let registers = &mut self.warp.registers;
        match kind {
            VoteKind::All(to) => registers.set_predicate(to, spread(holds == group), group),
            VoteKind::Any(to) => registers.set_predicate(to, spread(holds != 0), group),
            VoteKind::Uniform(to) => registers.set_predicate(to, spread(holds == group || holds == 0), group),
            VoteKind::Ballot(to) => set(registers.word_mut(to), group, |_| holds),
        }
    }

    /// The lane that `elect.sync` elects: the same one for the same members, another one for another seed.
    fn leader(&self, group: u32) -> u32 {
        let candidates: Vec<usize> = lanes(group).collect();
        let seed = self.grid.options.seed;
        let chosen = if seed == 0 { 0 } else { Rng::new(seed, 0, u64::from(group)).below(candidates.len().max(1)) };
        candidates.get(chosen).map_or(0, |lane| *lane as u32)
    }

    /// `bar.warp.sync` (9.7.13.2): orders the memory accesses of its members. It may be reached at different places.
    pub(super) fn warp_sync(&mut self, members: Word, index: usize, active: u32) -> Outcome<Flow> {
        let row = *self.warp.registers.word(members);
        let waiting = self.warp.fragments.iter().any(|fragment| matches!(fragment.state, State::WarpSync(_)));
        if active == self.warp.live && !waiting && lanes(active).all(|lane| row[lane] & active == active) {
            self.warp.synchronize();
            return Ok(Flow::Next);
        }
        let next = self.warp.pc + 1;
        if let Some(lane) = lanes(active).find(|lane| self.checks().collectives && row[*lane] >> lane & 1 == 0) {
            let text = format!("bar.warp.sync with members {:#010x}, which do not name the lane", row[lane]);
            return Err(Finding::new(Check::Collective, lane, text));
        }
        let groups = self.groups(members, active);
        self.warp.fragments[index].mask &= !active;
        self.warp.fragments[index].pc = next;
        for group in groups {
            let named = row[group.trailing_zeros() as usize % LANES];
            self.warp.fragments.push(Fragment::new(next, group, State::WarpSync(named)));
            self.warp.release_members(named);
        }
        self.warp.fragments.retain(|fragment| fragment.mask != 0);
        Ok(Flow::Changed)
    }
}

#[inline]
fn set(row: &mut Row, mask: u32, value: impl Fn(usize) -> u32) {
    lanes(mask).for_each(|lane| row[lane] = value(lane));
}

fn same(values: &[u64; LANES], group: u32, value: u64) -> u32 {
    lanes(group).filter(|lane| values[*lane] == value).fold(0, |mask, lane| mask | 1 << lane)
}

fn reduce(op: ReduxOp, row: &Row, group: u32) -> u32 {
    let values = lanes(group).map(|lane| row[lane]);
    let signed = |value: u32| value as i32;
    match op {
        ReduxOp::Add => values.fold(0, u32::wrapping_add),
        ReduxOp::MinUnsigned => values.min().unwrap_or(0),
        ReduxOp::MaxUnsigned => values.max().unwrap_or(0),
        ReduxOp::MinSigned => values.map(signed).min().unwrap_or(0) as u32,
        ReduxOp::MaxSigned => values.map(signed).max().unwrap_or(0) as u32,
        ReduxOp::And => values.fold(u32::MAX, |all, value| all & value),
        ReduxOp::Or => values.fold(0, |all, value| all | value),
        ReduxOp::Xor => values.fold(0, |all, value| all ^ value),
    }
}
