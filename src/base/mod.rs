//! What everything else stands on: number types, shapes, random numbers, digests, figures with their interval.
pub mod ceilings;
mod counted;
mod estimate;
mod io;
pub mod number;
pub mod protobuf;
pub mod random;
pub mod shape;
mod stored;
pub mod threads;

pub use counted::counted;
pub use estimate::Estimate;
pub use io::hint;
pub use number::{Number, Real};
pub use random::Rng;
pub use shape::{DType, Kind, Shape, Spec};
