//! One warp: registers, local memory, what it knows of the others, and where its lanes are.
//!
//! A warp is a list of fragments, each a program counter and the lanes that are there. The lowest counter runs first
//! and fragments that meet merge, which brings lanes together again after a branch without any analysis of the code.

use std::hash::{Hash, Hasher};

use super::bulk::Stores;
use super::clocks::{Agent, Clocks, Stamp};
use super::copy::Copies;
use super::instr::{Function, LaneOrder, Special};
use super::order::{Known, Learning};
use super::registers::{LANES, Register, Registers};
use super::schedule::Shape;
use super::shared::Actor;
use super::sync::Waiting;
use super::warpgroup::InFlight;

/// Backward branches after which a fragment lets the other fragments of its warp go first.
const PATIENCE: u32 = 256;

/// Backward branches after which a warp lets the others of its CTA go first: as long as it makes progress, and once it
/// has spun.
const SLICE: u32 = 2048;
const SHORT_SLICE: u32 = 16;

/// What a fragment is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Can run.
    Ready,
    /// Stands before a warp-wide instruction until the other lanes that it names are there too.
    Gathering,
    /// Is past a `bar.warp.sync` with these members, not all of whom have come.
    WarpSync(u32),
    /// Is past a barrier that is not complete.
    Barrier(Waiting),
}

/// Lanes that are at one place.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// Index of the next instruction.
    pub pc: usize,
    /// Which lanes.
    pub mask: u32,
    /// What they are doing.
    pub state: State,
    /// Backward branches since others were last let go first.
    spins: u32,
}

impl Fragment {
    /// Lanes at a place.
    pub fn new(pc: usize, mask: u32, state: State) -> Self {
        Self { pc, mask, state, spins: 0 }
    }

    /// A backward branch, or `nanosleep` (which is worth `PATIENCE` of them).
    pub fn spin(&mut self, sleeps: bool) {
        self.spins += if sleeps { PATIENCE } else { 1 };
    }

    fn is_tired(&self) -> bool {
        self.spins >= PATIENCE
    }
}

/// Which fragment runs.
pub enum Pick {
    /// This one, until it reaches the instruction where another one stands.
    Run(usize, usize),
    /// All that can run have spun for long: other warps first.
    Tired,
    /// None can.
    Blocked,
}

/// A warp of a CTA.
#[derive(Debug)]
pub struct Warp {
    /// Number in the CTA.
    pub index: usize,
    /// Lanes that exist: the last warp of a CTA may have fewer than 32.
    pub lanes: u32,
    /// Lanes that have not exited.
    pub live: u32,
    /// Registers.
    pub registers: Registers,
    /// Lanes that have written each of the registers that are watched.
    pub written: Vec<u32>,
    /// Local memory, lane after lane.
    pub local: Vec<u8>,
    /// Where the lanes are.
    pub fragments: Vec<Fragment>,
    /// Instruction being executed.
    pub pc: usize,
    /// What it knows of the CTA's warps; its own entry is its count.
    pub clocks: Clocks,
    /// Count from which on its lanes are not ordered among themselves; above all counts if they run in step.
    pub synced: u32,
    /// Whatever happened at or before this count is ordered before what the warp does now.
    pub floor: u32,
    /// What it has learned of other CTAs.
    pub learning: Learning,
    /// Asynchronous copies it has started.
    pub copies: Copies,
    /// Bulk copies out of shared memory that it has started.
    pub stores: Stores,
    /// Matrix products of its warpgroup that it takes part in.
    pub products: InFlight,
    /// First and last instruction of the loop that it went round last.
    pub last_loop: Option<(usize, usize)>,
    /// Backward branches that it may take before it yields.
    pub slice: u32,
    warps: usize,
    /// Digests of its state when it last yielded, and how often memory had changed by then.
    yields: [(u64, u64); 4],
    /// Memory changes at the time when it yielded in a state in which it had yielded before, with memory unchanged.
    spins_since: Option<u64>,
}

