//! How finely a kernel's accesses must be told apart: the size of its smallest one, per memory.
//!
//! With granules no larger than that, no two accesses to neighbouring bytes are ever taken for one another.

use super::instr::{Function, Op, Space};

/// Granules, as powers of two of bytes, at most 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Of shared memory.
    pub shared_shift: u32,
    /// Of global memory.
    pub global_shift: u32,
}

impl Footprint {
    /// That of a kernel.
    pub fn of(function: &Function) -> Self {
        let mut found = Self { shared_shift: 2, global_shift: 2 };
        for instr in &function.code {
            let (space, bytes) = match &instr.op {
                Op::Load(load) => (load.space, usize::from(load.bytes) * usize::from(load.count)),
                Op::Store(store) => (store.space, usize::from(store.bytes) * usize::from(store.count)),
                Op::Atomic(atomic) => (atomic.space, atomic.kind.bytes()),
                // A row of a tensor may end at any element; in shared memory what lies around it is the same copy's.
                Op::BulkTensor(_) => (Space::Global, 2),
                _ => continue,
            };
            let shift = bytes.trailing_zeros().min(2);
            if matches!(space, Space::Shared | Space::Generic) {
                found.shared_shift = found.shared_shift.min(shift);
            }
            if matches!(space, Space::Global | Space::Generic | Space::Const) {
                found.global_shift = found.global_shift.min(shift);
            }
        }
        found
    }
}
