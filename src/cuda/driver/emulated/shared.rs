//! Shared memory of one CTA: contents, what was written, which copies are under way, and who may race with whom.
//!
//! Each granule (the size of the kernel's smallest access to shared memory, so that neighbours never blame each other)
//! has the stamp of its last write and, per warp, the count and lane of its last read. Counts never start again, so a
//! new CTA inherits the tables without clearing them: what lies before its first count is nobody's. What the async proxy does
//! is in [`proxy`]; its counts do start again, so tables that it used are cleared.

mod proxy;

pub use proxy::Reader;

use super::clocks::{Clocks, Stamp};
use super::instr::{SHARED_BASE, SharedVariable};
use super::order::Learning;
use super::report::{Check, Finding, Outcome};

const WRITTEN: u8 = 1;
const PENDING: u8 = 2;
const GAP: u8 = 4;
const BARRIER: u8 = 8;

/// Several lanes read, in a read entry (`count << 6 | several << 5 | lane`).
const SEVERAL: u32 = 32;

/// The count from which on the tables are cleared before the next CTA; read entries hold 26 bits.
const RESTART: u32 = 1 << 25;

/// Which accesses are checked.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Accesses between variables.
    pub bounds: bool,
    /// Reads of what nobody wrote.
    pub initialized: bool,
    /// Conflicting accesses.
    pub races: bool,
    /// Accesses to destinations of copies.
    pub pending: bool,
    /// Accesses to mbarriers by other instructions.
    pub barriers: bool,
    /// Accesses of the async proxy to what threads wrote, without a proxy fence.
    pub proxies: bool,
}

/// Who makes an access.
pub struct Actor<'a> {
    /// Stamp of its warp, instruction and kind of access; the lane is filled in.
    pub stamp: Stamp,
    /// What its warp knows.
    pub clocks: &'a Clocks,
    /// What it has learned through fences.
    pub learning: &'a Learning,
    /// Number of its CTA.
    pub owner: u32,
    /// Count from which on the warp's lanes are not ordered among themselves.
    pub synced: u32,
    /// What happened at or before this count is ordered before the access, whoever did it.
    pub floor: u32,
}

/// The shared memory of a CTA.
#[derive(Debug)]
pub struct Shared {
    data: Vec<u8>,
    state: Vec<u8>,
    /// The state that a CTA begins with.
    fresh: Vec<u8>,
    writes: Vec<Stamp>,
    reads: Vec<u32>,
    /// Reads by the async proxy, per granule: those of each warpgroup's matrix products, and of bulk copies. Made when needed.
    proxy_reads: Vec<u32>,
    /// Whether the async proxy has done anything since the tables were last cleared.
    proxied: bool,
    shift: u32,
    warps: usize,
    watch: Watch,
    variables: Vec<SharedVariable>,
}

impl Shared {
    /// Memory of `bytes` bytes for `warps` warps, with granules of `1 << shift` bytes.
    pub fn new(bytes: usize, warps: usize, shift: u32, watch: Watch, variables: &[SharedVariable]) -> Self {
        let cells = (bytes >> shift) + 1;
        let tables = if watch.races { cells } else { 0 };
        let mut fresh = vec![0; cells];
        for gap in gaps(variables).into_iter().filter(|_| watch.bounds) {
            let inside = gap.start.div_ceil(1 << shift)..(gap.end >> shift).min(cells);
            fresh.iter_mut().take(inside.end).skip(inside.start).for_each(|state| *state = GAP);
        }
        Self {
            data: vec![u8::MAX; bytes],
            state: fresh.clone(),
            fresh,
            writes: vec![Stamp::default(); tables.max(if watch.pending { cells } else { 0 })],
            reads: vec![0; tables * warps],
            proxy_reads: Vec::new(),
            proxied: false,
            shift,
            warps,
            watch,
            variables: variables.to_vec(),
        }
    }

    /// Hands the memory to a new CTA, whose counts begin after `base`; gives the base to use.
    pub fn restart(&mut self, base: u32) -> u32 {
        self.data.fill(u8::MAX);
        self.state.copy_from_slice(&self.fresh);
        if std::mem::take(&mut self.proxied) {
            self.writes.fill(Stamp::default());
            self.proxy_reads.fill(0);
        }
        if base < RESTART {
            return base;
        }
        self.writes.fill(Stamp::default());
        self.reads.fill(0);
        0
    }

