//! What a kernel takes at least on a chip, from what was counted: a prediction, and the rates it stands on.

use serde::{Deserialize, Serialize};

use super::blocks::Count;
use crate::kernels::Architecture;
use crate::ops::linear::predicted::{self, CLOCK, ISSUED, L2_BYTES, LAUNCH};

/// A chip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chip {
    /// Its name.
    pub name: &'static str,
    /// Which texts of kernels it takes.
    pub architecture: Architecture,
    /// Multiprocessors.
    pub multiprocessors: u64,
    /// Boost clock, Hz (data sheets).
    pub clock: f64,
    /// bf16 products that are seen in practice, FLOP/s: as the design states them of an H200 (no record of it in this repository);
    /// of the others the same part of the peak.
    pub tensor: f64,
    /// Part of that which `mma.sync` reaches, the only instruction for products before Hopper's `wgmma`; on Hopper as
    /// `linear::predicted` says.
    pub synchronous: f64,
    /// f32 multiply-adds, FLOP/s (data sheets).
    pub flops: f64,
    /// Copying, bytes read and written a second: as the design states it of an H200, published for the others.
    pub bandwidth: f64,
    /// Bytes of L2.
    pub l2: u64,
}

/// Those that are known.
pub const CHIPS: [Chip; 3] = [
    Chip {
        name: "a100",
        architecture: Architecture::Sm80,
        multiprocessors: 108,
        clock: 1.41e9,
        tensor: 265e12,
        synchronous: 1.0,
        flops: 19.5e12,
        bandwidth: 1.70e12,
        l2: 40 << 20,
    },
    Chip {
        name: "h100",
        architecture: Architecture::Sm90a,
        multiprocessors: 132,
        clock: CLOCK,
        tensor: predicted::TENSOR,
        synchronous: predicted::SYNCHRONOUS,
        flops: 66.9e12,
        bandwidth: 3.02e12,
        l2: 50 << 20,
    },
    Chip {
        name: "h200",
        architecture: Architecture::Sm90a,
        multiprocessors: 132,
        clock: CLOCK,
        tensor: predicted::TENSOR,
        synchronous: predicted::SYNCHRONOUS,
        flops: 66.9e12,
        bandwidth: predicted::BANDWIDTH,
        l2: 50 << 20,
    },
];

/// What bounds a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Bytes of device memory.
    Memory,
    /// Bytes between L2 and multiprocessors.
    L2,
    /// Matrix products.
    Tensor,
    /// Other arithmetic.
    Flops,
    /// Instructions of any kind.
    Issue,
    /// Nothing of these: it is done before it has begun.
    Launch,
}

impl Chip {
    /// The chip of that name.
    pub fn of(name: &str) -> Option<Self> {
        CHIPS.into_iter().find(|chip| chip.name == name)
    }

    /// Whether it takes the kernels of a plan for this architecture.
    pub fn takes(&self, architecture: Architecture) -> bool {
        architecture == Architecture::Sm80 || architecture == self.architecture
    }

    /// Seconds of so much work at the ceilings, whichever lasts longer.
    pub fn floor(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.tensor).max(bytes as f64 / self.bandwidth)
    }

    /// Seconds that a kernel of so many blocks is predicted to take, and by what: the longest of what each of its resources
    /// takes, none waiting for another, and the launch. Blocks go round the multiprocessors, so a few of them or a last round
    /// leave some idle.
    pub fn predicted(&self, count: &Count, blocks: u64) -> (f64, Bound) {
        let processors = self.multiprocessors as f64;
        let idle = blocks.div_ceil(self.multiprocessors) as f64 * processors / blocks.max(1) as f64;
        let each = processors * self.clock / idle;
        let tensor = match count.longest {
            // Such blocks go round the tiles of a product, and the one with most of them is the last to end.
            Some(flops) => flops as f64 * blocks.div_ceil(self.multiprocessors) as f64 * processors / self.tensor,
            None => count.tensor_flops as f64 / (self.tensor * self.synchronous) * idle,
        };
        let times = [
            (count.traffic.device(self.l2) as f64 / self.bandwidth, Bound::Memory),
            (count.traffic.touched() as f64 / (L2_BYTES * each), Bound::L2),
            (tensor, Bound::Tensor),
            (count.flops as f64 / self.flops * idle, Bound::Flops),
            (count.warp_instructions as f64 / (ISSUED * each), Bound::Issue),
        ];
        let (work, bound) = times
            .into_iter()
            .fold((0.0, Bound::Launch), |longest, time| if time.0 > longest.0 { time } else { longest });
        (work + LAUNCH, if work < LAUNCH { Bound::Launch } else { bound })
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Traffic, Value};
    use super::*;

    #[test]
    fn the_longest_resource_bounds_a_kernel() {
        let chip = Chip::of("h200").expect("it is known");
        let value = |read| Value { bytes: read, read, written: 0, let_through: 1.0 };
        let of = |read, work: Count| Count { traffic: Traffic { values: vec![value(read)] }, ..work };
        let (seconds, bound) = chip.predicted(&of(4_300_000_000, Count::default()), 132 * 64);
        assert!(bound == Bound::Memory && (seconds - 1e-3 - LAUNCH).abs() < 1e-12, "{seconds}");
        let tensor = Count { tensor_flops: 497_700_000_000, ..Count::default() };
        let (seconds, bound) = chip.predicted(&of(0, tensor.clone()), 132);
        assert!(bound == Bound::Tensor && (seconds - 1e-3 - LAUNCH).abs() < 1e-9, "{seconds}");
        // One more block than there are multiprocessors takes a second round.
        let (twice, _) = chip.predicted(&of(0, tensor), 133);
        assert!(((twice - LAUNCH) / (seconds - LAUNCH) - 2.0 * 132.0 / 133.0).abs() < 1e-9);
        // A block of `wgmma` that has twice as much as the others is waited for, at the full rate.
        let longest = Count { tensor_flops: 133 * 790_000_000, longest: Some(2 * 790_000_000), ..Count::default() };
        let (seconds, _) = chip.predicted(&of(0, longest), 132);
        assert!((seconds - LAUNCH - 2.0 * 132.0 * 1e-6).abs() < 1e-12, "{seconds}");
        // One block has one multiprocessor.
        let (alone, bound) = chip.predicted(&of(1 << 20, Count::default()), 1);
        assert!(bound == Bound::L2 && (alone - LAUNCH - (1 << 20) as f64 / (64.0 * chip.clock)).abs() < 1e-12);
        assert_eq!(chip.predicted(&Count::default(), 1), (LAUNCH, Bound::Launch));
        assert_eq!(Chip::of("h300"), None);
    }
}
