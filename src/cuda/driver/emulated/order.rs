//! Order of accesses to global memory: who wrote what in this launch, and who has learned of it.
//!
//! Between CTAs a plain write is seen only through release and acquire (PTX ISA 8.7 to 8.9): a fence, then a strong
//! write of a flag; there a strong read of the flag, then a fence. So each warp carries what it has learned of other
//! CTAs, each location that a strong write touched carries what its writer had released, and fences move the one into
//! the other. Barriers pass knowledge on within a CTA. What a fence releases of its own warp is what the lanes that execute
//! it did, and what the other lanes did before they last synchronised with them; what it acquires holds for those lanes,
//! and for the others once the warp has synchronised.
//!
//! Not followed: reads before an unordered write. A seed that runs the two in the other order makes it a read of an
//! unordered write, which is found.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::clocks::{Agent, Clocks, Stamp};

/// Who wrote each granule of a segment last, by plain or strong writes, in the launches so far.
#[derive(Debug, Default)]
pub struct Trace {
    /// Number of the CTA; CTAs are numbered through over all launches, from 1 on.
    owners: Vec<u32>,
    stamps: Vec<Stamp>,
    shift: u32,
    /// First CTA of the launch that wrote here last.
    since: u32,
}

impl Trace {
    /// Whether anything was written in the launch whose first CTA is `first`.
    #[inline]
    pub fn is_of(&self, first: u32) -> bool {
        self.since == first
    }

    /// Prepares for writes of a launch into a segment of `bytes` bytes, told apart in granules of `1 << shift` bytes.
    pub fn begin(&mut self, first: u32, bytes: usize, shift: u32) {
        if self.shift != shift || self.owners.is_empty() {
            // Zeroed memory takes up what is touched.
            let cells = (bytes >> shift) + 1;
            *self = Self { owners: vec![0; cells], stamps: bytemuck::zeroed_vec(cells), shift, since: first };
        }
        self.since = first;
    }

    #[inline]
    fn cells(&self, offset: usize, bytes: usize) -> std::ops::Range<usize> {
        offset >> self.shift..((offset + bytes - 1) >> self.shift) + 1
    }

    /// Notes a write.
    #[inline]
    pub fn note(&mut self, offset: usize, bytes: usize, owner: u32, stamp: Stamp) {
        let cells = self.cells(offset, bytes);
        if let (Some(owners), Some(stamps)) = (self.owners.get_mut(cells.clone()), self.stamps.get_mut(cells)) {
            owners.fill(owner);
            stamps.fill(stamp);
        }
    }

    /// The first earlier write of this launch to these bytes that `party` may not touch yet.
    #[inline]
    pub fn conflict(&self, offset: usize, bytes: usize, party: &Party<'_>, lane: usize) -> Option<(u32, Stamp)> {
        let cells = self.cells(offset, bytes);
        let owners = self.owners.get(cells.clone())?.iter();
        let mut pairs = owners.zip(self.stamps.get(cells)?);
        pairs.find(|(owner, stamp)| party.unordered(**owner, **stamp, lane)).map(|(owner, stamp)| (*owner, *stamp))
    }

    /// Whether any of these bytes was written in the launch whose first CTA is `first`.
    pub fn written_since(&self, offset: usize, bytes: usize, first: u32) -> Option<(u32, Stamp)> {
        let cells = self.cells(offset, bytes);
        let mut pairs = self.owners.get(cells.clone())?.iter().zip(self.stamps.get(cells)?);
        pairs.find(|(owner, _)| **owner >= first).map(|(owner, stamp)| (*owner, *stamp))
    }
}

/// Who makes an access, and what it knows.
pub struct Party<'a> {
    /// First CTA of the launch.
    pub first: u32,
    /// Its own CTA.
    pub owner: u32,
    /// Its warp.
    pub warp: usize,
    /// Whether the access is strong.
    pub strong: bool,
    /// Whether it is so at a scope that takes in other CTAs.
    pub wide: bool,
    /// Count of the warp from which on its lanes are not ordered among themselves; none if they run in step.
    pub synced: u32,
    /// What it knows of its own CTA.
    pub clocks: &'a Clocks,
    /// What it knows of others.
    pub learning: &'a Learning,
}

