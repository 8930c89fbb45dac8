//! Loads and stores (PTX ISA 9.7.9): addresses, checks, and the bytes of 32 lanes.

use super::execute::{Context, lanes, scope_of};
use super::instr::{
    Address, Base, LOCAL_WINDOW, Load, Order, PARAM_WINDOW, SHARED_WINDOW, Scope, Space, Store, WINDOW_BYTES,
};
use super::memory::{SECTOR, Spot};
use super::order::Party;
use super::registers::{LANES, Register, Registers};
use super::report::{Check, Finding, Outcome};

/// One address per lane.
pub(super) type Addresses = [u64; LANES];

/// Byte offsets per lane into one piece of memory.
pub(super) type Offsets = [usize; LANES];

/// What an access is, for its checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Verb for reports.
    pub what: &'static str,
    /// Bytes per lane.
    pub bytes: usize,
    /// Whether it is volatile, relaxed or stronger.
    pub strong: bool,
}

/// The state space that a generic address lies in, and the address there.
#[inline]
pub(super) fn resolve(address: u64) -> (Space, u64) {
    let windows = [(SHARED_WINDOW, Space::Shared), (LOCAL_WINDOW, Space::Local), (PARAM_WINDOW, Space::Param)];
    if address < SHARED_WINDOW {
        return (Space::Global, address);
    }
    let found = windows.into_iter().find(|(base, _)| address.wrapping_sub(*base) < WINDOW_BYTES);
    found.map_or((Space::Global, address), |(base, space)| (space, address - base))
}

/// Whether a memory order makes an access strong (8.4).
pub(super) fn is_strong(order: Order) -> bool {
    scope_of(order).is_some()
}

/// Whether the offsets of all 32 lanes follow each other without gaps.
#[inline]
fn contiguous(offsets: &Offsets, mask: u32, bytes: usize) -> bool {
    mask == u32::MAX && offsets.iter().enumerate().all(|(lane, offset)| *offset == offsets[0] + lane * bytes)
}

impl Context<'_, '_> {
    /// The address of every lane.
    #[inline]
    pub(super) fn addresses(&self, address: &Address) -> Addresses {
        let offset = address.offset as u64;
        match address.base {
            Base::None => [offset; LANES],
            Base::Word(word) => self.warp.registers.word(word).map(|base| u64::from(base).wrapping_add(offset)),
            Base::Wide(wide) => self.warp.registers.wide(wide).map(|base| base.wrapping_add(offset)),
        }
    }

    /// Does something for the lanes of each state space: generic addresses may lie in different ones.
    #[inline]
    pub(super) fn by_space(
        &mut self,
        space: Space,
        mut addresses: Addresses,
        active: u32,
        mut act: impl FnMut(&mut Self, Space, &Addresses, u32) -> Outcome,
    ) -> Outcome {
        if space != Space::Generic {
            return act(self, space, &addresses, active);
        }
        let mut spaces = [Space::Global; LANES];
        for lane in lanes(active) {
            (spaces[lane], addresses[lane]) = resolve(addresses[lane]);
        }
        for space in [Space::Global, Space::Shared, Space::Local, Space::Param] {
            let mask = lanes(active).filter(|lane| spaces[*lane] == space).fold(0, |mask, lane| mask | 1 << lane);
            if mask != 0 {
                act(self, space, &addresses, mask)?;
            }
        }
        Ok(())
    }

