//! Loads and stores (PTX ISA 9.7.9): addresses, alignment, shared, local and parameter memory, and the bytes of 32 lanes.

use super::execute::{Context, is_wide, lanes, scope_of};
use super::instr::{
    Address, Base, LOCAL_WINDOW, Load, Order, PARAM_WINDOW, SHARED_WINDOW, Scope, Space, Store, WINDOW_BYTES,
};
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
    /// Whether it is so at a scope that takes in other CTAs.
    pub wide: bool,
}

impl Access {
    /// A plain access.
    pub(super) fn weak(what: &'static str, bytes: usize) -> Self {
        Self { what, bytes, strong: false, wide: false }
    }

    /// An access with a memory order (8.4).
    pub(super) fn ordered(what: &'static str, bytes: usize, order: Order) -> Self {
        let scope = scope_of(order);
        Self { what, bytes, strong: scope.is_some(), wide: scope.is_some_and(is_wide) }
    }
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
        if self.load_parameter(load, active) {
            return Ok(());
        }
        let bytes = usize::from(load.bytes) * usize::from(load.count);
        let access = Access::ordered("read", bytes, load.order);
        let addresses = self.addresses(&load.address);
        self.by_space(load.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(space, addresses, mask, access)?;
            match space {
                Space::Shared => this.load_shared(load, addresses, mask, access),
                Space::Local | Space::Param => this.load_private(load, space, addresses, mask, access),
                Space::Global | Space::Const | Space::Generic => this.load_global(load, addresses, mask, access),
            }
        })?;
        if let Order::Acquire(scope) = load.order {
            self.warp.acquire(active, is_wide(scope));
        }
        Ok(())
    }

    /// `st`.
    pub(super) fn store(&mut self, store: &Store, active: u32) -> Outcome {
        let bytes = usize::from(store.bytes) * usize::from(store.count);
        let access = Access::ordered("write", bytes, store.order);
        if let Order::Release(scope) = store.order {
            self.release(scope, active);
        }
        let addresses = self.addresses(&store.address);
        self.by_space(store.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(space, addresses, mask, access)?;
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
        self.warp.release(owner, active, is_wide(scope));
    }

    /// Looks for addresses that are no multiple of the access's size.
    #[inline]
    pub(super) fn check_alignment(&self, space: Space, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let low = access.bytes as u64 - 1;
        // Of all lanes first, without looking at the mask.
        if !self.checks().alignment || addresses.iter().fold(0, |any, address| any | address) & low == 0 {
            return Ok(());
        }
        let Some(lane) = lanes(mask).find(|lane| addresses[*lane] & low != 0) else { return Ok(()) };
        Err(self.misaligned(space, addresses[lane], access, lane))
    }

    /// The fault of an address that is no multiple of the access's size.
    #[cold]
    pub(super) fn misaligned(&self, space: Space, address: u64, access: Access, lane: usize) -> Box<Finding> {
        let place = self.grid.whereabouts(self.block, space, address, access.bytes);
        let text = format!("{} of {} bytes at {address:#x}: {place}", access.what, access.bytes);
        Finding::new(Check::Alignment, lane, text)
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
            for (address, lanes) in by_address(addresses, found) {
                warp.learning.see(lanes, self.block.locations.observe(address, self.block.serial), access.wide);
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
                self.block.locations.publish(addresses[lane], released, false, access.wide);
            }
        }
        Ok(())
    }

    /// Writes one lane's bytes to shared memory.
    #[inline]
    pub(super) fn write_shared(&mut self, lane: usize, offset: usize, bytes: &[u8], strong: bool) -> Outcome {
        let (actor, shared) = (self.warp.actor(strong, self.block.serial), &mut self.block.shared);
        let same = shared.data()[offset..offset + bytes.len()] == *bytes;
        self.grid.changes += u64::from(!same);
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

/// The addresses of some lanes, each with all lanes that have it.
pub(super) fn by_address(addresses: &Addresses, mut mask: u32) -> impl Iterator<Item = (u64, u32)> {
    std::iter::from_fn(move || {
        let address = addresses[lanes(mask).next()?];
        let same = lanes(mask).filter(|lane| addresses[*lane] == address).fold(0, |same, lane| same | 1 << lane);
        mask &= !same;
        Some((address, same))
    })
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
pub(super) fn little<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[at..at + N]);
    bytes
}

/// Brings the elements of a load into its registers.
#[inline]
pub(super) fn read_rows(registers: &mut Registers, load: &Load, data: &[u8], offsets: &Offsets, mask: u32) {
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
#[inline]
pub(super) fn extended(bytes: &[u8], signed: bool, half: bool) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(word);
    let unused = 64 - 8 * bytes.len() as u32;
    let value = if signed { ((value << unused) as i64 >> unused) as u64 } else { value };
    if half { value & 0xffff } else { value }
}

/// Gives 0 where a load read nothing.
pub(super) fn zero_rows(registers: &mut Registers, load: &Load, mask: u32) {
    for register in load.to.iter().take(usize::from(load.count)) {
        lanes(mask).for_each(|lane| registers.set_lane(*register, lane, 0));
    }
}

/// Lays out what a store writes, lane by lane.
#[inline]
pub(super) fn gather(registers: &Registers, store: &Store, bytes: &mut [[u8; 32]; LANES], mask: u32) {
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
