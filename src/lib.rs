//! g2d
pub mod base;
#[cfg(feature = "data")]
pub mod data;
pub mod ops;
pub mod program;
