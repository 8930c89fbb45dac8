//! Running a launch: CTAs in the seed's order, their warps in turn, and what is said when nothing can go on.
//!
//! CTAs run one after another. Only when one spins without anything changing are more of them made resident, so that
//! a grid-wide barrier completes; nothing may rely on more than [`RESIDENT`] of them, as on a GPU.

use std::collections::{BTreeMap, VecDeque};

use super::super::Launch;
use super::access::resolve;
use super::bulk::Transfer;
use super::checks::{Options, STREAM_BLOCKS, STREAM_WARPS, order, permuted};
use super::counters::{Class, Counters};
use super::execute::{Context, Stop, lanes};
use super::footprint::Footprint;
use super::instr::{Address, Base, Function, Op, Space};
use super::mbarrier::{MBARRIER_BYTES, Mbarriers};
use super::memory::Memory;
use super::operands::Operands;
use super::order::Locations;
use super::registers::{LANES, Register};
use super::report::{Check, Finding, Outcome, Place, Report};
use super::shared::{Shared, Watch};
use super::sync::{BARRIERS, BarrierState, settle};
use super::warp::{Fragment, State, Warp, thread_index};
use super::warpgroup::Warpgroups;

/// CTAs that are resident at once at most: two on each of 132 multiprocessors.
const RESIDENT: usize = 264;

/// Rounds over all resident CTAs in which memory does not change, after which the launch is given up even if registers
/// do: some million iterations.
const HOPELESS: u32 = 1024;

/// Places that the description of a loop names at most.
const READS_NAMED: usize = 4;

/// The shape of a launch and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Grid, block, dynamic shared memory.
    pub launch: Launch,
    /// Threads of a CTA.
    pub threads: usize,
    /// Warps of a CTA.
    pub warps: usize,
    /// Bytes of shared memory, static and dynamic, with gaps.
    pub shared_bytes: usize,
    /// The same without gaps.
    pub shared_total: u32,
    /// Multiprocessors of the device.
    pub multiprocessors: u32,
}

impl Shape {
    /// Number of a CTA (x fastest).
    pub fn block_number(&self, [x, y, z]: [u32; 3]) -> u64 {
        let [nx, ny, _] = self.launch.grid.map(u64::from);
        u64::from(x) + nx * (u64::from(y) + ny * u64::from(z))
    }
}

/// A launch under way.
pub struct Grid<'g> {
    /// The kernel.
    pub function: &'g Function,
    /// Checkers, completion, seed.
    pub options: Options,
    /// Global memory.
    pub memory: &'g mut Memory,
    /// The kernel's arguments.
    pub params: &'g [u8],
    /// Shape.
    pub shape: Shape,
    /// The CTAs that run, by number; all of them if none.
    pub sample: Option<&'g [u64]>,
    /// What the kernel's accesses look like.
    pub footprint: Footprint,
    /// Number of its first CTA; they are numbered through over all launches.
    pub first: u32,
    /// Counters.
    pub counters: Counters,
    /// Global memory that strong writes touched.
    pub locations: Locations,
    /// Instructions so far: the clock.
    pub steps: u64,
    /// The clock at which the launch is given up.
    pub end: u64,
    /// Changes that a waiting thread could see.
    pub changes: u64,
    /// Random choices so far, so that each has a stream of its own.
    pub choices: u64,
}

/// What the warps of a CTA share.
pub struct Block {
    /// Position in the grid.
    pub at: [u32; 3],
    /// Number over all launches.
    pub serial: u32,
    /// Shared memory.
    pub shared: Shared,
    /// Shared memory that strong writes touched.
    pub locations: Locations,
    /// Barriers.
    pub barriers: [BarrierState; BARRIERS],
    /// Barriers in shared memory.
    pub mbarriers: Mbarriers,
    /// Bulk copies into shared memory that are under way.
    pub transfers: Vec<Transfer>,
    /// What its warpgroups do together.
    pub warpgroups: Warpgroups,
    /// Barriers at which some have arrived, bit by bit.
    pub begun: u32,
    /// Threads that have not exited.
    pub live: u32,
}

/// A CTA under way.
struct Resident {
    block: Block,
    warps: Vec<Warp>,
    rounds: u64,
}

/// A fault with the warp and instruction it belongs to.
type Fault = (Box<Finding>, usize, usize);

enum Turn {
    Done,
    Yielded,
}

