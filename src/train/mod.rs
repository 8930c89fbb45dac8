//! Training: what a run is made of.
pub mod case;
pub mod config;
pub mod groups;
pub mod schedule;
pub mod session;

pub use session::{Options, Session};