impl Party<'_> {
    /// Whether an earlier write may not be touched yet.
    #[inline]
    fn unordered(&self, owner: u32, stamp: Stamp, lane: usize) -> bool {
        let learned = || self.learning.covers(1 << lane, owner, stamp);
        if owner < self.first {
            false
        } else if owner != self.owner {
            !(self.wide && stamp.wide() || learned())
        } else if self.strong && stamp.strong() {
            false
        } else if stamp.warp() != self.warp {
            stamp.clock() > self.clocks.of(stamp.warp()) && !learned()
        } else {
            stamp.lane() != lane && stamp.clock() >= self.synced && !learned()
        }
    }
}

/// Accesses of a CTA's threads: those of its warps up to a count, and further ones of some lanes.
#[derive(Clone, Debug)]
struct Extent {
    clocks: Clocks,
    /// Warp and lanes whose accesses belong to it up to this count.
    lanes: BTreeMap<(usize, u32), u32>,
}

impl Default for Extent {
    fn default() -> Self {
        Self { clocks: Clocks::new(0), lanes: BTreeMap::new() }
    }
}

impl Extent {
    fn covers(&self, stamp: Stamp) -> bool {
        let of_lane = |((warp, lanes), count): (&(usize, u32), &u32)| {
            *warp == stamp.warp() && lanes >> stamp.lane() & 1 == 1 && stamp.clock() <= *count
        };
        stamp.clock() <= self.clocks.of(stamp.warp()) || self.lanes.iter().any(of_lane)
    }

    fn join(&mut self, other: &Self) {
        self.clocks.join(&other.clocks);
        for (lanes, count) in &other.lanes {
            let held = self.lanes.entry(*lanes).or_default();
            *held = (*held).max(*count);
        }
        let clocks = &self.clocks;
        self.lanes.retain(|(warp, _), count| *count > clocks.of(*warp));
    }
}

/// What is known of one CTA.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The accesses of its threads that are seen.
    seen: Extent,
    /// Those that the async proxy sees too, by `fence.proxy.async`.
    proxied: Extent,
    /// Up to where the accesses of agents are complete.
    agents: BTreeMap<Agent, u32>,
}

impl Known {
    /// All that a warp knows of its own CTA when `lanes` of it release: of the others what precedes `synced`.
    pub fn of_lanes(clocks: &Clocks, warp: usize, lanes: u32, synced: u32) -> Self {
        let now = clocks.of(warp);
        let seen =
            Extent { clocks: clocks.with(warp, now.min(synced - 1)), lanes: BTreeMap::from([((warp, lanes), now)]) };
        Self { seen, ..Self::default() }
    }

    /// What an agent did up to a count is complete.
    fn of_agent(agent: Agent, count: u32) -> Self {
        Self { agents: BTreeMap::from([(agent, count)]), ..Self::default() }
    }

    fn covers(&self, stamp: Stamp) -> bool {
        match stamp.agent() {
            Some(agent) => self.agents.get(&agent).is_some_and(|count| *count >= stamp.clock()),
            None => self.seen.covers(stamp),
        }
    }

    fn join(&mut self, other: &Self) {
        self.seen.join(&other.seen);
        self.proxied.join(&other.proxied);
        for (agent, count) in &other.agents {
            let held = self.agents.entry(*agent).or_default();
            *held = (*held).max(*count);
        }
    }

    /// That the async proxy sees what is seen, and nothing else.
    fn fenced(&self) -> Self {
        let mut proxied = self.proxied.clone();
        proxied.join(&self.seen);
        Self { proxied, ..Self::default() }
    }
}