impl Warp {
    /// Warp `index` of every CTA of a launch, before it starts in one.
    pub fn new(function: &Function, shape: &Shape, index: usize) -> Self {
        let threads = shape.threads - index * LANES;
        let lanes = if threads >= LANES { u32::MAX } else { (1 << threads) - 1 };
        let mut warp = Self {
            index,
            lanes,
            live: 0,
            registers: Registers::new(function.registers),
            written: vec![0; function.watched.names.len()],
            local: vec![0; function.local_bytes as usize * LANES],
            fragments: Vec::new(),
            pc: 0,
            synced: 0,
            clocks: Clocks::new(0),
            floor: 0,
            learning: Learning::default(),
            copies: Copies::default(),
            stores: Stores::default(),
            products: InFlight::default(),
            last_loop: None,
            slice: SLICE,
            warps: shape.warps,
            yields: Default::default(),
            spins_since: None,
        };
        for (register, value) in &function.constants {
            match register {
                Register::Sink => {}
                Register::Word(word) => warp.registers.word_mut(*word).fill(*value as u32),
                Register::Wide(wide) => warp.registers.wide_mut(*wide).fill(*value),
                Register::Predicate(predicate) => warp.registers.predicates[usize::from(predicate.0)] = *value as u32,
            }
        }
        warp.load_specials(function, shape, [0; 3], |_| true);
        warp
    }

    /// Starts in a CTA whose counts begin after `base`, at the kernel's first instruction. What the code does not set
    /// itself keeps what the warp of an earlier CTA left: registers and local memory.
    pub fn start(&mut self, function: &Function, shape: &Shape, block: [u32; 3], base: u32, lockstep: bool) {
        self.live = self.lanes;
        self.written.fill(0);
        self.fragments.clear();
        self.fragments.push(Fragment::new(0, self.lanes, State::Ready));
        self.clocks = Clocks::new(base);
        self.clocks.tick(self.index);
        self.synced = if lockstep { u32::MAX } else { base + 1 };
        self.floor = base;
        (self.learning, self.copies) = (Learning::default(), Copies::default());
        (self.stores, self.products) = (Stores::default(), InFlight::new(function));
        (self.slice, self.yields, self.spins_since) = (SLICE, Default::default(), None);
        self.last_loop = None;
        self.load_specials(function, shape, block, |special| matches!(special, Special::Ctaid(_) | Special::SmId));
    }

    fn load_specials(&mut self, function: &Function, shape: &Shape, block: [u32; 3], which: fn(&Special) -> bool) {
        for (register, special) in function.specials.iter().filter(|(_, special)| which(special)) {
            if !special.varies() {
                self.registers.fill(*register, special_value(*special, shape, block, self.index, 0), u32::MAX);
                continue;
            }
            for lane in 0..LANES {
                let value = special_value(*special, shape, block, self.index, lane);
                self.registers.set_lane(*register, lane, value);
            }
        }
    }

    /// The stamp of an access by the current instruction; the lane is filled in later.
    #[inline]
    pub fn stamp(&self, strong: bool) -> Stamp {
        Stamp::new(self.clocks.of(self.index), self.index, 0, strong, self.pc)
    }

