//! Weights in files: names, orders, reading and writing.
pub mod names;
pub mod weights;

pub use weights::{Loaded, Numbers, WeightsError, load, save};