/// What is known of CTAs.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    blocks: BTreeMap<u32, Known>,
}

impl Knowledge {
    /// Whether an access is seen.
    pub fn covers(&self, owner: u32, stamp: Stamp) -> bool {
        self.blocks.get(&owner).is_some_and(|known| known.covers(stamp))
    }

    /// Whether the async proxy sees an access of a thread.
    fn proxies(&self, owner: u32, stamp: Stamp) -> bool {
        self.blocks.get(&owner).is_some_and(|known| known.proxied.covers(stamp))
    }

    fn of(owner: u32, known: Known) -> Rc<Self> {
        Rc::new(Self { blocks: BTreeMap::from([(owner, known)]) })
    }

    fn learn(&mut self, owner: u32, more: &Known) {
        self.blocks.entry(owner).and_modify(|known| known.join(more)).or_insert_with(|| more.clone());
    }

    /// Learns all that another knows.
    pub fn join(self: &mut Rc<Self>, other: &Rc<Self>) {
        if Rc::ptr_eq(self, other) || other.blocks.is_empty() {
            return;
        }
        if self.blocks.is_empty() {
            *self = Rc::clone(other);
            return;
        }
        let own = Rc::make_mut(self);
        other.blocks.iter().for_each(|(owner, known)| own.learn(*owner, known));
    }

    /// The same with what a CTA's warp knows of its own CTA.
    fn with(self: &Rc<Self>, owner: u32, known: &Known) -> Rc<Self> {
        let mut all = (**self).clone();
        all.learn(owner, known);
        Rc::new(all)
    }
}

/// What was released: to all, and (by whatever scope) to the releasing CTA itself.
#[derive(Clone, Debug, Default)]
pub struct Released {
    all: Option<Rc<Knowledge>>,
    block: Option<(u32, Rc<Knowledge>)>,
}

impl Released {
    /// What the completion of an agent's accesses tells the CTA.
    pub fn of_agent(owner: u32, agent: Agent, count: u32) -> Self {
        Self { all: None, block: Some((owner, Knowledge::of(owner, Known::of_agent(agent, count)))) }
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.block.is_none()
    }

    /// Adds what another one released; without `wide` only to the CTA itself.
    fn join(&mut self, other: &Self, wide: bool) {
        if let Some(knowledge) = other.all.as_ref().filter(|_| wide) {
            self.all.get_or_insert_default().join(knowledge);
        }
        match (&mut self.block, &other.block) {
            (Some((own, held)), Some((block, knowledge))) if own == block => held.join(knowledge),
            (_, None) => {}
            (held, other) => *held = other.clone(),
        }
    }
}

/// Locations that strong writes touched in a launch, by address: what their value's writers had released.
#[derive(Debug, Default)]
pub struct Locations {
    records: HashMap<u64, Released>,
}

impl Locations {
    /// A strong write. One that also reads (an atomic) keeps what earlier writers released there.
    /// Without `wide`, by its scope only its own CTA can learn there.
    pub fn publish(&mut self, address: u64, released: &Released, keeps: bool, wide: bool) {
        if released.is_empty() && (keeps || self.records.is_empty()) {
            return;
        }
        let record = self.records.entry(address).or_default();
        if !keeps {
            *record = Released::default();
        }
        record.join(released, wide);
    }

    /// What a strong read by a CTA can learn there: from all, and from its own CTA.
    pub fn observe(&self, address: u64, owner: u32) -> [Option<&Rc<Knowledge>>; 2] {
        let record = self.records.get(&address);
        let all = record.and_then(|record| record.all.as_ref());
        let block = record.and_then(|record| record.block.as_ref()).filter(|(block, _)| *block == owner);
        [all, block.map(|(_, knowledge)| knowledge)]
    }
}

/// What some lanes know and others do not: lanes with what they have in common.
#[derive(Clone, Debug, Default)]
struct Apart(Vec<(u32, Rc<Knowledge>)>);

