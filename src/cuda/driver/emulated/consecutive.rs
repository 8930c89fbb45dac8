//! Accesses that a warp makes as one: whole warps at consecutive bytes of global memory, and loads of parameters.
//!
//! They do what the way lane by lane does, at a fraction of its cost. Whatever has to be reported, or depends on the lane,
//! is left to that way: nothing has been done yet when these refuse.

use super::access::{Access, Addresses, extended, little};
use super::execute::Context;
use super::instr::{Base, Load, Order, Space, Store};
use super::memory::SECTOR;
use super::registers::{LANES, Register, Registers};

/// Bytes of one lane's access at most.
const MOST: usize = 16;

/// Where the bytes of a whole warp begin.
struct Run {
    segment: usize,
    offset: usize,
}

impl Context<'_, '_> {
    /// The bytes of all lanes, if they follow each other without gaps within one allocation.
    #[inline]
    fn run_of(&self, addresses: &Addresses, mask: u32, access: Access) -> Option<Run> {
        let first = addresses[0];
        let (step, mut gaps) = (access.bytes as u64, 0);
        for (lane, address) in addresses.iter().enumerate() {
            gaps |= address ^ first.wrapping_add(lane as u64 * step);
        }
        if gaps != 0 || mask != u32::MAX || access.strong || access.bytes > MOST {
            return None;
        }
        let spot = self.grid.memory.spot(first, LANES * access.bytes)?;
        Some(Run { segment: spot.segment, offset: spot.offset })
    }

    /// Counts the sectors of a run, as [`Self::count_global`] does those of lanes.
    pub(super) fn count_run(&mut self, segment: usize, offset: usize, bytes: usize, writes: bool) {
        let grid = &mut *self.grid;
        let Some(held) = grid.memory.segment_mut(segment) else { return };
        grid.counters.global_bytes += bytes as u64;
        for sector in offset / SECTOR..(offset + bytes - 1) / SECTOR + 1 {
            grid.counters.global_sectors += 1;
            let new = held.touch(sector, grid.first, writes);
            grid.counters.global_unique_bytes += if new { SECTOR as u64 } else { 0 };
        }
    }

    /// `ld` of global or constant memory by a whole warp at once; false if it must be done lane by lane.
    #[inline]
    pub(super) fn load_run(&mut self, load: &Load, addresses: &Addresses, mask: u32, access: Access) -> bool {
        let Some(run) = self.run_of(addresses, mask, access) else { return false };
        let bytes = LANES * access.bytes;
        let (checks, first) = (*self.checks(), self.grid.first);
        let Some(held) = self.grid.memory.segment_mut(run.segment) else { return false };
        held.reach(run.offset, bytes);
        let unwritten = checks.initialized && !held.is_whole() && !held.is_written_run(run.offset, bytes);
        let races = checks.global_races && held.trace.is_of(first);
        if unwritten || races && held.trace.written_since(run.offset, bytes, first).is_some() {
            return false;
        }
        scatter(&mut self.warp.registers, load, &held.data[run.offset..run.offset + bytes]);
        self.count_run(run.segment, run.offset, bytes, false);
        true
    }

    /// `st` to global memory by a whole warp at once; false if it must be done lane by lane.
    #[inline]
    pub(super) fn store_run(&mut self, store: &Store, addresses: &Addresses, mask: u32, access: Access) -> bool {
        let Some(run) = self.run_of(addresses, mask, access) else { return false };
        let (bytes, races) = (LANES * access.bytes, self.checks().global_races);
        let (first, shift, owner) = (self.grid.first, self.grid.footprint.global_shift, self.block.serial);
        let stamp = self.warp.stamp(false);
        let Some(held) = self.grid.memory.segment_mut(run.segment) else { return false };
        held.reach(run.offset, bytes);
        if races && !held.trace.is_of(first) {
            held.trace.begin(first, held.data.len(), shift);
        }
        if held.constant || races && held.trace.written_since(run.offset, bytes, first).is_some() {
            return false;
        }
        if races {
            for lane in 0..LANES {
                held.trace.note(run.offset + lane * access.bytes, access.bytes, owner, stamp.with_lane(lane));
            }
        }
        held.mark(run.offset, bytes);
        let mut new = [0; LANES * MOST];
        let new = &mut new[..bytes];
        gather(&self.warp.registers, store, new);
        let old = &mut held.data[run.offset..run.offset + bytes];
        let changed = *old != *new;
        old.copy_from_slice(new);
        self.grid.changes += u64::from(changed);
        self.count_run(run.segment, run.offset, bytes, true);
        true
    }

    /// `ld` of a parameter at a fixed place, the same for all lanes; false if it must be done lane by lane.
    #[inline]
    pub(super) fn load_parameter(&mut self, load: &Load, active: u32) -> bool {
        let bytes = usize::from(load.bytes);
        let all = bytes * usize::from(load.count);
        let at = load.address.offset as u64 as usize;
        let fixed = load.space == Space::Param && load.address.base == Base::None && load.order == Order::Weak;
        if !fixed || at & (all - 1) != 0 {
            return false;
        }
        let Some(held) = at.checked_add(all).and_then(|end| self.grid.params.get(at..end)) else { return false };
        for (register, bytes) in load.to.iter().zip(held.chunks_exact(bytes)) {
            self.warp.registers.fill(*register, extended(bytes, load.signed, load.half), active);
        }
        true
    }
}

/// Brings the elements of all lanes, which follow each other, into the registers of a load.
#[inline]
fn scatter(registers: &mut Registers, load: &Load, data: &[u8]) {
    let (bytes, count) = (usize::from(load.bytes), usize::from(load.count));
    for (element, register) in load.to.iter().take(count).enumerate() {
        let elements = data.chunks_exact(bytes * count).map(|lane| &lane[element * bytes..(element + 1) * bytes]);
        match (*register, bytes) {
            (Register::Sink, _) => {}
            (Register::Word(word), 4) => {
                let row = registers.word_mut(word).iter_mut();
                row.zip(elements).for_each(|(to, from)| *to = u32::from_le_bytes(little(from, 0)));
            }
            (Register::Wide(wide), 8) => {
                let row = registers.wide_mut(wide).iter_mut();
                row.zip(elements).for_each(|(to, from)| *to = u64::from_le_bytes(little(from, 0)));
            }
            (register, _) => elements.enumerate().for_each(|(lane, from)| {
                registers.set_lane(register, lane, extended(from, load.signed, load.half));
            }),
        }
    }
}

/// Lays out what all lanes store, one after the other.
#[inline]
fn gather(registers: &Registers, store: &Store, data: &mut [u8]) {
    let (bytes, count) = (usize::from(store.bytes), usize::from(store.count));
    for (element, register) in store.from.iter().take(count).enumerate() {
        let elements =
            data.chunks_exact_mut(bytes * count).map(|lane| &mut lane[element * bytes..(element + 1) * bytes]);
        match (*register, bytes) {
            (Register::Word(word), 4) => {
                let row = registers.word(word).iter();
                elements.zip(row).for_each(|(to, from)| to.copy_from_slice(&from.to_le_bytes()));
            }
            (register, _) => elements.zip(0..).for_each(|(to, lane)| {
                to.copy_from_slice(&registers.lane(register, lane).to_le_bytes()[..bytes]);
            }),
        }
    }
}
