//! g2d
pub mod base;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod data;
pub mod error;
pub mod model;
pub mod ops;
pub mod program;
pub mod train;

pub use error::Error;
