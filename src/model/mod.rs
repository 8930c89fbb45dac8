//! The model: what is recorded, under which names, from which configuration. Knows no device, no stored type.
pub mod attention_pool;
pub mod batch;
pub mod bert;
pub mod config;
pub mod g2d;
pub mod init;
pub mod interference;
pub mod layer;
pub mod losses;
pub mod optimizer;
pub mod projection;
pub mod resnet;
pub mod unet;
mod validate;

#[cfg(test)]
mod recording_tests;

pub use batch::{Batch, Reports, Shapes, Source, TextBatch};
pub use config::{Config, ConfigError};
pub use g2d::{Phase, record_evaluate, record_segment, record_step, record_validate};
pub use interference::{Interference, record_interference};
pub use layer::Statistics;
pub use optimizer::{Group, optimize};