    /// Who accesses shared memory, for its checks.
    #[inline]
    pub fn actor(&self, strong: bool, owner: u32) -> Actor<'_> {
        let (stamp, clocks, learning) = (self.stamp(strong), &self.clocks, &self.learning);
        Actor { stamp, clocks, learning, owner, synced: self.synced, floor: self.floor }
    }

    /// Acquires (8.8) by some lanes: what their strong reads saw holds; without `wide` only what the own CTA wrote.
    pub fn acquire(&mut self, active: u32, wide: bool) {
        self.learning.acquire(active, self.learners(active), wide);
        if self.synced == u32::MAX {
            self.learning.unite();
        }
    }

    /// Releases (8.8) by some lanes: what they did so far, or know of, to the own CTA or to all.
    pub fn release(&mut self, owner: u32, active: u32, wide: bool) {
        let synced = if active == self.lanes { u32::MAX } else { self.synced };
        let known = Known::of_lanes(&self.clocks, self.index, active, synced);
        self.learning.release(owner, active, &known, wide);
        self.clocks.tick(self.index);
        self.settle_floor();
    }

    /// `fence.proxy.async` by some lanes: what they did, or know of, the async proxy sees.
    pub fn fence_proxy(&mut self, owner: u32, active: u32) {
        let synced = if active == self.lanes { u32::MAX } else { self.synced };
        let known = Known::of_lanes(&self.clocks, self.index, active, synced);
        self.learning.fence_proxy(owner, active, self.learners(active), &known);
        self.clocks.tick(self.index);
        self.settle_floor();
    }

    /// Some lanes have waited for what an agent did up to a count.
    pub fn learn_agent(&mut self, owner: u32, active: u32, agent: Agent, count: u32) {
        self.learning.learn_agent(owner, active, self.learners(active), agent, count);
    }

    /// Those who know what the active lanes learn if they are among these: all that are there, but for lanes in step.
    fn learners(&self, active: u32) -> u32 {
        if self.synced == u32::MAX { active } else { self.live }
    }

    /// A synchronisation of all lanes: what follows is later than what was, for all lanes alike.
    pub fn synchronize(&mut self) {
        self.learning.unite();
        self.clocks.tick(self.index);
        if self.synced != u32::MAX {
            self.synced = self.clocks.of(self.index);
        }
        self.settle_floor();
    }

    /// Works out [`Self::floor`] after the clocks have changed.
    pub fn settle_floor(&mut self) {
        let others = self.clocks.counts().iter().take(self.warps).enumerate();
        let known = others.filter(|(warp, _)| *warp != self.index).map(|(_, count)| *count).min();
        let own = self.synced.min(self.clocks.of(self.index) + 1) - 1;
        self.floor = known.map_or(own, |known| known.min(own));
    }

    /// The warp yields after `changes` changes of memory. If it is where it was at an earlier yield, with the same
    /// registers, it may wait for others and gets short slices. If neither it nor anybody else has changed memory since
    /// then, it will only come here again until memory changes.
    pub fn note_yield(&mut self, changes: u64) {
        let mut hasher = std::hash::DefaultHasher::new();
        (&self.registers.words, &self.registers.wides, &self.registers.predicates).hash(&mut hasher);
        self.fragments.iter().for_each(|fragment| (fragment.pc, fragment.mask).hash(&mut hasher));
        self.local.hash(&mut hasher);
        let digest = hasher.finish();
        self.spins_since = self.yields.contains(&(digest, changes)).then_some(changes);
        let repeats = self.yields.iter().any(|(earlier, _)| *earlier == digest);
        self.slice = if repeats { SHORT_SLICE } else { SLICE.min(2 * self.slice) };
        self.yields.rotate_right(1);
        self.yields[0] = (digest, changes);
    }

    /// Whether running it would change nothing, as memory has not changed since it began to spin.
    pub fn spins(&self, changes: u64) -> bool {
        self.spins_since == Some(changes)
    }

    /// Whether any fragment can run.
    pub fn is_ready(&self) -> bool {
        self.fragments.iter().any(|fragment| fragment.state == State::Ready)
    }

    /// Merges fragments that have met and chooses the one to run.
    pub fn pick(&mut self) -> Pick {
        if let [only] = self.fragments.as_slice()
            && only.state == State::Ready
            && !only.is_tired()
        {
            return Pick::Run(0, usize::MAX);
        }
        self.merge();
        let ready = |fragment: &&Fragment| fragment.state == State::Ready;
        let awake = self.fragments.iter().enumerate().filter(|(_, fragment)| ready(fragment) && !fragment.is_tired());
        let Some((index, chosen)) = awake.min_by_key(|(_, fragment)| fragment.pc) else {
            let tired = self.is_ready();
            self.fragments.iter_mut().for_each(|fragment| fragment.spins = 0);
            return if tired { Pick::Tired } else { Pick::Blocked };
        };
        let meeting = |fragment: &&Fragment| matches!(fragment.state, State::Ready | State::Gathering);
        let ahead = self.fragments.iter().filter(meeting).map(|fragment| fragment.pc).filter(|pc| *pc > chosen.pc);
        Pick::Run(index, ahead.min().unwrap_or(usize::MAX))
    }

    fn merge(&mut self) {
        let meets = |state: State| matches!(state, State::Ready | State::Gathering);
        let mut kept = 0;
        while kept < self.fragments.len() {
            let first = self.fragments[kept];
            let mut other = kept + 1;
            while meets(first.state) && other < self.fragments.len() {
                let second = self.fragments[other];
                if second.pc == first.pc && meets(second.state) {
                    let merged = &mut self.fragments[kept];
                    merged.mask |= second.mask;
                    merged.state = State::Ready;
                    self.fragments.swap_remove(other);
                } else {
                    other += 1;
                }
            }
            kept += 1;
        }
    }

    /// The lanes of `active` that can execute a warp-wide instruction now; the rest of them gather before it. All go on
    /// together if the two are the same; otherwise the fragments have changed, and false is returned.
    pub fn assemble(&mut self, index: usize, active: u32, ready: u32) -> bool {
        if ready == active {
            return true;
        }
        let rest = active & !ready;
        let fragment = &mut self.fragments[index];
        fragment.mask &= !rest;
        fragment.pc = self.pc + 1;
        if fragment.mask == 0 {
            self.fragments.swap_remove(index);
        }
        self.fragments.push(Fragment::new(self.pc, rest, State::Gathering));
        false
    }

    /// Lanes exit. Those that waited for them look again.
    pub fn exit(&mut self, index: usize, lanes: u32) {
        self.live &= !lanes;
        self.fragments[index].mask &= !lanes;
        self.fragments.retain(|fragment| fragment.mask != 0);
        for fragment in &mut self.fragments {
            if fragment.state == State::Gathering {
                fragment.state = State::Ready;
            }
        }
        let waiting: Vec<u32> = self.fragments.iter().filter_map(members).collect();
        waiting.into_iter().for_each(|members| self.release_members(members));
    }

    /// Ends a `bar.warp.sync` if its members have all come or exited.
    pub fn release_members(&mut self, wanted: u32) {
        let here = self.fragments.iter().filter(|fragment| members(fragment) == Some(wanted));
        let arrived = here.fold(0, |all, fragment| all | fragment.mask);
        if wanted & self.live & !arrived != 0 {
            return;
        }
        self.fragments
            .iter_mut()
            .filter(|fragment| members(fragment) == Some(wanted))
            .for_each(|fragment| fragment.state = State::Ready);
        self.synchronize();
    }
}

