//! Atomic operations (PTX ISA 9.7.13.5, 9.7.13.6): lane after lane, in an order that the seed chooses.

use half::{bf16, f16};

use super::access::{Access, Addresses, Offsets};
use super::checks::{STREAM_LANES, order};
use super::execute::{Context, is_wide, lanes};
use super::instr::{Atomic, AtomicOp, AtomicType, Order, Space};
use super::registers::LANES;
use super::report::{Check, Finding, Outcome};

impl Context<'_, '_> {
    /// `atom`, `red`.
    pub(super) fn atomic(&mut self, atomic: &Atomic, active: u32) -> Outcome {
        let access = Access::ordered("atomic", atomic.kind.bytes() * atomic.from.len(), atomic.order);
        if let Order::Release(scope) | Order::AcquireRelease(scope) = atomic.order {
            self.release(scope, active);
        }
        let addresses = self.addresses(&atomic.address);
        self.by_space(atomic.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(space, addresses, mask, access)?;
            match space {
                Space::Shared => this.atomic_shared(atomic, addresses, mask, access),
                Space::Global | Space::Generic => this.atomic_global(atomic, addresses, mask, access),
                Space::Local | Space::Param | Space::Const => {
                    let lane = mask.trailing_zeros() as usize;
                    Err(Finding::new(Check::Bounds, lane, format!("atomic in {space:?} memory")))
                }
            }
        })?;
        if let Order::Acquire(scope) | Order::AcquireRelease(scope) = atomic.order {
            self.warp.acquire(active, is_wide(scope));
        }
        Ok(())
    }

    /// The order in which lanes take their turns.
    pub(super) fn lane_order(&mut self) -> Vec<usize> {
        self.grid.choices += 1;
        order(self.grid.options.seed, STREAM_LANES, self.grid.choices, LANES)
    }

    fn atomic_global(&mut self, atomic: &Atomic, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let mut rest = mask;
        while let Some((segment, offsets, found)) = self.global_spots(addresses, &mut rest, access)? {
            self.count_global(segment, &offsets, found, access.bytes, true);
            self.check_global_read(segment, &offsets, found, access, false)?;
            self.write_global(segment, &offsets, found, access, None)?;
            self.observe(addresses, found, access.wide);
            self.publish(addresses, found, true, access.wide);
            for lane in self.lane_order().into_iter().filter(|lane| found >> lane & 1 == 1) {
                let Some(held) = self.grid.memory.segment_mut(segment) else { continue };
                let bytes = &mut held.data[offsets[lane]..offsets[lane] + access.bytes];
                let changed = apply(atomic, &mut self.warp.registers, lane, bytes, true);
                self.grid.changes += u64::from(changed);
            }
        }
        Ok(())
    }

    fn atomic_shared(&mut self, atomic: &Atomic, addresses: &Addresses, mask: u32, access: Access) -> Outcome {
        let (offsets, found): (Offsets, u32) = self.shared_spots(addresses, mask, access)?;
        for lane in lanes(found) {
            self.claim_shared(lane, offsets[lane], access.bytes)?;
            let observed = self.block.locations.observe(addresses[lane], self.block.serial);
            self.warp.learning.see(1 << lane, observed, access.wide);
            self.block.locations.publish(addresses[lane], self.warp.learning.released(), true, access.wide);
        }
        for lane in self.lane_order().into_iter().filter(|lane| found >> lane & 1 == 1) {
            let bytes = &mut self.block.shared.data_mut()[offsets[lane]..offsets[lane] + access.bytes];
            let changed = apply(atomic, &mut self.warp.registers, lane, bytes, false);
            self.grid.changes += u64::from(changed);
        }
        Ok(())
    }

    /// Checks and notes an atomic access to shared memory, which both reads and writes.
    fn claim_shared(&mut self, lane: usize, offset: usize, bytes: usize) -> Outcome {
        let (actor, shared) = (self.warp.actor(true, self.block.serial), &mut self.block.shared);
        shared.read(&actor, lane, offset, bytes)?;
        shared.write(&actor, lane, offset, bytes, false)
    }
}

/// One lane's turn on its elements; says whether memory changed.
fn apply(
    atomic: &Atomic,
    registers: &mut super::registers::Registers,
    lane: usize,
    bytes: &mut [u8],
    global: bool,
) -> bool {
    let width = atomic.kind.bytes();
    let mut changed = false;
    for (element, (place, from)) in bytes.chunks_exact_mut(width).zip(&atomic.from).enumerate() {
        let mut word = [0; 8];
        word[..width].copy_from_slice(place);
        let (old, operand) = (u64::from_le_bytes(word), registers.lane(*from, lane));
        let swap = registers.lane(atomic.swap, lane);
        let new = combine(atomic.op, atomic.kind, old, operand, swap, global);
        place.copy_from_slice(&new.to_le_bytes()[..width]);
        changed |= place != &word[..width];
        if let Some(to) = atomic.to.get(element) {
            registers.set_lane(*to, lane, old);
        }
    }
    changed
}

