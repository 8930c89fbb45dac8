//! g2d
pub mod base;
pub mod cpu;
#[cfg(feature = "data")]
pub mod data;
pub mod ops;
pub mod program;
