//! `cp.async` (PTX ISA 9.7.9.25.3): copies that take effect as late, or as early, as the program allows.
//!
//! Between its start and the wait that covers it a copy's destination holds NaN patterns (unless the copy was carried
//! out early) and may not be touched, nor may its source change. Groups are counted per thread.

use super::access::{Access, Addresses, Offsets, copy_bytes};
use super::checks::{Completion, STREAM_COPIES};
use super::clocks::Stamp;
use super::execute::{Context, lanes};
use super::instr::{CpAsync, Space};
use super::registers::LANES;
use super::report::{Check, Finding, Outcome, Place};
use crate::base::Rng;

/// What destinations hold while a copy is under way: NaN in every float format.
pub(super) const POISON: u8 = 0xff;

/// Bytes that one lane copies at most.
const MOST: usize = 16;

/// One instruction's copies, of those lanes that have not waited yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    mask: u32,
    to: Offsets,
    from: Addresses,
    /// Bytes read per lane; the rest is zero.
    read: [u8; LANES],
    bytes: usize,
    group: [u32; LANES],
    carried_out: bool,
    /// What the source held at the start, where that is checked.
    source: Option<Box<[[u8; MOST]; LANES]>>,
    /// Its instruction.
    pc: usize,
}

/// The copies that a warp has started.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    pending: Vec<Pending>,
    /// Groups that each lane has closed.
    committed: [u32; LANES],
}

impl Copies {
    /// `cp.async.commit_group`: the copies so far are a group.
    pub fn commit(&mut self, active: u32) {
        lanes(active).for_each(|lane| self.committed[lane] += 1);
    }

    /// Takes out the copies that these lanes have not waited for.
    pub fn take(&mut self, active: u32) -> Vec<Pending> {
        let all = self.pending.iter().map(|pending| Pending { mask: pending.mask & active, ..pending.clone() });
        let taken = all.filter(|pending| pending.mask != 0).collect();
        self.pending.iter_mut().for_each(|pending| pending.mask &= !active);
        self.pending.retain(|pending| pending.mask != 0);
        taken
    }
}

impl Context<'_, '_> {
    /// `cp.async`.
    pub(super) fn copy_async(&mut self, copy: &CpAsync, active: u32) -> Outcome {
        let bytes = usize::from(copy.bytes);
        let access = |what| Access::weak(what, bytes);
        let (targets, from) = (self.addresses(&copy.to), self.addresses(&copy.from));
        self.check_alignment(Space::Shared, &targets, active, access("copy"))?;
        let ignored = copy.ignore_source.map_or(0, |guard| self.guarded(guard, active));
        let mut read = [copy.bytes; LANES];
        if let Some(sizes) = copy.source_bytes {
            let row = self.warp.registers.word(sizes);
            let long = |lane: &usize| row[*lane] > u32::from(copy.bytes);
            if let Some(lane) = lanes(active & !ignored).find(long).filter(|_| self.checks().bounds) {
                let text = format!("cp.async of {bytes} bytes with a source of {}, which is more", row[lane]);
                return Err(Finding::new(Check::Bounds, lane, text));
            }
            (0..LANES).for_each(|lane| read[lane] = copy.bytes.min(row[lane].min(255) as u8));
        }
        lanes(ignored).for_each(|lane| read[lane] = 0);
        let reads = lanes(active).filter(|lane| read[*lane] > 0).fold(0, |mask, lane| mask | 1 << lane);
        self.check_alignment(Space::Global, &from, reads, access("copy"))?;
        self.check_sources(&from, &read, reads)?;
        let (to, mask) = self.shared_spots(&targets, active, access("copy"))?;
        let carried_out = self.is_early();
        let group = self.warp.copies.committed;
        let source = self.checks().pending_copies.then(|| self.sources(&from, &read, mask & reads));
        let pending = Pending { mask, to, from, read, bytes, group, carried_out, source, pc: self.warp.pc };
        for lane in lanes(mask) {
            let actor = self.warp.actor(false, self.block.serial);
            self.block.shared.begin_copy(&actor, lane, to[lane], bytes)?;
            self.block.shared.data_mut()[to[lane]..to[lane] + bytes].fill(POISON);
            if carried_out {
                self.carry_out(&pending, lane);
            }
        }
        self.warp.copies.pending.push(pending);
        Ok(())
    }

    /// Checks what the lanes will read. Most copies read as much in every lane, so they are checked size by size.
    fn check_sources(&mut self, from: &Addresses, read: &[u8; LANES], reads: u32) -> Outcome {
        let mut rest = reads;
        while rest != 0 {
            let size = read[rest.trailing_zeros() as usize % LANES];
            let alike = lanes(rest).filter(|lane| read[*lane] == size).fold(0, |mask, lane| mask | 1 << lane);
            rest &= !alike;
            let access = Access::weak("copy from", usize::from(size));
            let mut left = alike;
            while let Some((segment, offsets, found)) = self.global_spots(from, &mut left, access)? {
                self.count_global(segment, &offsets, found, access.bytes, false);
                self.check_global_read(segment, &offsets, found, access, false)?;
            }
        }
        Ok(())
    }

