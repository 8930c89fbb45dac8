//! Accesses to global memory: where lanes point, what is checked, counted and noted, and the bytes themselves.

use super::access::{Access, Addresses, Offsets, by_address, copy_bytes, gather, read_rows, zero_rows};
use super::clocks::Stamp;
use super::execute::{Context, lanes};
use super::instr::{Load, Store};
use super::memory::{SECTOR, Spot};
use super::order::Party;
use super::registers::LANES;
use super::report::{Check, Finding, Outcome};

impl Context<'_, '_> {
    /// Where lanes of global memory point: the segment that the first lane's bytes lie in, and the lanes (with their
    /// offsets) whose bytes lie there too. Lanes that point nowhere are faults, or are left out without the check.
    pub(super) fn global_spots(
        &self,
        addresses: &Addresses,
        mask: &mut u32,
        access: Access,
    ) -> Outcome<Option<(usize, Offsets, u32)>> {
        let mut offsets = [0; LANES];
        let (mut found, mut segment, mut end) = (0, None, 0);
        for lane in lanes(*mask) {
            let address = addresses[lane];
            if segment == Some(address >> 32) && address as u32 as usize + access.bytes <= end {
                offsets[lane] = address as u32 as usize;
                found |= 1 << lane;
                continue;
            }
            match self.grid.memory.spot(address, access.bytes) {
                Some(spot) if segment.is_none() => {
                    segment = Some(address >> 32);
                    end = self.grid.memory.segment(spot.segment).map_or(0, |held| held.data.len());
                    offsets[lane] = spot.offset;
                    found |= 1 << lane;
                }
                Some(_) => {}
                None if self.checks().bounds => {
                    return Err(self.grid.memory.outside(address, access.bytes, access.what, lane));
                }
                None => *mask &= !(1 << lane),
            }
        }
        *mask &= !found;
        let first = lanes(found).next().and_then(|lane| self.grid.memory.spot(addresses[lane], access.bytes));
        Ok(first.map(|spot| (spot.segment, offsets, found)))
    }

    /// `ld` of global or constant memory.
    pub(super) fn load_global(&mut self, load: &Load, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        if self.load_run(load, addresses, mask, access) {
            return Ok(());
        }
        let mut rest = mask;
        let mut done = 0;
        while let Some((segment, offsets, found)) = self.global_spots(addresses, &mut rest, access)? {
            self.count_global(segment, &offsets, found, access.bytes, false);
            self.check_global_read(segment, &offsets, found, access, load.non_coherent)?;
            if access.strong {
                self.observe(addresses, found, access.wide);
            }
            if let Some(held) = self.grid.memory.segment(segment) {
                read_rows(&mut self.warp.registers, load, &held.data, &offsets, found);
            }
            done |= found;
        }
        zero_rows(&mut self.warp.registers, load, mask & !done);
        Ok(())
    }

    /// `st` to global memory.
    pub(super) fn store_global(&mut self, store: &Store, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        if self.store_run(store, addresses, mask, access) {
            return Ok(());
        }
        let mut rest = mask;
        while let Some((segment, offsets, found)) = self.global_spots(addresses, &mut rest, access)? {
            self.count_global(segment, &offsets, found, access.bytes, true);
            let mut bytes = [[0; 32]; LANES];
            gather(&self.warp.registers, store, &mut bytes, found);
            self.write_global(segment, &offsets, found, access, Some(&bytes))?;
            if access.strong {
                self.publish(addresses, found, false, access.wide);
            }
        }
        Ok(())
    }

    /// Counts sectors, and those of them that the launch touches for the first time. What memory holds from the start is
    /// made there, for this comes before every access.
    pub(super) fn count_global(&mut self, segment: usize, offsets: &Offsets, mask: u32, bytes: usize, writes: bool) {
        let grid = &mut *self.grid;
        let Some(held) = grid.memory.segment_mut(segment) else { return };
        grid.counters.global_bytes += u64::from(mask.count_ones()) * bytes as u64;
        let (mut sectors, mut count, mut sorted) = ([0u32; 2 * LANES], 0, true);
        for lane in lanes(mask) {
            held.reach(offsets[lane], bytes);
            for sector in offsets[lane] / SECTOR..(offsets[lane] + bytes - 1) / SECTOR + 1 {
                let (sector, last) = (sector as u32, if count == 0 { None } else { Some(sectors[count - 1]) });
                if last != Some(sector) {
                    sorted &= last.is_none_or(|last| last < sector);
                    sectors[count % (2 * LANES)] = sector;
                    count += 1;
                }
            }
        }
        let sectors = &mut sectors[..count.min(2 * LANES)];
        if !sorted {
            sectors.sort_unstable();
        }
        let mut last = None;
        for sector in sectors.iter().copied().filter(|sector| last.replace(*sector) != Some(*sector)) {
            grid.counters.global_sectors += 1;
            let new = held.touch(sector as usize, grid.first, writes);
            grid.counters.global_unique_bytes += if new { SECTOR as u64 } else { 0 };
        }
    }

