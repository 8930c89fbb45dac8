//! Training: what a run is made of.
pub mod case;
pub mod config;
pub mod groups;
pub mod metrics;
pub mod run;
pub mod schedule;
pub mod session;
pub mod validate;

pub use session::{Options, Session};
