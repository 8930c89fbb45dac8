//! Any GPU by wgpu: Vulkan, Metal, DirectX 12. Memory and dispatches as one trait, the adapters of this machine behind
//! it, and the replay of plans on it. What runs are the shaders that ship ([`shaders`](crate::kernels::shaders)), as the
//! ops' `wgsl.rs` ask for them.

#[cfg(feature = "wgpu")]
pub mod adapter;
#[cfg(feature = "wgpu")]
mod caught;
pub mod ceilings;
pub mod gpu;
#[cfg(feature = "wgpu")]
mod native;
pub mod replay;

#[cfg(all(feature = "cli", feature = "wgpu"))]
pub(crate) use caught::silence;
pub use gpu::{Adapter, Gpu, GpuError};
pub use replay::Replay;