    fn sources(&self, from: &Addresses, read: &[u8; LANES], mask: u32) -> Box<[[u8; MOST]; LANES]> {
        let mut held = Box::new([[0; MOST]; LANES]);
        for lane in lanes(mask) {
            let count = usize::from(read[lane]);
            if let Some(bytes) = self.grid.memory.bytes(from[lane], count) {
                copy_bytes(&mut held[lane][..count], bytes);
            }
        }
        held
    }

    /// Looks for a source that changed between the start of a copy and the wait for it.
    fn check_source(&self, pending: &Pending, lane: usize) -> Outcome {
        let (at, count) = (pending.from[lane], usize::from(pending.read[lane]));
        let (Some(held), Some(bytes)) = (&pending.source, self.grid.memory.bytes(at, count)) else { return Ok(()) };
        if *bytes == held[lane][..count] {
            return Ok(());
        }
        let begun = Place::of(self.grid.function, pending.pc);
        let place = self.grid.memory.describe(at);
        let text =
            format!("the source of the copy begun at {begun}, {count} bytes at {place}, changed before this wait");
        let finding = Finding::new(Check::PendingCopy, lane, text);
        let spot = self.grid.memory.spot(at, count);
        let held = spot.and_then(|spot| Some((spot, self.grid.memory.segment(spot.segment)?)));
        let writer = held.and_then(|(spot, held)| held.trace.written_since(spot.offset, count, self.grid.first));
        Err(match writer {
            Some((_, stamp)) => finding.against(stamp.pc()),
            None => finding,
        })
    }

    /// Whether a copy, or its arrival, takes effect at once.
    pub(super) fn is_early(&mut self) -> bool {
        match self.grid.options.completion {
            Completion::Late => false,
            Completion::Early => true,
            Completion::Random => {
                self.grid.choices += 1;
                Rng::new(self.grid.options.seed, STREAM_COPIES, self.grid.choices).chance(0.5)
            }
        }
    }

    fn carry_out(&mut self, pending: &Pending, lane: usize) {
        let (to, bytes, read) = (pending.to[lane], pending.bytes, usize::from(pending.read[lane]));
        let target = &mut self.block.shared.data_mut()[to..to + bytes];
        target.fill(0);
        if let Some(source) = self.grid.memory.bytes(pending.from[lane], read) {
            copy_bytes(&mut target[..read], source);
        }
    }

    /// `cp.async.wait_group`: all but the `youngest` last groups of each lane are complete, also those that will arrive at
    /// an mbarrier.
    pub(super) fn wait_copies(&mut self, active: u32, youngest: u32) -> Outcome {
        let mut copies = std::mem::take(&mut self.warp.copies.pending);
        self.wait_for(&mut copies, active, youngest, self.warp.stamp(false))?;
        self.warp.copies.pending = copies;
        let mut arriving = self.block.mbarriers.take_arriving();
        let warp = self.warp.index;
        for arrival in arriving.iter_mut().filter(|arrival| arrival.warp == warp) {
            self.wait_for(&mut arrival.copies, active, youngest, arrival.stamp)?;
        }
        self.block.mbarriers.put_arriving(arriving);
        Ok(())
    }

    fn wait_for(&mut self, copies: &mut Vec<Pending>, active: u32, youngest: u32, stamp: Stamp) -> Outcome {
        for pending in copies.iter_mut() {
            let closed = |lane: &usize| {
                u64::from(pending.group[*lane]) + u64::from(youngest) < u64::from(self.warp.copies.committed[*lane])
            };
            let done = lanes(pending.mask & active).filter(closed).fold(0, |mask, lane| mask | 1 << lane);
            self.complete(pending, done, stamp)?;
        }
        copies.retain(|pending| pending.mask != 0);
        Ok(())
    }

    /// The copies of some lanes are complete, as if written now by who has this stamp.
    pub(super) fn complete(&mut self, pending: &mut Pending, done: u32, stamp: Stamp) -> Outcome {
        let done = pending.mask & done;
        self.grid.changes += u64::from(done != 0);
        for lane in lanes(done) {
            self.check_source(pending, lane)?;
            if !pending.carried_out {
                self.carry_out(pending, lane);
            }
            self.block.shared.end_copy(stamp, lane, pending.to[lane], pending.bytes);
        }
        pending.mask &= !done;
        Ok(())
    }
}
