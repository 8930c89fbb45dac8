//! Instructions of the async proxy (PTX ISA 9.7.9.25.4, 9.7.9.27, 9.7.15): bulk copies, copies of tensors, matrix products of
//! warpgroups.

use super::instr::{Address, AtomicOp, AtomicType, Guard, MmaType};
use super::registers::{Wide, Word};

/// Which way a bulk copy goes, and how its end is told.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// From global to shared memory; its bytes are counted by the mbarrier there.
    Load(Address),
    /// From shared to global memory, in a bulk group.
    Store,
    /// The same, combined with what is there, in elements of this type; of a tensor the map says the type.
    Reduce(AtomicOp, Option<AtomicType>),
}

/// `cp.async.bulk`, `cp.reduce.async.bulk` (9.7.9.25.4): consecutive bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Which way.
    pub way: Way,
    /// In shared memory, aligned to 16 bytes.
    pub shared: Address,
    /// In global memory, aligned to 16 bytes.
    pub global: Address,
    /// Bytes, a multiple of 16.
    pub bytes: Word,
}

/// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor` (9.7.9.27.1): a box of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct BulkTensor {
    /// Which way.
    pub way: Way,
    /// Dimensions of the tensor.
    pub rank: u8,
    /// Whether pixels of a convolution's windows are copied instead of a rectangular box.
    pub im2col: bool,
    /// Where the tensor map lies: a generic address.
    pub map: Address,
    /// In shared memory, aligned to 128 bytes.
    pub shared: Address,
    /// Where the box begins, innermost first; the first one again beyond the rank.
    pub coordinates: [Word; 5],
    /// Offsets in the window, innermost first, for loads by im2col; sign-extended 16-bit registers.
    pub offsets: [Option<Word>; 3],
}

/// Whether a matrix product adds to its accumulators (`scale-d`).
#[derive(Clone, Copy, Debug)]
pub enum Accumulate {
    /// It does.
    Always,
    /// Where the predicate holds, the same in all lanes; otherwise they are written only.
    If(Guard),
}

/// The left factor of a matrix product of a warpgroup.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// In registers, as that of `mma.sync`.
    Registers([Word; 4]),
    /// In shared memory; the register holds a descriptor.
    Shared(Wide),
}

/// `wgmma.mma_async` (9.7.15.5): D = A B, or D = A B + D, with 64 rows of A and D for the four warps, 16 for each.
#[derive(Clone, Debug)]
pub struct Wgmma {
    /// Columns of B and D: 8 to 256.
    pub columns: u16,
    /// Type of A and B.
    pub kind: MmaType,
    /// D: four registers for 8 columns.
    pub d: Box<[Word]>,
    /// A.
    pub a: Left,
    /// Descriptor of B.
    pub b: Wide,
    /// Whether D is added to.
    pub accumulate: Accumulate,
    /// Whether A and B are negated.
    pub negated: [bool; 2],
    /// Whether A and B lie in shared memory with rows (of A) or columns (of B) innermost instead of k.
    pub transposed: [bool; 2],
}

impl Wgmma {
    /// Depth of the product: 32 bytes of each factor.
    pub fn depth(&self) -> usize {
        if self.kind == MmaType::Tf32 { 8 } else { 16 }
    }
}
