//! The kernels that ship, executed on the emulated device by the calls that their ops make, against the ops' references.
//! A kernel that has been tampered with must be caught.

mod adamw;
mod attention;
mod attention_pool;
#[path = "../common/mod.rs"]
mod common;
mod counters;
mod device;
mod halo;
mod hopper;
mod im2col;
mod long_rows;
mod many_tiles;
mod matmul;
mod norms;
mod ops;
mod pseudo_mask;
mod replay;
mod sample;
mod segmentation_loss;
mod stem;
mod synchronisation;
mod wgmma;
mod wide;
