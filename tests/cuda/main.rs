//! The kernels that ship, executed on the emulated device by the calls that their ops make, against the ops' references.
//! A kernel that has been tampered with must be caught.

mod adamw;
mod attention_pool;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod long_rows;
mod matmul;
mod ops;
mod pseudo_mask;
mod segmentation_loss;