    /// Offset of an address, if `bytes` bytes there lie in the CTA's shared memory.
    #[inline]
    pub fn spot(&self, address: u64, bytes: usize) -> Option<usize> {
        let offset = address.checked_sub(u64::from(SHARED_BASE))?;
        (offset <= self.data.len() as u64 && offset as usize + bytes <= self.data.len()).then_some(offset as usize)
    }

    /// Contents.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Contents, to write; the caller has noted the write.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    #[inline]
    fn cells(&self, offset: usize, bytes: usize) -> std::ops::Range<usize> {
        offset >> self.shift..((offset + bytes - 1) >> self.shift) + 1
    }

    /// Notes a read.
    #[inline]
    pub fn read(&mut self, actor: &Actor<'_>, lane: usize, offset: usize, bytes: usize) -> Outcome {
        let (cells, watch) = (self.cells(offset, bytes), self.watch);
        if watch.initialized || watch.pending || watch.bounds || watch.barriers {
            let seen = self.state[cells.clone()].iter().fold((WRITTEN, 0), |(all, any), one| (all & one, any | one));
            if seen != (WRITTEN, WRITTEN) {
                self.state_fault(cells.clone(), lane, "read")?;
            }
        }
        if !watch.races {
            return Ok(());
        }
        for cell in cells {
            let write = self.writes[cell];
            if write.above(actor.floor) && unordered(actor, write, 1 << lane) {
                return Err(self.race(cell, lane, "reads", "wrote", write));
            }
            // A strong read races with plain writes only, and those look at stamps.
            if actor.stamp.strong() {
                continue;
            }
            let (entry, now) = (&mut self.reads[cell * self.warps + actor.stamp.warp()], actor.stamp.clock() << 6);
            *entry = match *entry {
                same if same >> 6 == now >> 6 && same & 31 != lane as u32 => now | SEVERAL | lane as u32,
                same if same >> 6 == now >> 6 => same,
                _ => now | lane as u32,
            };
        }
        Ok(())
    }

    /// Notes a write of `bytes` bytes; `same` says that it changes nothing, which two writers may do at once.
    #[inline]
    pub fn write(&mut self, actor: &Actor<'_>, lane: usize, offset: usize, bytes: usize, same: bool) -> Outcome {
        self.claim(actor, lane, offset, bytes, same, WRITTEN)
    }

    /// Notes that these bytes become an mbarrier, or nobody's again.
    pub fn mark_barrier(&mut self, offset: usize, bytes: usize, is: bool) {
        let cells = self.cells(offset, bytes);
        self.state[cells].fill(if is { WRITTEN | BARRIER } else { 0 });
    }

    /// Notes what an instruction does to an mbarrier that was made with this stamp: an atomic access to its bytes.
    pub fn use_barrier(&mut self, actor: &Actor<'_>, lane: usize, offset: usize, bytes: usize, made: Stamp) -> Outcome {
        if self.watch.races {
            let cells = self.cells(offset, bytes);
            // Those who used it since may have known; this lane must know too.
            if made.above(actor.floor) && unordered(actor, made, 1 << lane) {
                return Err(self.race(cells.start, lane, "uses", "made", made));
            }
            for cell in cells.clone() {
                self.check_write(actor, lane, cell, false)?;
            }
            self.writes[cells].fill(actor.stamp.with_lane(lane));
        }
        Ok(())
    }

    /// Notes the start of a copy into these bytes.
    pub fn begin_copy(&mut self, actor: &Actor<'_>, lane: usize, offset: usize, bytes: usize) -> Outcome {
        let state = if self.watch.pending { WRITTEN | PENDING } else { WRITTEN };
        self.claim(actor, lane, offset, bytes, false, state)
    }

    /// Notes the end of a copy: its bytes are as if written now.
    pub fn end_copy(&mut self, stamp: Stamp, lane: usize, offset: usize, bytes: usize) {
        let cells = self.cells(offset, bytes);
        self.state[cells.clone()].fill(WRITTEN);
        if self.watch.races {
            self.writes[cells].fill(stamp.with_lane(lane));
        }
    }

