//! Vector clocks: who is known to have finished what (happens-before of PTX ISA 8.9, between the warps of a CTA).
//!
//! Each warp counts its own synchronisations. An access is stamped with the count of the warp that made it; another
//! warp may touch the same bytes only if it has learned, through a barrier or a release that it acquired, of a later
//! count. Within a warp, lanes are ordered by the warp's own count, which `bar.warp.sync` moves on too.

/// Warps of a CTA at most.
pub const MAX_WARPS: usize = 32;

/// For every warp of a CTA the count up to which its accesses are known to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    known: [u32; MAX_WARPS],
}

impl Clocks {
    /// Nothing is known after `base`; counts of earlier CTAs lie below it.
    pub fn new(base: u32) -> Self {
        Self { known: [base; MAX_WARPS] }
    }

    /// Count up to which `warp` is known to be done.
    #[inline]
    pub fn of(&self, warp: usize) -> u32 {
        self.known[warp % MAX_WARPS]
    }

    /// A warp's own synchronisation: what it does from here on is later than what it did.
    pub fn tick(&mut self, warp: usize) {
        self.known[warp % MAX_WARPS] += 1;
    }

    /// The same with another count for one warp.
    pub fn with(&self, warp: usize, count: u32) -> Self {
        let mut other = self.clone();
        other.known[warp % MAX_WARPS] = count;
        other
    }

    /// Learns all that another clock knows.
    pub fn join(&mut self, other: &Self) {
        self.known.iter_mut().zip(&other.known).for_each(|(own, other)| *own = (*own).max(*other));
    }

    /// The counts as such.
    pub fn counts(&self) -> &[u32; MAX_WARPS] {
        &self.known
    }

    /// The latest count of all.
    pub fn latest(&self) -> u32 {
        self.known.iter().copied().max().unwrap_or(0)
    }
}

/// Who made an access: warp, lane and the warp's count, with the instruction; or, of what the async proxy did by itself, an
/// [agent](Agent) and its count. One word, so that shadow memory is dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
pub struct Stamp(u64);

impl Stamp {
    /// Bits 0-4 lane, 5-9 warp, 10 strong, 11 strong between CTAs, 12-32 instruction, 33 unset, 34-63 count.
    pub fn new(clock: u32, warp: usize, lane: usize, strong: bool, pc: usize) -> Self {
        let pc = (pc as u64).min(0x1f_ffff);
        Self(u64::from(clock) << 34 | pc << 12 | u64::from(strong) << 10 | (warp as u64 & 31) << 5 | lane as u64 & 31)
    }

    /// Bits 0-15 agent, 16-32 instruction, 33 set, 34-63 count.
    pub fn of_agent(Agent(agent): Agent, count: u32, pc: usize) -> Self {
        Self(u64::from(count) << 34 | ASYNCHRONOUS | (pc as u64).min(0x1_ffff) << 16 | u64::from(agent))
    }

    /// Who in the async proxy made the access; none if a thread did.
    #[inline]
    pub fn agent(self) -> Option<Agent> {
        (self.0 & ASYNCHRONOUS != 0).then_some(Agent(self.0 as u16))
    }

    /// Whether it may not be ordered before one whose floor this is.
    #[inline]
    pub fn above(self, floor: u32) -> bool {
        self.clock() > floor || self.0 & ASYNCHRONOUS != 0
    }

    /// The same by another lane.
    #[inline]
    pub fn with_lane(self, lane: usize) -> Self {
        Self(self.0 & !31 | lane as u64 & 31)
    }

    /// The same with a scope that takes in other CTAs, or without.
    #[inline]
    pub fn with_wide(self, wide: bool) -> Self {
        Self(self.0 & !(1 << 11) | u64::from(wide) << 11)
    }

    /// The warp's count.
    #[inline]
    pub fn clock(self) -> u32 {
        (self.0 >> 34) as u32
    }

    /// The warp.
    #[inline]
    pub fn warp(self) -> usize {
        (self.0 >> 5 & 31) as usize
    }

    /// The lane.
    #[inline]
    pub fn lane(self) -> usize {
        (self.0 & 31) as usize
    }

    /// Warp and lane.
    pub fn party(self) -> (usize, usize) {
        (self.warp(), self.lane())
    }

    /// Whether the access is atomic, volatile or otherwise strong (8.4): two such accesses do not race.
    #[inline]
    pub fn strong(self) -> bool {
        self.0 & (ASYNCHRONOUS | 1 << 10) == 1 << 10
    }

    /// Whether it is strong at a scope that takes in other CTAs.
    #[inline]
    pub fn wide(self) -> bool {
        self.0 & (ASYNCHRONOUS | 1 << 11) == 1 << 11
    }

    /// Index of the instruction.
    pub fn pc(self) -> usize {
        match self.agent() {
            Some(_) => (self.0 >> 16 & 0x1_ffff) as usize,
            None => (self.0 >> 12 & 0x1f_ffff) as usize,
        }
    }
}

/// Marks the stamps of agents.
const ASYNCHRONOUS: u64 = 1 << 33;

/// Who accesses memory in the async proxy (8.3) and when that is complete: the copies into shared memory that one mbarrier
/// counts, phase by phase; the bulk groups of one thread; the matrix products of one warpgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Agent(u16);

const THREADS: u16 = 0x8000;
const WARPGROUPS: u16 = 0x8400;

impl Agent {
    /// The copies that an mbarrier at this offset of shared memory counts.
    pub fn of_mbarrier(offset: usize) -> Self {
        Self((offset / 8) as u16 & (THREADS - 1))
    }

    /// The bulk groups of a thread.
    pub fn of_thread(warp: usize, lane: usize) -> Self {
        Self(THREADS | (warp as u16 & 31) << 5 | lane as u16 & 31)
    }

    /// The matrix products of a warpgroup.
    pub fn of_warpgroup(number: usize) -> Self {
        Self(WARPGROUPS | number as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_gives_back_what_it_was_made_of() {
        let stamp = Stamp::new((1 << 30) - 1, 31, 17, true, 123_456);
        assert_eq!((stamp.clock(), stamp.warp(), stamp.lane()), ((1 << 30) - 1, 31, 17));
        assert!(stamp.with_wide(true).wide() && !stamp.wide() && stamp.with_wide(true).pc() == 123_456);
        assert!(stamp.strong() && stamp.pc() == 123_456 && stamp.with_lane(3).lane() == 3 && stamp.agent().is_none());
        for agent in [Agent::of_mbarrier(232_440), Agent::of_thread(31, 30), Agent::of_warpgroup(7)] {
            let stamp = Stamp::of_agent(agent, 77, 99_999);
            assert_eq!((stamp.agent(), stamp.clock(), stamp.pc()), (Some(agent), 77, 99_999));
            assert!(!stamp.strong() && !stamp.wide() && stamp.above(1000));
        }
    }

    #[test]
    fn joining_learns_the_later_count_of_each() {
        let (mut one, mut other) = (Clocks::new(5), Clocks::new(5));
        one.tick(0);
        other.tick(1);
        one.join(&other);
        assert_eq!((one.of(0), one.of(1), one.of(2), one.latest()), (6, 6, 5, 6));
    }
}
