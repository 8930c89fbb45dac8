//! Everything between files and batches.

pub mod phantom;
