//! What a launch did, counted: hints about cost, not timings.

use super::memory::SECTOR;
use super::registers::LANES;
use super::scalar::ScalarClass;

/// Kinds of instructions that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Integers, bits, moves, selection, predicates.
    Integer,
    /// f16, bf16, f32 without approximations.
    Float,
    /// f64.
    Double,
    /// Approximated functions.
    Special,
    /// Conversions.
    Conversion,
    /// Loads, stores and `discard` of global, constant and generic memory.
    Global,
    /// Loads and stores of shared memory, `ldmatrix`, `stmatrix`.
    Shared,
    /// Loads and stores of local memory and parameters.
    Private,
    /// `atom`, `red`.
    Atomic,
    /// Branches, exits.
    Control,
    /// Barriers, fences, waits for copies.
    Synchronization,
    /// `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.
    Collective,
    /// Asynchronous copies.
    Copy,
    /// Matrix products.
    Matrix,
    /// Prefetches, clocks, `nanosleep`.
    Other,
}

impl Class {
    /// All classes, in the order of [`Counters::warp_instructions`].
    pub const ALL: [Self; 15] = [
        Self::Integer,
        Self::Float,
        Self::Double,
        Self::Special,
        Self::Conversion,
        Self::Global,
        Self::Shared,
        Self::Private,
        Self::Atomic,
        Self::Control,
        Self::Synchronization,
        Self::Collective,
        Self::Copy,
        Self::Matrix,
        Self::Other,
    ];
}

impl From<ScalarClass> for Class {
    fn from(class: ScalarClass) -> Self {
        match class {
            ScalarClass::Integer => Self::Integer,
            ScalarClass::Float => Self::Float,
            ScalarClass::Double => Self::Double,
            ScalarClass::Special => Self::Special,
            ScalarClass::Conversion => Self::Conversion,
        }
    }
}

/// Counters of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions that warps executed, by [`Class`].
    pub warp_instructions: [u64; 15],
    /// Floating-point operations of matrix instructions: a multiplication and an addition per element and step.
    pub tensor_flops: u64,
    /// Floating-point operations of other instructions: one for each lane and number, two of a fused multiply-add; changes of
    /// sign are none.
    pub flops: u64,
    /// 32-byte sectors that accesses to global memory asked for, summed over warp instructions.
    pub global_sectors: u64,
    /// Bytes of the different sectors that were touched: what must move at least once.
    pub global_unique_bytes: u64,
    /// Bytes that the lanes asked for in global memory.
    pub global_bytes: u64,
    /// Bytes that bulk copies and copies of tensors moved, those of boxes outside their tensor included.
    pub bulk_bytes: u64,
    /// Of the sectors of global memory those that bulk copies asked for.
    pub bulk_sectors: u64,
    /// Passes through the 32 banks of shared memory beyond what the bytes of each access need.
    pub shared_conflicts: u64,
}

impl Counters {
    /// Instructions of one class.
    pub fn instructions(&self, class: Class) -> u64 {
        self.warp_instructions[class as usize]
    }

    /// How often a sector of global memory was asked for on average, which the L2 cache must serve; 0 if none was.
    pub fn global_rereads(&self) -> f64 {
        match self.global_unique_bytes {
            0 => 0.0,
            bytes => (self.global_sectors * SECTOR as u64) as f64 / bytes as f64,
        }
    }

    /// Instructions of all classes.
    pub fn total_instructions(&self) -> u64 {
        self.warp_instructions.iter().sum()
    }
}

/// Passes beyond the least number that an access of `bytes` bytes per lane to these shared addresses takes.
///
/// Lanes are served in groups that ask for at most 128 bytes; within a group each bank gives one 32-bit word per pass,
/// to all lanes that want that word.
pub(super) fn bank_conflicts(addresses: &[u32; LANES], mask: u32, bytes: usize) -> u64 {
    let lanes = (128 / bytes.max(4)).min(LANES);
    (0..LANES).step_by(lanes).map(|first| conflicts_of_group(addresses, mask, first..first + lanes, bytes)).sum()
}

fn conflicts_of_group(addresses: &[u32; LANES], mask: u32, lanes: std::ops::Range<usize>, bytes: usize) -> u64 {
    const EMPTY: u32 = u32::MAX;
    let mut word_of_bank = [EMPTY; 32];
    let mut clash = false;
    'lanes: for lane in lanes.clone().filter(|lane| mask >> lane & 1 == 1) {
        for word in addresses[lane] / 4..(addresses[lane] + bytes as u32).div_ceil(4) {
            let bank = &mut word_of_bank[word as usize % 32];
            clash |= *bank != EMPTY && *bank != word;
            *bank = word;
            if clash {
                break 'lanes;
            }
        }
    }
    if !clash {
        return 0;
    }
    let of_lane = |lane: usize| addresses[lane] / 4..(addresses[lane] + bytes as u32).div_ceil(4);
    let mut words: Vec<u32> = lanes.filter(|lane| mask >> lane & 1 == 1).flat_map(of_lane).collect();
    words.sort_unstable();
    words.dedup();
    let mut passes = [0u64; 32];
    words.iter().for_each(|word| passes[*word as usize % 32] += 1);
    passes.iter().max().map_or(0, |most| most - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(stride: u32, bytes: usize) -> u64 {
        bank_conflicts(&std::array::from_fn(|lane| lane as u32 * stride), u32::MAX, bytes)
    }

    #[test]
    fn strides_conflict_as_the_banks_say() {
        assert_eq!(conflicts(4, 4), 0);
        assert_eq!(conflicts(0, 4), 0, "one word for all");
        assert_eq!(conflicts(8, 4), 1);
        assert_eq!(conflicts(128, 4), 31);
        assert_eq!(conflicts(132, 4), 0, "padded rows");
        assert_eq!(conflicts(16, 16), 0, "four groups of eight lanes");
        assert_eq!(conflicts(128, 16), 4 * 7);
        assert_eq!(conflicts(2, 2), 0, "two lanes share a word");
    }
}