    #[inline]
    fn claim(&mut self, actor: &Actor<'_>, lane: usize, offset: usize, bytes: usize, same: bool, state: u8) -> Outcome {
        let (cells, watch) = (self.cells(offset, bytes), self.watch);
        let looks = watch.pending || watch.bounds || watch.barriers;
        if looks && self.state[cells.clone()].iter().any(|state| state & (PENDING | GAP | BARRIER) != 0) {
            self.state_fault(cells.clone(), lane, "write")?;
        }
        self.state[cells.clone()].fill(state);
        if watch.races {
            for cell in cells.clone() {
                self.check_write(actor, lane, cell, same)?;
            }
        }
        if watch.races || watch.pending {
            self.writes[cells].fill(actor.stamp.with_lane(lane));
        }
        Ok(())
    }

    #[inline]
    fn check_write(&self, actor: &Actor<'_>, lane: usize, cell: usize, same: bool) -> Outcome {
        let write = self.writes[cell];
        if write.above(actor.floor) && !same && unordered(actor, write, 1 << lane) {
            return Err(self.race(cell, lane, "writes", "wrote", write));
        }
        if !self.proxy_reads.is_empty() {
            self.check_proxy_reads(actor, lane, cell)?;
        }
        let reads = &self.reads[cell * self.warps..(cell + 1) * self.warps];
        if reads.iter().fold(0, |latest, entry| latest.max(*entry)) >> 6 > actor.floor {
            self.check_reads(actor, lane, cell)?;
        }
        Ok(())
    }

    /// Looks for plain reads that are not ordered before this write.
    fn check_reads(&self, actor: &Actor<'_>, lane: usize, cell: usize) -> Outcome {
        let own = actor.stamp.warp();
        for (warp, entry) in self.reads[cell * self.warps..(cell + 1) * self.warps].iter().enumerate() {
            let (count, reader, several) = (entry >> 6, (entry & 31) as usize, entry & SEVERAL != 0);
            let read = Stamp::new(count, warp, reader, false, 0);
            let learned = || !several && actor.learning.covers(1 << lane, actor.owner, read);
            let races = match warp == own {
                true => count >= actor.synced && (several || reader != lane) && !learned(),
                false => count > actor.clocks.of(warp) && !learned(),
            };
            if !races {
                continue;
            }
            // Of several readers only the last is known by number, and that may be the writer.
            return Err(match several {
                true if (warp, reader) == (own, lane) => {
                    let text = format!("writes {}, which other lanes of warp {warp} read", self.describe(cell));
                    Finding::new(Check::SharedRace, lane, text + ", and nothing orders the two")
                }
                true => self.conflict(cell, lane, "writes", &format!("warp {warp} lane {reader} and other lanes read")),
                false => self.conflict(cell, lane, "writes", &format!("warp {warp} lane {reader} read")),
            });
        }
        Ok(())
    }

    #[cold]
    fn state_fault(&self, cells: std::ops::Range<usize>, lane: usize, access: &str) -> Outcome {
        let find = |wanted: fn(u8) -> bool| cells.clone().find(|cell| wanted(self.state[*cell]));
        if let Some(cell) = find(|state| state & GAP != 0) {
            return Err(Finding::new(Check::Bounds, lane, format!("{access} of {}", self.describe_gap(cell))));
        }
        if let Some(cell) = find(|state| state & PENDING != 0).filter(|_| self.watch.pending) {
            let (place, copy) = (self.describe(cell), self.writes[cell]);
            let (warp, other) = (copy.warp(), copy.lane());
            let text = format!("{access} of {place}, into which warp {warp} lane {other} copies and nobody has waited");
            return Err(Finding::new(Check::PendingCopy, lane, text).against(copy.pc()));
        }
        if let Some(cell) = find(|state| state & BARRIER != 0).filter(|_| self.watch.barriers) {
            let text =
                format!("{access} of {}, an mbarrier, which only its instructions may touch", self.describe(cell));
            let finding = Finding::new(Check::Barrier, lane, text);
            // Who uses an mbarrier is noted for races alone.
            return Err(if self.watch.races { finding.against(self.writes[cell].pc()) } else { finding });
        }
        match find(|state| state & WRITTEN == 0).filter(|_| self.watch.initialized && access == "read") {
            Some(cell) => {
                let text = format!("{} was never written by this CTA", self.describe(cell));
                Err(Finding::new(Check::Initialized, lane, text))
            }
            None => Ok(()),
        }
    }