impl Apart {
    fn add(&mut self, lanes: u32, knowledge: &Rc<Knowledge>) {
        match self.0.iter_mut().find(|(held, _)| *held == lanes) {
            Some((_, held)) => held.join(knowledge),
            None => self.0.push((lanes, Rc::clone(knowledge))),
        }
    }

    /// Takes out what these lanes know.
    fn take(&mut self, lanes: u32) -> Vec<(u32, Rc<Knowledge>)> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(held, _)| held & !lanes == 0);
        self.0 = left;
        let mut taken: Vec<_> = taken;
        for (held, knowledge) in self.0.iter_mut().filter(|(held, _)| held & lanes != 0) {
            taken.push((*held & lanes, Rc::clone(knowledge)));
            *held &= !lanes;
        }
        taken
    }
}

/// What a warp has learned of others, and what it is about to learn or has released.
#[derive(Clone, Debug, Default)]
pub struct Learning {
    /// What holds for the accesses of all its lanes from here on, and what for those of some.
    learned: Rc<Knowledge>,
    apart: Apart,
    /// What strong reads saw, and what of it the own CTA had written; a fence makes it hold.
    seen: Apart,
    seen_own: Apart,
    /// What the last fence covered; strong writes publish it.
    released: Released,
}

impl Learning {
    /// Whether an access is seen by all of these lanes.
    pub fn covers(&self, lanes: u32, owner: u32, stamp: Stamp) -> bool {
        self.all_know(lanes, |known| known.covers(owner, stamp))
    }

    /// Whether the async proxy sees an access of a thread, as all of these lanes know.
    pub fn proxies(&self, lanes: u32, owner: u32, stamp: Stamp) -> bool {
        self.all_know(lanes, |known| known.proxies(owner, stamp))
    }

    fn all_know(&self, lanes: u32, knows: impl Fn(&Knowledge) -> bool) -> bool {
        let apart = || self.apart.0.iter().filter(|(_, known)| knows(known)).fold(0, |all, (lanes, _)| all | lanes);
        knows(&self.learned) || lanes & !apart() == 0
    }

    /// `fence.proxy.async` by some lanes: what they know of, the async proxy sees.
    pub fn fence_proxy(&mut self, owner: u32, lanes: u32, live: u32, known: &Known) {
        let mut all = self.learned.with(owner, known);
        self.tell(lanes, &mut all);
        let blocks = all.blocks.iter().map(|(owner, known)| (*owner, known.fenced())).collect();
        self.add(lanes, live, &Rc::new(Knowledge { blocks }));
    }

    /// Some lanes have waited for what an agent did up to a count.
    pub fn learn_agent(&mut self, owner: u32, lanes: u32, live: u32, agent: Agent, count: u32) {
        self.add(lanes, live, &Knowledge::of(owner, Known::of_agent(agent, count)));
    }

    /// Some lanes learn; what all of `live` know holds for the warp.
    fn add(&mut self, lanes: u32, live: u32, knowledge: &Rc<Knowledge>) {
        match live & !lanes {
            0 => self.learned.join(knowledge),
            _ => self.apart.add(lanes, knowledge),
        }
    }

    /// Adds what some lanes know.
    pub fn tell(&self, lanes: u32, to: &mut Rc<Knowledge>) {
        to.join(&self.learned);
        self.apart.0.iter().filter(|(held, _)| held & lanes != 0).for_each(|(_, known)| to.join(known));
    }

    /// Learns what another one told, for all lanes.
    pub fn learn(&mut self, knowledge: &Rc<Knowledge>) {
        self.learned.join(knowledge);
    }

    /// The lanes of the warp have synchronised: what any of them knows, all do.
    pub fn unite(&mut self) {
        std::mem::take(&mut self.apart.0).iter().for_each(|(_, known)| self.learned.join(known));
    }