    /// `ld`.
    pub(super) fn load(&mut self, load: &Load, active: u32) -> Outcome {
        let bytes = usize::from(load.bytes) * usize::from(load.count);
        let access = Access { what: "read", bytes, strong: is_strong(load.order) };
        let addresses = self.addresses(&load.address);
        self.by_space(load.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(addresses, mask, access)?;
            match space {
                Space::Shared => this.load_shared(load, addresses, mask, access),
                Space::Local | Space::Param => this.load_private(load, space, addresses, mask, access),
                Space::Global | Space::Const | Space::Generic => this.load_global(load, addresses, mask, access),
            }
        })?;
        if matches!(load.order, Order::Acquire(_)) {
            self.warp.learning.acquire(&mut self.warp.clocks, self.block.serial);
            self.warp.settle_floor();
        }
        Ok(())
    }

    /// `st`.
    pub(super) fn store(&mut self, store: &Store, active: u32) -> Outcome {
        let bytes = usize::from(store.bytes) * usize::from(store.count);
        let access = Access { what: "write", bytes, strong: is_strong(store.order) };
        if let Order::Release(scope) = store.order {
            self.release(scope, active);
        }
        self.grid.changes += 1;
        let addresses = self.addresses(&store.address);
        self.by_space(store.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(addresses, mask, access)?;
            match space {
                Space::Shared => this.store_shared(store, addresses, mask, access),
                Space::Local => this.store_local(store, addresses, mask, access),
                Space::Param | Space::Const => {
                    Err(Finding::new(Check::Bounds, mask.trailing_zeros() as usize, "write to read-only memory"))
                }
                Space::Global | Space::Generic => this.store_global(store, addresses, mask, access),
            }
        })
    }

    /// What a release does before the access itself.
    pub(super) fn release(&mut self, scope: Scope, active: u32) {
        let owner = self.block.serial;
        self.warp.fence(owner, active, (scope == Scope::Cta).then_some(owner));
    }

    /// Looks for addresses that are no multiple of the access's size.
    #[inline]
    pub(super) fn check_alignment(&self, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let low = access.bytes as u64 - 1;
        if !self.checks().alignment || lanes(mask).fold(0, |any, lane| any | addresses[lane]) & low == 0 {
            return Ok(());
        }
        let lane = lanes(mask).find(|lane| addresses[*lane] & low != 0).unwrap_or(0);
        let text = format!("{} of {} bytes at {:#x}", access.what, access.bytes, addresses[lane]);
        Err(Finding::new(Check::Alignment, lane, text))
    }

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

    fn load_global(&mut self, load: &Load, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let mut rest = mask;
        let mut done = 0;
        while let Some((segment, offsets, found)) = self.global_spots(addresses, &mut rest, access)? {
            self.count_global(segment, &offsets, found, access.bytes);
            self.check_global_read(segment, &offsets, found, access, load.non_coherent)?;
            if access.strong {
                self.observe(addresses, found);
            }
            if let Some(held) = self.grid.memory.segment(segment) {
                read_rows(&mut self.warp.registers, load, &held.data, &offsets, found);
            }
            done |= found;
        }
        zero_rows(&mut self.warp.registers, load, mask & !done);
        Ok(())
    }

    fn store_global(&mut self, store: &Store, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let mut rest = mask;
        while let Some((segment, offsets, found)) = self.global_spots(addresses, &mut rest, access)? {
            self.count_global(segment, &offsets, found, access.bytes);
            let mut bytes = [[0; 32]; LANES];
            gather(&self.warp.registers, store, &mut bytes, found);
            self.write_global(segment, &offsets, found, access, Some(&bytes))?;
            if access.strong {
                self.publish(addresses, found, false);
            }
        }
        Ok(())
    }

    /// Counts sectors, and those of them that the launch touches for the first time.
    pub(super) fn count_global(&mut self, segment: usize, offsets: &Offsets, mask: u32, bytes: usize) {
        let grid = &mut *self.grid;
        let Some(held) = grid.memory.segment_mut(segment) else { return };
        grid.counters.global_bytes += u64::from(mask.count_ones()) * bytes as u64;
        let (mut sectors, mut count, mut sorted) = ([0u32; 2 * LANES], 0, true);
        for lane in lanes(mask) {
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
            let new = held.touch(sector as usize, grid.first);
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
        let party = self.party(access.strong);
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
        let (stamp, owner) = (self.warp.stamp(access.strong), self.block.serial);
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
            synced: self.warp.synced,
            clocks: &self.warp.clocks,
            learned: &self.warp.learning.learned,
        };
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
                copy_bytes(&mut held.data[at..end], &new[lane][..access.bytes]);
            }
        }
        Ok(())
    }

    fn party(&self, strong: bool) -> Party<'_> {
        Party {
            first: self.grid.first,
            owner: self.block.serial,
            warp: self.warp.index,
            strong,
            synced: self.warp.synced,
            clocks: &self.warp.clocks,
            learned: &self.warp.learning.learned,
        }
    }

    #[cold]
    fn global_race(
        &self,
        does: &str,
        segment: usize,
        offset: usize,
        lane: usize,
        (owner, stamp): (u32, super::clocks::Stamp),
    ) -> Box<Finding> {
        let label = self.grid.memory.segment(segment).map_or("", |held| held.label.as_str());
        let (warp, other) = stamp.party();
        let text = if owner == self.block.serial {
            format!("{does} byte {offset} of {label}, which warp {warp} lane {other} wrote, and nothing orders the two")
        } else {
            let [x, y, z] = super::warp::thread_index((owner - self.grid.first) as usize, self.grid.shape.launch.grid);
            format!(
                "{does} byte {offset} of {label}, which block ({x},{y},{z}) warp {warp} lane {other} wrote in this \
                 launch, without release and acquire between them"
            )
        };
        Finding::new(Check::GlobalRace, lane, text).against(stamp.pc())
    }

    /// Strong reads learn what the writers of these locations had released.
    pub(super) fn observe(&mut self, addresses: &Addresses, mask: u32) {
        for lane in lanes(mask) {
            self.warp.learning.see(self.grid.locations.observe(addresses[lane], self.block.serial));
        }
    }

    /// Strong writes publish what the warp has released.
    pub(super) fn publish(&mut self, addresses: &Addresses, mask: u32, keeps: bool) {
        for lane in lanes(mask) {
            self.grid.locations.publish(addresses[lane], self.warp.learning.released(), keeps);
        }
    }

    /// Offsets of lanes in shared memory; lanes that point outside are faults, or are left out without the check.
    pub(super) fn shared_spots(&mut self, addresses: &Addresses, mask: u32, access: Access) -> Outcome<(Offsets, u32)> {
        let (mut offsets, mut found) = ([0; LANES], 0);
        for lane in lanes(mask) {
            match self.block.shared.spot(addresses[lane], access.bytes) {
                Some(offset) => {
                    offsets[lane] = offset;
                    found |= 1 << lane;
                }
                None if self.checks().bounds => {
                    return Err(self.block.shared.outside(addresses[lane], access.bytes, access.what, lane));
                }
                None => {}
            }
        }
        let numbers = offsets.map(|offset| offset as u32);
        self.grid.counters.shared_conflicts += super::counters::bank_conflicts(&numbers, found, access.bytes);
        Ok((offsets, found))
    }

    fn load_shared(&mut self, load: &Load, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let (offsets, found) = self.shared_spots(addresses, mask, access)?;
        let warp = &mut *self.warp;
        let actor = warp.actor(access.strong, self.block.serial);
        for lane in lanes(found) {
            self.block.shared.read(&actor, lane, offsets[lane], access.bytes)?;
        }
        if access.strong {
            for lane in lanes(found) {
                warp.learning.see(self.block.locations.observe(addresses[lane], self.block.serial));
            }
        }
        read_rows(&mut warp.registers, load, self.block.shared.data(), &offsets, found);
        zero_rows(&mut warp.registers, load, mask & !found);
        Ok(())
    }

    fn store_shared(&mut self, store: &Store, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let (offsets, found) = self.shared_spots(addresses, mask, access)?;
        let mut bytes = [[0; 32]; LANES];
        gather(&self.warp.registers, store, &mut bytes, found);
        for lane in lanes(found) {
            self.write_shared(lane, offsets[lane], &bytes[lane][..access.bytes], access.strong)?;
            if access.strong {
                let released = self.warp.learning.released();
                self.block.locations.publish(addresses[lane], released, false);
            }
        }
        Ok(())
    }

    /// Writes one lane's bytes to shared memory.
    #[inline]
    pub(super) fn write_shared(&mut self, lane: usize, offset: usize, bytes: &[u8], strong: bool) -> Outcome {
        let (actor, shared) = (self.warp.actor(strong, self.block.serial), &mut self.block.shared);
        let same = shared.data()[offset..offset + bytes.len()] == *bytes;
        shared.write(&actor, lane, offset, bytes.len(), same)?;
        copy_bytes(&mut shared.data_mut()[offset..offset + bytes.len()], bytes);
        Ok(())
    }

    /// Offsets of lanes in local memory or in the parameters.
    fn private_spots(&self, space: Space, addresses: &Addresses, mask: u32, access: Access) -> Outcome<(Offsets, u32)> {
        let local = space == Space::Local;
        let held = if local { self.warp.local.len() / LANES } else { self.grid.params.len() };
        let (mut offsets, mut found) = ([0; LANES], 0);
        for lane in lanes(mask) {
            let at = addresses[lane];
            if at.checked_add(access.bytes as u64).is_some_and(|end| end <= held as u64) {
                offsets[lane] = at as usize + if local { lane * held } else { 0 };
                found |= 1 << lane;
            } else if self.checks().bounds {
                let place = if local { "local memory, of which a thread has" } else { "the parameters, which have" };
                let text = format!("{} of {} bytes at {at:#x} of {place} {held} bytes", access.what, access.bytes);
                return Err(Finding::new(Check::Bounds, lane, text));
            }
        }
        Ok((offsets, found))
    }

    fn load_private(&mut self, load: &Load, space: Space, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let (offsets, found) = self.private_spots(space, addresses, mask, access)?;
        let warp = &mut *self.warp;
        let data = if space == Space::Local { &warp.local } else { self.grid.params };
        read_rows(&mut warp.registers, load, data, &offsets, found);
        zero_rows(&mut warp.registers, load, mask & !found);
        Ok(())
    }

    fn store_local(&mut self, store: &Store, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let (offsets, found) = self.private_spots(Space::Local, addresses, mask, access)?;
        let mut bytes = [[0; 32]; LANES];
        gather(&self.warp.registers, store, &mut bytes, found);
        for lane in lanes(found) {
            let to = &mut self.warp.local[offsets[lane]..offsets[lane] + access.bytes];
            copy_bytes(to, &bytes[lane][..access.bytes]);
        }
        Ok(())
    }
}

