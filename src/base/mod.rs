//! What everything else stands on: random numbers, digests, shapes.
pub mod random;