impl Grid<'_> {
    /// Counts a warp instruction.
    #[inline]
    pub fn count(&mut self, class: Class) {
        self.counters.warp_instructions[class as usize] += 1;
    }

    /// Moves the clock on; a launch that has reached its limit is given up.
    #[inline]
    pub fn tick(&mut self, block: &Block, warp: &Warp, mask: u32) -> Outcome {
        self.steps += 1;
        if self.steps > self.end { Err(self.too_long(block, warp, mask)) } else { Ok(()) }
    }

    #[cold]
    fn too_long(&self, block: &Block, warp: &Warp, mask: u32) -> Box<Finding> {
        let limit = self.options.limit.unwrap_or_default();
        let (circle, memory) = (self.describe_loop(warp), self.describe_reads(block, warp));
        let text = format!("the launch has run {limit} warp instructions and goes on here{circle}{memory}");
        Finding::new(Check::Limit, lanes(mask).next(), text)
    }

    /// Where a warp reads what it may wait for: loads, atomics and mbarriers of global and shared memory in the loop that it
    /// was in last.
    fn loop_reads(&self, warp: &Warp) -> impl Iterator<Item = (usize, Space, &Address, usize)> {
        let span = warp.last_loop.map_or(0..0, |(first, last)| first..last + 1);
        span.filter_map(|pc| match &self.function.code[pc].op {
            Op::Load(load) if matches!(load.space, Space::Param | Space::Local | Space::Const) => None,
            Op::Load(load) => Some((pc, load.space, &load.address, usize::from(load.bytes) * usize::from(load.count))),
            Op::Atomic(atomic) => {
                Some((pc, atomic.space, &atomic.address, atomic.kind.bytes() * atomic.from.len().max(1)))
            }
            Op::Mbarrier(mbarrier) => Some((pc, mbarrier.space, &mbarrier.address, MBARRIER_BYTES)),
            _ => None,
        })
    }

    /// The loop that a warp was in last, and where it reads what it may wait for.
    fn describe_loop(&self, warp: &Warp) -> String {
        let Some((first, last)) = warp.last_loop else { return String::new() };
        let place = |pc: usize| Place::of(self.function, pc).to_string();
        let mut places: Vec<String> = self.loop_reads(warp).map(|(pc, ..)| place(pc)).collect();
        places.dedup();
        places.truncate(READS_NAMED);
        let reads = match places.is_empty() {
            true => "which reads no memory".to_owned(),
            false => format!("which reads memory at {}", places.join(", ")),
        };
        format!(", in the loop from {} to {}, {reads}", place(first), place(last))
    }

    /// What those reads reach in the first lane that goes round the loop, where its address is the same every time.
    fn describe_reads(&self, block: &Block, warp: &Warp) -> String {
        let Some((first, last)) = warp.last_loop else { return String::new() };
        let inside = |fragment: &&Fragment| (first..=last).contains(&fragment.pc);
        let mask = warp.fragments.iter().find(inside).map_or(0, |fragment| fragment.mask);
        let Some(lane) = lanes(mask).next() else { return String::new() };
        let changes =
            |base: Register| (first..=last).any(|pc| Operands::of(&self.function.code[pc].op).writes.contains(&base));
        let mut texts: Vec<String> = Vec::new();
        for (_, space, address, bytes) in self.loop_reads(warp) {
            let base = match address.base {
                Base::None => 0,
                Base::Word(word) if !changes(word.into()) => warp.registers.lane(word.into(), lane),
                Base::Wide(wide) if !changes(wide.into()) => warp.registers.lane(wide.into(), lane),
                Base::Word(_) | Base::Wide(_) => continue,
            };
            let at = base.wrapping_add(address.offset as u64);
            let (space, at) = if space == Space::Generic { resolve(at) } else { (space, at) };
            texts.push(self.whereabouts(block, space, at, bytes));
        }
        texts.dedup();
        texts.truncate(READS_NAMED);
        if texts.is_empty() {
            return String::new();
        }
        let [x, y, z] = block.at;
        format!(" (block ({x},{y},{z}) warp {} lane {lane}: {})", warp.index, texts.join("; "))
    }

    /// Runs all CTAs, or the sample.
    pub fn run(&mut self) -> Result<(), Box<Report>> {
        let [x, y, z] = self.shape.launch.grid;
        let all = u64::from(x) * u64::from(y) * u64::from(z);
        let mut left = self.sample.map_or(all, |sample| sample.len() as u64);
        let mut waiting: Box<dyn Iterator<Item = u64>> = match self.sample {
            Some(sample) => Box::new(sample.iter().copied()),
            None => Box::new(permuted(self.options.seed, STREAM_BLOCKS, self.first.into(), all)),
        };
        let (mut resident, mut spare) = (VecDeque::new(), Vec::new());
        let mut idle = 0;
        while !resident.is_empty() || left > 0 {
            if resident.is_empty() || idle > 0 && resident.len() < RESIDENT {
                let admitted = waiting.next().map(|number| self.admit(number as usize, spare.pop()));
                left -= u64::from(admitted.is_some());
                resident.extend(admitted);
            }
            let changes = self.changes;
            for _ in 0..resident.len() {
                let Some(mut running) = resident.pop_front() else { break };
                let turn = self.turn(&mut running);
                match turn.map_err(|fault| self.report(&running, fault))? {
                    Turn::Done => {
                        spare.push((running.block.shared, running.warps));
                        self.changes += 1;
                    }
                    Turn::Yielded => resident.push_back(running),
                }
            }
            idle = if self.changes != changes { 0 } else { idle + 1 };
            let full = resident.len() == RESIDENT || left == 0;
            let spins =
                |running: &Resident| running.warps.iter().all(|warp| !warp.is_ready() || warp.spins(self.changes));
            let looks = self.options.checks.deadlock;
            if looks && full && idle > 0 && (idle > HOPELESS || resident.iter().all(spins)) {
                let Some(running) = resident.front() else { continue };
                return Err(self.hopeless(running, &resident, left));
            }
        }
        Ok(())
    }

    fn admit(&mut self, number: usize, spare: Option<(Shared, Vec<Warp>)>) -> Resident {
        let (at, checks, shape) = (thread_index(number, self.shape.launch.grid), self.options.checks, self.shape);
        let (mut shared, mut warps) = spare.unwrap_or_else(|| {
            let watch = Watch {
                bounds: checks.bounds,
                initialized: checks.initialized,
                races: checks.shared_races,
                pending: checks.pending_copies,
                barriers: checks.barriers,
                proxies: checks.proxies,
            };
            let (shift, variables) = (self.footprint.shared_shift, &self.function.shared);
            let warps = (0..shape.warps).map(|index| Warp::new(self.function, &shape, index));
            (Shared::new(shape.shared_bytes, shape.warps, shift, watch, variables), warps.collect())
        });
        let base = warps.iter().map(|warp| warp.clocks.latest()).max().unwrap_or(0);
        let base = shared.restart(base);
        warps.iter_mut().for_each(|warp| warp.start(self.function, &shape, at, base, checks.lockstep));
        let block = Block {
            at,
            serial: self.first + number as u32,
            shared,
            locations: Locations::default(),
            barriers: Default::default(),
            mbarriers: Mbarriers::default(),
            transfers: Vec::new(),
            warpgroups: Warpgroups::default(),
            begun: 0,
            live: self.shape.threads as u32,
        };
        Resident { block, warps, rounds: 0 }
    }

    /// Gives every warp of a CTA its turns until all have ended or those that can run spin.
    fn turn(&mut self, running: &mut Resident) -> Result<Turn, Fault> {
        loop {
            let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(running.block.serial);
            let seed = if self.options.seed == 0 { 0 } else { seed | 1 };
            running.rounds += 1;
            let (mut ran, mut spins) = (false, false);
            for index in order(seed, STREAM_WARPS, running.rounds, running.warps.len()) {
                if !running.warps[index].is_ready() {
                    continue;
                }
                // Without the checker a warp that spins runs on, so that the launch comes to its limit.
                if self.options.checks.deadlock && running.warps[index].spins(self.changes) {
                    spins = true;
                    continue;
                }
                let (block, warp) = (&mut running.block, &mut running.warps[index]);
                let stop = Context { grid: self, block, warp }.run();
                match stop.map_err(|finding| (finding, index, running.warps[index].pc))? {
                    Stop::Yielded => {
                        running.warps[index].note_yield(self.changes);
                        spins = true;
                    }
                    Stop::Done | Stop::Blocked => ran = true,
                }
                let (block, warps) = (&mut running.block, &mut running.warps);
                if block.begun != 0 && settle(&mut block.barriers, &mut block.begun, block.live, warps) {
                    ran = true;
                    self.changes += 1;
                }
            }
            if running.block.live == 0 {
                return Ok(Turn::Done);
            }
            if !ran && !spins {
                return Err(self.deadlock(running));
            }
            if !ran {
                return Ok(Turn::Yielded);
            }
        }
    }

    /// What every warp of a CTA that cannot go on waits for.
    fn deadlock(&self, running: &Resident) -> Fault {
        let mut first = None;
        let mut check = Check::Deadlock;
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for warp in &running.warps {
            for fragment in &warp.fragments {
                let (pc, what) = self.obstacle(running, warp, fragment.state, fragment.pc, fragment.mask);
                if fragment.state == State::Gathering {
                    let barrier = matches!(self.function.code.get(pc).map(|instr| &instr.op), Some(Op::Barrier(_)));
                    check = if barrier { Check::Barrier } else { Check::Collective };
                    first = Some((warp.index, pc, fragment.mask));
                }
                first = first.or(Some((warp.index, pc, fragment.mask)));
                places.entry(format!("{what} at {}", Place::of(self.function, pc))).or_default().push(warp.index);
            }
        }
        let places: Vec<String> = places.into_iter().map(|(what, warps)| format!("warps {warps:?} {what}")).collect();
        let (warp, pc, mask) = first.unwrap_or_default();
        let lane = lanes(mask).next();
        let text = format!("no warp of the block can go on: {}", places.join("; "));
        (Finding::new(check, lane, text), warp, pc)
    }

    fn obstacle(&self, running: &Resident, warp: &Warp, state: State, pc: usize, mask: u32) -> (usize, String) {
        match state {
            State::Ready => (pc, "could run".to_owned()),
            State::Gathering => {
                let gone = warp.lanes & !warp.live;
                let elsewhere = warp.live & !mask;
                let text =
                    format!("lanes {mask:#010x} wait for others (elsewhere {elsewhere:#010x}, ended {gone:#010x})");
                (pc, text)
            }
            State::WarpSync(members) => {
                (pc - 1, format!("lanes {mask:#010x} wait in bar.warp.sync for {:#010x}", members & warp.live & !mask))
            }
            State::Barrier(waiting) => {
                let (arrived, needed) = running.block.barriers[waiting.id].progress(running.block.live);
                (pc - 1, format!("wait at barrier {} ({arrived} of {needed} threads arrived)", waiting.id))
            }
        }
    }

    /// The report of CTAs that spin for ever.
    fn hopeless(&self, running: &Resident, resident: &VecDeque<Resident>, waiting: u64) -> Box<Report> {
        // Warps at one place are told together, with what the first of them reads.
        let mut places: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for running in resident {
            for (warp, fragment) in
                running.warps.iter().flat_map(|warp| warp.fragments.iter().map(move |at| (warp, at)))
            {
                let place = Place::of(self.function, fragment.pc.max(warp.pc));
                let reads = || (0, self.describe_reads(&running.block, warp));
                places.entry(format!("{place}{}", self.describe_loop(warp))).or_insert_with(reads).0 += 1;
            }
        }
        let places: Vec<String> =
            places.into_iter().map(|(place, (warps, reads))| format!("{warps} warps at {place}{reads}")).collect();
        let text = format!(
            "{} blocks spin and no memory changes: {}; {waiting} blocks wait for them to end",
            resident.len(),
            places.join("; ")
        );
        let stuck = running.warps.iter().find(|warp| warp.live != 0);
        let lane = stuck.and_then(|warp| lanes(warp.live).next());
        let (warp, pc) = stuck.map_or((0, 0), |warp| (warp.index, warp.pc));
        self.report(running, (Finding::new(Check::Deadlock, lane, text), warp, pc))
    }

    fn report(&self, running: &Resident, (finding, warp, pc): Fault) -> Box<Report> {
        let lane = finding.lane.map(|lane| (lane, thread_index(warp * LANES + lane, self.shape.launch.block)));
        Box::new(Report {
            check: finding.check,
            kernel: self.function.name.clone(),
            place: Place::of(self.function, pc),
            block: running.block.at,
            warp,
            lane,
            text: finding.text,
            other: finding.other.map(|pc| Place::of(self.function, pc)),
            options: self.options,
        })
    }
}