    /// The race of an access with an earlier write.
    #[cold]
    fn race(&self, cell: usize, lane: usize, does: &str, did: &str, write: Stamp) -> Box<Finding> {
        let who = match write.agent() {
            Some(_) => "an asynchronous copy wrote (this thread has not waited for its mbarrier)".to_owned(),
            None => format!("warp {} lane {} {did}", write.warp(), write.lane()),
        };
        self.conflict(cell, lane, does, &who).against(write.pc())
    }

    #[cold]
    fn conflict(&self, cell: usize, lane: usize, does: &str, who_did: &str) -> Box<Finding> {
        let text = format!("{does} {}, which {who_did}, and nothing orders the two", self.describe(cell));
        Finding::new(Check::SharedRace, lane, text)
    }

    /// Who wrote the first written of these bytes last in this CTA, where that is kept.
    pub fn last_writer(&self, offset: usize, bytes: usize) -> Option<Stamp> {
        let written = self.cells(offset, bytes).find(|cell| self.state[*cell] & WRITTEN != 0)?;
        self.writes.get(written).copied()
    }

    /// Variable of a byte.
    pub fn describe_byte(&self, offset: usize) -> String {
        self.describe_address(SHARED_BASE + offset as u32)
    }

    /// Address and variable of a granule.
    fn describe(&self, cell: usize) -> String {
        self.describe_address(SHARED_BASE + (cell << self.shift) as u32)
    }

    fn describe_address(&self, address: u32) -> String {
        let of = self.variables.iter().rev().find(|variable| {
            address >= variable.address && (variable.bytes == 0 || address < variable.address + variable.bytes)
        });
        match of {
            Some(variable) => format!("shared byte {} of `{}`", address - variable.address, variable.name),
            None => format!("shared address {address:#x}"),
        }
    }

    /// A granule between variables, by the nearer of the two.
    fn describe_gap(&self, cell: usize) -> String {
        let address = SHARED_BASE + (cell << self.shift) as u32;
        let below = self.variables.iter().filter(|variable| variable.address <= address);
        let below =
            below.max_by_key(|variable| variable.address).map(|SharedVariable { name, address: first, bytes }| {
                let offset = address - first;
                (offset - bytes, format!("byte {offset} of `{name}`, which has {bytes} bytes"))
            });
        let above = self.variables.iter().filter(|variable| variable.address > address);
        let above = above.min_by_key(|variable| variable.address).map(|variable| {
            let missing = variable.address - address;
            (missing, format!("the byte {missing} bytes before `{}`", variable.name))
        });
        let nearest = below.into_iter().chain(above).min_by_key(|(distance, _)| *distance);
        nearest.map_or_else(|| format!("shared address {address:#x}"), |(_, text)| format!("shared memory at {text}"))
    }

    /// The fault of an access outside shared memory.
    pub fn outside(&self, address: u64, bytes: usize, what: &str, lane: usize) -> Box<Finding> {
        let (held, end) = (self.data.len(), SHARED_BASE as usize + self.data.len());
        let text = format!(
            "{what} of {bytes} bytes at shared address {address:#x}; the CTA has {held} bytes, {SHARED_BASE:#x} to {end:#x}"
        );
        Finding::new(Check::Bounds, lane, text)
    }
}

/// Offsets between static variables, and from the last one to the dynamic ones, that belong to none.
fn gaps(variables: &[SharedVariable]) -> Vec<std::ops::Range<usize>> {
    let mut spans: Vec<_> =
        variables.iter().map(|variable| (variable.address, variable.address + variable.bytes)).collect();
    spans.sort_unstable();
    let pairs = spans.iter().zip(spans.iter().skip(1));
    pairs.map(|((_, end), (next, _))| (end - SHARED_BASE) as usize..(next - SHARED_BASE) as usize).collect()
}

