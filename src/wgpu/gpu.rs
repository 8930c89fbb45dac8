//! The interface of a GPU: everything the engine asks of one.
//!
//! Addresses are numbers that stand for bytes of GPU memory: a shader never sees them, it is given ranges
//! ([`Binding`](crate::program::Binding)). An allocation is a range of addresses in which every address at a multiple of
//! [`ALIGNMENT`](crate::program::device::ALIGNMENT) can be bound. One that is larger than a piece ([`Gpu::piece`]) is cut
//! into several; a binding must lie in one of them.

use serde::Serialize;

use crate::kernels::Brought;
use crate::kernels::shaders::Offered;
use crate::program::{MOST_GROUPS, ShaderCall};

/// What a GPU refuses or reports.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is no such adapter here.
    #[error("no GPU for wgpu: {0}")]
    Absent(String),
    /// Too little memory.
    #[error("the GPU has no {bytes} bytes left, it gives {room} in all; use a smaller batch")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that are allocated, and those that could still be.
        room: u64,
    },
    /// A shader that is not there, or that the adapter does not take.
    #[error("shader `{symbol}` cannot be used: {why}")]
    Shader {
        /// Which entry.
        symbol: String,
        /// What was found.
        why: String,
    },
    /// More than the adapter allows.
    #[error("{what} is {asked}, the adapter allows {allowed}")]
    Limit {
        /// The quantity.
        what: String,
        /// What was asked for.
        asked: u64,
        /// The bound.
        allowed: u64,
    },
    /// An address or argument that means nothing to this GPU.
    #[error("{0}")]
    Invalid(String),
    /// The GPU is gone: unplugged, reset by its driver, or hung.
    #[error("the GPU was lost: {0}; the run can be resumed from its last checkpoint")]
    Lost(String),
}

/// An adapter, as `g2d devices` tells of it.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// Its own name.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Its driver.
    pub driver: String,
    /// Whether it is the processor in disguise; such a one is never chosen by itself.
    pub software: bool,
    /// Bytes of one value, at most: what a buffer holds of a slab.
    pub piece: u64,
    /// What else it allows.
    pub limits: Limits,
    /// What it offers beyond what every adapter has.
    pub features: Features,
    /// What of that plans make use of; kernels that every adapter runs take its place where it is not offered.
    pub offered: Offered,
    /// What could be installed for more; empty where nothing is known.
    pub more: Vec<String>,
}

/// Limits of an adapter that decide what it can run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Bytes of a buffer.
    pub buffer: u64,
    /// Bytes that a shader sees of one.
    pub binding: u64,
    /// Storage buffers of a shader.
    pub storage_buffers: u32,
    /// Bytes of a workgroup's memory.
    pub workgroup_memory: u32,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
    /// Workgroups along one dimension of a dispatch.
    pub groups: u32,
}

/// Storage buffers of a shader that ships, at most.
pub const STORAGE_BUFFERS: u32 = 8;
/// Threads of a workgroup of one, at most.
pub const WORKGROUP_THREADS: u32 = 256;
/// Bytes of a workgroup's memory of one, at most.
pub const WORKGROUP_MEMORY: u32 = 16384;

impl Limits {
    /// What shaders need and these do not allow, if any: all of it, in words.
    pub fn lacks(&self) -> Option<String> {
        let needs = [
            (STORAGE_BUFFERS, self.storage_buffers, "storage buffers of a shader"),
            (WORKGROUP_THREADS, self.workgroup_threads, "threads of a workgroup"),
            (WORKGROUP_MEMORY, self.workgroup_memory, "bytes of a workgroup's memory"),
            (MOST_GROUPS, self.groups, "workgroups along a dimension"),
        ];
        let lacking = needs.into_iter().filter(|(needed, allowed, _)| allowed < needed);
        let lacking: Vec<String> =
            lacking.map(|(needed, allowed, what)| format!("it allows {allowed} {what}, {needed} are needed")).collect();
        (!lacking.is_empty()).then(|| lacking.join("; "))
    }
}

/// Features of an adapter that can make shaders faster.
#[derive(Clone, Debug, Serialize)]
pub struct Features {
    /// Arithmetic and storage in f16.
    pub f16: bool,
    /// Threads of a subgroup, fewest and most, where threads of one may exchange numbers.
    pub subgroups: Option<[u32; 2]>,
    /// Products that cooperative matrices make, as rows x columns x depth, operand -> sum.
    pub cooperative_matrices: Vec<String>,
}

/// Calls that are ready to be done as often as wanted; a number valid for the GPU that gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Recording(pub u64);

/// A GPU. Calls are done in the order in which they are submitted, each as if the one before had ended.
pub trait Gpu: Send + Sync {
    /// Bytes of one buffer and of one binding, at most: a multiple of the alignment.
    fn piece(&self) -> u64;

    /// What shaders may use beyond what every GPU has.
    fn offered(&self) -> Offered;

    /// Memory of `bytes` bytes, zeroed; its address.
    fn allocate(&self, bytes: u64) -> Result<u64, GpuError>;

    /// Gives back what [`Self::allocate`] gave.
    fn free(&self, at: u64);

    /// Host to GPU. `to` is a multiple of 4; up to three bytes behind may be overwritten.
    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), GpuError>;

    /// GPU to host, once everything submitted is done. `from` is a multiple of 4.
    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// Takes shaders from these texts too; those that are there already stay. An error if another has the name of one.
    fn bring(&self, shaders: &'static [Brought]) -> Result<(), GpuError>;

    /// Makes calls ready, in order: pipelines, parameters, bindings.
    fn record(&self, calls: &[ShaderCall]) -> Result<Recording, GpuError>;

    /// Gives back what [`Self::record`] made.
    fn forget(&self, recording: Recording);

    /// Submits recordings in order, as one piece of work.
    fn submit(&self, recordings: &[Recording]) -> Result<(), GpuError>;

    /// Waits until everything submitted is done.
    fn synchronize(&self) -> Result<(), GpuError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_below_what_shaders_need_are_told_and_others_are_not() {
        let least = Limits {
            buffer: 1 << 28,
            binding: 1 << 27,
            storage_buffers: STORAGE_BUFFERS,
            workgroup_memory: WORKGROUP_MEMORY,
            workgroup_threads: WORKGROUP_THREADS,
            groups: MOST_GROUPS,
        };
        assert_eq!(least.lacks(), None);
        let few = Limits { storage_buffers: 4, ..least };
        assert_eq!(few.lacks().as_deref(), Some("it allows 4 storage buffers of a shader, 8 are needed"));
        for lower in [
            Limits { workgroup_memory: WORKGROUP_MEMORY - 1, ..least },
            Limits { workgroup_threads: WORKGROUP_THREADS - 1, ..least },
            Limits { groups: MOST_GROUPS - 1, ..least },
        ] {
            assert!(lower.lacks().is_some(), "{lower:?}");
        }
    }
}
