//! g2d
pub mod base;
pub mod checkpoint;
#[cfg(feature = "data")]
pub mod data;
pub mod model;
pub mod ops;
pub mod program;
