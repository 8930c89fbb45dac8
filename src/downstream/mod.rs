//! The downstream tasks.

pub mod metrics;