/// Copies a few bytes; the common sizes without a call.
#[inline]
pub(super) fn copy_bytes(to: &mut [u8], from: &[u8]) {
    if let (Ok(to), Ok(from)) = (<&mut [u8; 4]>::try_from(&mut *to), <&[u8; 4]>::try_from(from)) {
        *to = *from;
    } else if let (Ok(to), Ok(from)) = (<&mut [u8; 16]>::try_from(&mut *to), <&[u8; 16]>::try_from(from)) {
        *to = *from;
    } else {
        to.copy_from_slice(from);
    }
}

#[inline]
fn little<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[at..at + N]);
    bytes
}

/// Brings the elements of a load into its registers.
#[inline]
fn read_rows(registers: &mut Registers, load: &Load, data: &[u8], offsets: &Offsets, mask: u32) {
    let bytes = usize::from(load.bytes);
    for (element, register) in load.to.iter().take(usize::from(load.count)).enumerate() {
        let skip = element * bytes;
        match (*register, load.bytes) {
            (Register::Word(word), 4) if load.count == 1 && contiguous(offsets, mask, 4) => {
                let from = data[offsets[0]..offsets[0] + 4 * LANES].chunks_exact(4);
                registers
                    .word_mut(word)
                    .iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = u32::from_le_bytes(little(from, 0)));
            }
            (Register::Word(word), 4) => {
                let row = registers.word_mut(word);
                lanes(mask).for_each(|lane| row[lane] = u32::from_le_bytes(little(data, offsets[lane] + skip)));
            }
            (Register::Word(word), 2) if !load.signed => {
                let row = registers.word_mut(word);
                lanes(mask)
                    .for_each(|lane| row[lane] = u32::from(u16::from_le_bytes(little(data, offsets[lane] + skip))));
            }
            (Register::Wide(wide), 8) => {
                let row = registers.wide_mut(wide);
                lanes(mask).for_each(|lane| row[lane] = u64::from_le_bytes(little(data, offsets[lane] + skip)));
            }
            (Register::Sink, _) => {}
            (register, _) => lanes(mask).for_each(|lane| {
                let at = offsets[lane] + skip;
                registers.set_lane(register, lane, extended(&data[at..at + bytes], load.signed, load.half));
            }),
        }
    }
}

