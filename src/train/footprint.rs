//! How much memory and disk a run takes, told from its plan before anything is allocated.

use std::fs;

use serde::Serialize;

use crate::cpu::machine::bytes_said;
use crate::error::Error;
use crate::program::plan::{Plan, Slab};

/// What a run holds besides its slabs: the program itself, the loader's batches, workspaces of kernels.
const BESIDES: u64 = 96 << 20;

/// Bytes a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Memory at its fullest, which is when a checkpoint is written.
    pub memory: u64,
    /// A checkpoint on disk.
    pub checkpoint: u64,
}

impl Footprint {
    /// Of a run whose full step has this plan.
    pub fn of(plan: &Plan) -> Self {
        let bytes = |slabs: &[Slab]| slabs.iter().map(|slab| plan.slabs.get(slab).map_or(0, |&n| n as u64)).sum();
        let weights: u64 = bytes(&[Slab::Weights, Slab::Frozen, Slab::Statistics]);
        let moments: u64 = bytes(&[Slab::FirstMoments, Slab::SecondMoments]);
        let slabs: u64 = plan.slabs.values().map(|&bytes| bytes as u64).sum();
        Self { memory: slabs + weights.max(moments) + BESIDES, checkpoint: weights + moments }
    }

    /// Refuses what the machine has no memory for. Where the system does not say how much there is, nothing is refused.
    ///
    /// # Errors
    /// If more is needed than is available.
    pub fn check(&self) -> Result<(), Error> {
        fits("training", self.memory)
    }
}

/// Refuses what the machine has no memory for, as [`Footprint::check`] does.
pub(super) fn fits(what: &str, bytes: u64) -> Result<(), Error> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    match available_memory() {
        Some(available) if bytes > available => Err(Error::Usage(format!(
            "{what} needs about {:.1} GiB of memory and {:.1} GiB are available; g2d doctor says more",
            gib(bytes),
            gib(available)
        ))),
        _ => Ok(()),
    }
}

/// Memory that can be used without swapping, bytes: the system's, or the container's if that is less. `None` where the
/// system does not say.
pub fn available_memory() -> Option<u64> {
    let available = bytes_said("/proc/meminfo", "MemAvailable:")?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(available.min(limit.unwrap_or(u64::MAX)))
}

/// All memory of the machine, bytes. `None` where the system does not say.
pub fn total_memory() -> Option<u64> {
    bytes_said("/proc/meminfo", "MemTotal:")
}
