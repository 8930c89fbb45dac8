//! Training: what a run is made of.
pub mod case;
pub mod config;
pub mod defaults;
pub mod device;
pub mod engine;
mod feed;
mod films;
pub mod footprint;
pub mod gallery;
pub mod groups;
pub mod imported;
mod machine;
mod memory;
pub mod metrics;
mod planned;
#[cfg(feature = "data")]
pub mod quickstart;
pub mod reader;
pub mod resident;
pub mod run;
pub mod schedule;
pub mod session;
pub mod text_cache;
pub mod validate;

pub use device::{Capacity, Device};
pub use engine::{Engine, Resources};
pub use reader::Reader;
pub use session::{Options, Session};