/// The value that takes the place of `old`; only its low bytes count.
pub(super) fn combine(op: AtomicOp, kind: AtomicType, old: u64, operand: u64, swap: u64, global: bool) -> u64 {
    let low = u64::MAX >> (64 - 8 * kind.bytes());
    let operand = operand & low;
    match op {
        AtomicOp::And => old & operand,
        AtomicOp::Or => old | operand,
        AtomicOp::Xor => old ^ operand,
        AtomicOp::Exchange => operand,
        AtomicOp::CompareExchange => {
            if old == operand {
                swap
            } else {
                old
            }
        }
        AtomicOp::Increment => {
            if old >= operand {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > operand {
                operand
            } else {
                old - 1
            }
        }
        AtomicOp::Add => add(kind, old, operand, global),
        AtomicOp::Min => extreme(kind, old, operand, true),
        AtomicOp::Max => extreme(kind, old, operand, false),
    }
}

fn flush(value: f32, flushes: bool) -> f32 {
    if flushes && value.is_subnormal() { 0f32.copysign(value) } else { value }
}

fn halves(old: u64, operand: u64, of: impl Fn(u16, u16) -> u16) -> u64 {
    u64::from(of(old as u16, operand as u16)) | u64::from(of((old >> 16) as u16, (operand >> 16) as u16)) << 16
}

fn add(kind: AtomicType, old: u64, operand: u64, global: bool) -> u64 {
    // The sum of two 16-bit floats in f32 rounds to the same 16-bit float as the exact sum would.
    let half = |a: u16, b: u16| f16::from_f32(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits();
    let brain = |a: u16, b: u16| bf16::from_f32(bf16::from_bits(a).to_f32() + bf16::from_bits(b).to_f32()).to_bits();
    match kind {
        AtomicType::F32 => {
            let of = |bits: u64| flush(f32::from_bits(bits as u32), global);
            u64::from(flush(of(old) + of(operand), global).to_bits())
        }
        AtomicType::F64 => (f64::from_bits(old) + f64::from_bits(operand)).to_bits(),
        AtomicType::F16 => u64::from(half(old as u16, operand as u16)),
        AtomicType::Bf16 => u64::from(brain(old as u16, operand as u16)),
        AtomicType::F16x2 => halves(old, operand, half),
        AtomicType::Bf16x2 => halves(old, operand, brain),
        _ => old.wrapping_add(operand),
    }
}

fn extreme(kind: AtomicType, old: u64, operand: u64, least: bool) -> u64 {
    let pick = |operand_below: bool| if operand_below == least { operand } else { old };
    // NaN loses, and -0 lies below +0.
    let float = |a: f32, b: f32| {
        if a.is_nan() || !b.is_nan() && (b.total_cmp(&a).is_lt() == least) { b } else { a }
    };
    let half = |a: u16, b: u16| f16::from_f32(float(f16::from_bits(a).to_f32(), f16::from_bits(b).to_f32())).to_bits();
    let brain =
        |a: u16, b: u16| bf16::from_f32(float(bf16::from_bits(a).to_f32(), bf16::from_bits(b).to_f32())).to_bits();
    match kind {
        AtomicType::S32 => pick((operand as i32) < old as i32),
        AtomicType::S64 => pick((operand as i64) < old as i64),
        AtomicType::F16 => u64::from(half(old as u16, operand as u16)),
        AtomicType::Bf16 => u64::from(brain(old as u16, operand as u16)),
        AtomicType::F16x2 => halves(old, operand, half),
        AtomicType::Bf16x2 => halves(old, operand, brain),
        AtomicType::F32 => u64::from(float(f32::from_bits(old as u32), f32::from_bits(operand as u32)).to_bits()),
        _ => pick(operand < old),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: AtomicOp, kind: AtomicType, old: u64, operand: u64) -> u64 {
        combine(op, kind, old, operand, 77, true) & (u64::MAX >> (64 - 8 * kind.bytes()))
    }

    #[test]
    fn integer_operations_are_those_of_the_manual() {
        use AtomicOp::*;
        use AtomicType::*;
        assert_eq!(run(Add, U32, 0xffff_ffff, 2), 1);
        assert_eq!(run(Min, S32, 1, u64::from(-3i32 as u32)), u64::from(-3i32 as u32));
        assert_eq!(run(Max, S32, 1, u64::from(-3i32 as u32)), 1);
        assert_eq!((run(Min, U32, 1, 0xffff_fffd), run(Max, U64, 1, u64::MAX)), (1, u64::MAX));
        assert_eq!((run(Max, S64, 1, u64::MAX), run(Min, S64, 1, u64::MAX)), (1, u64::MAX));
        assert_eq!((run(Increment, U32, 4, 5), run(Increment, U32, 5, 5)), (5, 0));
        assert_eq!((run(Decrement, U32, 0, 5), run(Decrement, U32, 6, 5), run(Decrement, U32, 3, 5)), (5, 5, 2));
        assert_eq!((run(CompareExchange, U32, 4, 4), run(CompareExchange, U32, 4, 5)), (77, 4));
        assert_eq!(
            (run(Exchange, B16, 4, 9), run(Xor, U32, 6, 3), run(And, U32, 6, 3), run(Or, U64, 6, 3)),
            (9, 5, 2, 7)
        );
    }

    #[test]
    fn floats_flush_in_global_memory_only() {
        let tiny = u64::from(f32::MIN_POSITIVE.to_bits() - 1);
        assert_eq!(combine(AtomicOp::Add, AtomicType::F32, tiny, 0, 0, true), 0);
        assert_eq!(combine(AtomicOp::Add, AtomicType::F32, tiny, 0, 0, false), tiny);
        let one = u64::from(bf16::ONE.to_bits());
        let two = u64::from(bf16::from_f32(2.0).to_bits());
        assert_eq!(run(AtomicOp::Add, AtomicType::Bf16x2, one | one << 16, one), two | one << 16);
        assert_eq!(run(AtomicOp::Max, AtomicType::F16, u64::from(f16::NAN.to_bits()), 0), 0, "NaN loses");
        assert_eq!(run(AtomicOp::Add, AtomicType::F64, 1f64.to_bits(), 2f64.to_bits()), 3f64.to_bits());
    }
}