    /// Releases all that is known to `lanes` of others, and what is known of the own CTA; to all, or to that CTA only.
    pub fn release(&mut self, owner: u32, lanes: u32, known: &Known, wide: bool) {
        let mut knowledge = self.learned.with(owner, known);
        self.tell(lanes, &mut knowledge);
        if wide {
            self.released.all = Some(Rc::clone(&knowledge));
        }
        self.released.block = Some((owner, knowledge));
    }

    /// What `lanes` saw holds for them from here on; without `wide` only what the own CTA had written. What all of `live`
    /// know holds for the warp.
    pub fn acquire(&mut self, lanes: u32, live: u32, wide: bool) {
        let mut seen = self.seen_own.take(lanes);
        if wide {
            seen.extend(self.seen.take(lanes));
        }
        seen.iter().for_each(|(lanes, knowledge)| self.add(*lanes, live, knowledge));
    }

    /// A strong read by some lanes saw a location.
    pub fn see(&mut self, lanes: u32, [all, own]: [Option<&Rc<Knowledge>>; 2], wide: bool) {
        all.into_iter().filter(|_| wide).for_each(|knowledge| self.seen.add(lanes, knowledge));
        own.into_iter().for_each(|knowledge| self.seen_own.add(lanes, knowledge));
    }

    /// What a strong write publishes.
    pub fn released(&self) -> &Released {
        &self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writer (CTA 1) and reader (CTA 2) of one launch that began with CTA 1.
    fn seen_by_reader(fence_before: bool, fencing: u32, fence_after: Option<u32>) -> bool {
        let (mut locations, mut trace) = (Locations::default(), Trace::default());
        let (mut writer, clocks) = (Learning::default(), Clocks::new(7));
        trace.begin(1, 64, 2);
        trace.note(8, 4, 1, Stamp::new(clocks.of(3), 3, 0, false, 0));
        if fence_before {
            writer.release(1, fencing, &Known::of_lanes(&clocks, 3, fencing, 7), true);
        }
        locations.publish(0x1000, writer.released(), true, true);
        let (mut reader, own) = (Learning::default(), Clocks::new(7));
        reader.see(1, locations.observe(0x1000, 2), true);
        if let Some(lanes) = fence_after {
            reader.acquire(lanes, 3, true);
        }
        let learning = &reader;
        let party =
            Party { first: 1, owner: 2, warp: 0, strong: false, wide: false, synced: 0, clocks: &own, learning };
        trace.conflict(8, 4, &party, 0).is_none()
    }

    #[test]
    fn a_plain_write_is_seen_through_two_fences_and_a_flag() {
        assert!(seen_by_reader(true, 1, Some(1)) && seen_by_reader(true, u32::MAX, Some(3)));
        assert!(!seen_by_reader(true, 2, Some(1)), "another lane's fence");
        assert!(!seen_by_reader(true, 1, Some(2)), "another lane's fence after the read");
        assert!(!seen_by_reader(false, 1, Some(1)));
        assert!(!seen_by_reader(true, 1, None));
    }

    #[test]
    fn what_one_lane_acquires_the_others_know_once_they_synchronise() {
        let stamp = Stamp::new(7, 3, 0, false, 0);
        let told = Rc::new(Knowledge { blocks: BTreeMap::from([(1, Known::of_lanes(&Clocks::new(7), 3, 1, 7))]) });
        let mut warp = Learning::default();
        warp.see(0b10, [Some(&told), None], true);
        warp.acquire(0b10, 0b11, true);
        let known = |warp: &Learning| [0, 1].map(|lane| warp.covers(1 << lane, 1, stamp));
        assert_eq!(known(&warp), [false, true]);
        let mut other = Learning::default();
        for lanes in [0b01, 0b10] {
            let mut heard = Rc::default();
            warp.tell(lanes, &mut heard);
            other.learn(&heard);
            assert_eq!(known(&other), [lanes == 0b10; 2]);
        }
        warp.unite();
        assert_eq!(known(&warp), [true; 2]);
    }
}