/// A value of 1 to 8 bytes, extended to its register.
fn extended(bytes: &[u8], signed: bool, half: bool) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(word);
    let unused = 64 - 8 * bytes.len() as u32;
    let value = if signed { ((value << unused) as i64 >> unused) as u64 } else { value };
    if half { value & 0xffff } else { value }
}

fn zero_rows(registers: &mut Registers, load: &Load, mask: u32) {
    for register in load.to.iter().take(usize::from(load.count)) {
        lanes(mask).for_each(|lane| registers.set_lane(*register, lane, 0));
    }
}

/// Lays out what a store writes, lane by lane.
#[inline]
fn gather(registers: &Registers, store: &Store, bytes: &mut [[u8; 32]; LANES], mask: u32) {
    let width = usize::from(store.bytes);
    for (element, register) in store.from.iter().take(usize::from(store.count)).enumerate() {
        let at = element * width;
        match (*register, width) {
            (Register::Word(word), 4) => {
                let row = registers.word(word);
                lanes(mask).for_each(|lane| bytes[lane][at..at + 4].copy_from_slice(&row[lane].to_le_bytes()));
            }
            (register, _) => lanes(mask).for_each(|lane| {
                let value = registers.lane(register, lane).to_le_bytes();
                bytes[lane][at..at + width].copy_from_slice(&value[..width]);
            }),
        }
    }
}
