//! The CPU backend: replays a plan with references, or with a faster variant where an op has one.
pub mod machine;
pub mod math;
pub mod matmul;
pub mod memory;
pub mod replay;
pub mod simd;
pub mod tile;

pub use memory::Memory;
pub use replay::{replay, replay_poisoned};