fn members(fragment: &Fragment) -> Option<u32> {
    if let State::WarpSync(members) = fragment.state { Some(members) } else { None }
}

/// Index of a thread from its number in the CTA (x fastest).
pub fn thread_index(number: usize, extents: [u32; 3]) -> [u32; 3] {
    let (number, [x, y, _]) = (number as u32, extents.map(|extent| extent.max(1)));
    [number % x, number / x % y, number / x / y]
}

fn special_value(special: Special, shape: &Shape, block: [u32; 3], warp: usize, lane: usize) -> u64 {
    let axis = |extents: [u32; 3], axis: u8| u64::from(extents[usize::from(axis) % 3]);
    let (below, own) = ((1u64 << lane) - 1, 1u64 << lane);
    match special {
        Special::Tid(at) => axis(thread_index(warp * LANES + lane, shape.launch.block), at),
        Special::Ntid(at) => axis(shape.launch.block, at),
        Special::Ctaid(at) => axis(block, at),
        Special::Nctaid(at) => axis(shape.launch.grid, at),
        Special::LaneId => lane as u64,
        Special::WarpId => warp as u64,
        Special::WarpCount => shape.warps as u64,
        Special::SmId => shape.block_number(block) % u64::from(shape.multiprocessors),
        Special::SmCount => u64::from(shape.multiprocessors),
        Special::LaneMask(LaneOrder::Equal) => own,
        Special::LaneMask(LaneOrder::LessOrEqual) => own | below,
        Special::LaneMask(LaneOrder::Less) => below,
        Special::LaneMask(LaneOrder::GreaterOrEqual) => u64::from(u32::MAX) & !below,
        Special::LaneMask(LaneOrder::Greater) => u64::from(u32::MAX) & !below & !own,
        Special::DynamicSharedBytes => u64::from(shape.launch.shared),
        Special::TotalSharedBytes => u64::from(shape.shared_total),
    }
}