/// Whether an earlier write may come after an access that these lanes make together.
#[inline]
pub(super) fn unordered(actor: &Actor<'_>, write: Stamp, lanes: u32) -> bool {
    let unseen = |lanes: u32| !actor.learning.covers(lanes, actor.owner, write);
    if write.agent().is_some() {
        unseen(lanes)
    } else if actor.stamp.strong() && write.strong() {
        false
    } else if write.warp() == actor.stamp.warp() {
        let others = lanes & !(1 << write.lane());
        others != 0 && write.clock() >= actor.synced && unseen(others)
    } else {
        write.clock() > actor.clocks.of(write.warp()) && unseen(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Watch =
        Watch { bounds: true, initialized: true, races: true, pending: true, barriers: true, proxies: true };

    fn actor(clocks: &Clocks, warp: usize, synced: u32) -> Actor<'_> {
        let stamp = Stamp::new(clocks.of(warp), warp, 0, false, 9);
        Actor { stamp, clocks, learning: Box::leak(Box::default()), owner: 0, synced, floor: 0 }
    }

    fn check(outcome: Outcome) -> Option<Check> {
        outcome.err().map(|finding| finding.check)
    }

    #[test]
    fn warps_race_until_a_barrier_lies_between() {
        let mut shared = Shared::new(64, 2, 2, ALL, &[]);
        let (mut one, mut other) = (Clocks::new(1), Clocks::new(1));
        one.tick(0);
        other.tick(1);
        assert_eq!(check(shared.write(&actor(&one, 0, 2), 0, 0, 4, false)), None);
        assert_eq!(check(shared.read(&actor(&other, 1, 2), 0, 0, 4)), Some(Check::SharedRace));
        assert_eq!(check(shared.write(&actor(&other, 1, 2), 0, 0, 4, false)), Some(Check::SharedRace));
        other.join(&one);
        other.tick(1);
        assert_eq!(check(shared.read(&actor(&other, 1, 3), 0, 0, 4)), None);
        assert_eq!(check(shared.write(&actor(&one, 0, 2), 0, 0, 4, false)), Some(Check::SharedRace), "after a read");
    }

    #[test]
    fn lanes_race_until_the_warp_synchronises() {
        let mut shared = Shared::new(64, 1, 2, ALL, &[]);
        let mut clocks = Clocks::new(1);
        clocks.tick(0);
        assert_eq!(check(shared.write(&actor(&clocks, 0, 2), 3, 0, 4, false)), None);
        assert_eq!(check(shared.read(&actor(&clocks, 0, 2), 3, 0, 4)), None, "its own");
        assert_eq!(check(shared.read(&actor(&clocks, 0, 2), 4, 0, 4)), Some(Check::SharedRace));
        assert_eq!(check(shared.write(&actor(&clocks, 0, 2), 4, 0, 4, true)), Some(Check::SharedRace), "after a read");
        clocks.tick(0);
        assert_eq!(check(shared.read(&actor(&clocks, 0, 3), 4, 0, 4)), None);
    }

    #[test]
    fn bytes_must_be_written_and_copies_waited_for() {
        let mut shared = Shared::new(64, 1, 2, ALL, &[]);
        let clocks = Clocks::new(1);
        let me = || actor(&clocks, 0, 2);
        assert_eq!(check(shared.read(&me(), 0, 8, 4)), Some(Check::Initialized));
        assert_eq!(check(shared.begin_copy(&me(), 0, 0, 16)), None);
        assert_eq!(check(shared.read(&me(), 0, 12, 4)), Some(Check::PendingCopy));
        assert_eq!(check(shared.write(&me(), 0, 12, 4, false)), Some(Check::PendingCopy));
        shared.end_copy(me().stamp, 0, 0, 16);
        assert_eq!(check(shared.read(&me(), 0, 0, 16)), None);
        shared.restart(5);
        assert_eq!(check(shared.read(&me(), 0, 0, 4)), Some(Check::Initialized), "the next CTA finds nothing");
    }
}