    /// Checks of global reads: initialised, not racing, and read-only where `.nc` promises it.
    pub(super) fn check_global_read(
        &self,
        segment: usize,
        offsets: &Offsets,
        mask: u32,
        access: Access,
        non_coherent: bool,
    ) -> Outcome {
        let Some(held) = self.grid.memory.segment(segment) else { return Ok(()) };
        if self.checks().initialized && !held.is_whole() {
            for lane in lanes(mask) {
                self.grid.memory.require_written(Spot { segment, offset: offsets[lane] }, access.bytes, lane)?;
            }
        }
        if !self.checks().global_races || !held.trace.is_of(self.grid.first) {
            return Ok(());
        }
        let party = self.party(access);
        for lane in lanes(mask) {
            if let Some(other) = held.trace.conflict(offsets[lane], access.bytes, &party, lane) {
                return Err(self.global_race("reads", segment, offsets[lane], lane, other));
            }
            if let Some((_, stamp)) =
                held.trace.written_since(offsets[lane], access.bytes, self.grid.first).filter(|_| non_coherent)
            {
                let text =
                    format!("ld.global.nc of byte {} of {}, which this launch has written", offsets[lane], held.label);
                return Err(Finding::new(Check::GlobalRace, lane, text).against(stamp.pc()));
            }
        }
        Ok(())
    }

    /// Checks global writes lane by lane, notes who wrote, and writes `new` if it is known already. Writes that change
    /// nothing do not race.
    pub(super) fn write_global(
        &mut self,
        segment: usize,
        offsets: &Offsets,
        mask: u32,
        access: Access,
        new: Option<&[[u8; 32]; LANES]>,
    ) -> Outcome {
        let (first, shift, races) = (self.grid.first, self.grid.footprint.global_shift, self.checks().global_races);
        let (stamp, owner) = (self.warp.stamp(access.strong).with_wide(access.wide), self.block.serial);
        let Some(held) = self.grid.memory.segment_mut(segment) else { return Ok(()) };
        if held.constant {
            let text = format!("write to constant memory, {}", held.label);
            return Err(Finding::new(Check::Bounds, mask.trailing_zeros() as usize, text));
        }
        if races && !held.trace.is_of(first) {
            held.trace.begin(first, held.data.len(), shift);
        }
        let party = Party {
            first,
            owner,
            warp: self.warp.index,
            strong: access.strong,
            wide: access.wide,
            synced: self.warp.synced,
            clocks: &self.warp.clocks,
            learning: &self.warp.learning,
        };
        let mut changed = false;
        for lane in lanes(mask) {
            let (at, end) = (offsets[lane], offsets[lane] + access.bytes);
            held.mark(at, access.bytes);
            if races {
                if let Some(other) = held.trace.conflict(at, access.bytes, &party, lane)
                    && new.is_none_or(|new| held.data[at..end] != new[lane][..access.bytes])
                {
                    return Err(self.global_race("writes", segment, at, lane, other));
                }
                held.trace.note(at, access.bytes, owner, stamp.with_lane(lane));
            }
            if let Some(new) = new {
                changed = changed || held.data[at..end] != new[lane][..access.bytes];
                copy_bytes(&mut held.data[at..end], &new[lane][..access.bytes]);
            }
        }
        self.grid.changes += u64::from(changed);
        Ok(())
    }

    pub(super) fn party(&self, access: Access) -> Party<'_> {
        Party {
            first: self.grid.first,
            owner: self.block.serial,
            warp: self.warp.index,
            strong: access.strong,
            wide: access.wide,
            synced: self.warp.synced,
            clocks: &self.warp.clocks,
            learning: &self.warp.learning,
        }
    }

    #[cold]
    pub(super) fn global_race(
        &self,
        does: &str,
        segment: usize,
        offset: usize,
        lane: usize,
        (owner, stamp): (u32, Stamp),
    ) -> Box<Finding> {
        let label = self.grid.memory.segment(segment).map_or("", |held| held.label.as_str());
        let party = self.grid.party(self.block, owner, stamp);
        let text = if owner == self.block.serial {
            format!("{does} byte {offset} of {label}, which {party} wrote, and nothing orders the two")
        } else {
            format!(
                "{does} byte {offset} of {label}, which {party} wrote in this launch, without release and acquire \
                 between them"
            )
        };
        Finding::new(Check::GlobalRace, lane, text).against(stamp.pc())
    }

    /// Strong reads learn what the writers of these locations had released.
    pub(super) fn observe(&mut self, addresses: &Addresses, mask: u32, wide: bool) {
        for (address, lanes) in by_address(addresses, mask) {
            self.warp.learning.see(lanes, self.grid.locations.observe(address, self.block.serial), wide);
        }
    }

    /// Strong writes publish what the warp has released.
    pub(super) fn publish(&mut self, addresses: &Addresses, mask: u32, keeps: bool, wide: bool) {
        for lane in lanes(mask) {
            self.grid.locations.publish(addresses[lane], self.warp.learning.released(), keeps, wide);
        }
    }
}
