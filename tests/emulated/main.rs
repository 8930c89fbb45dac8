//! The emulated CUDA device: every form that it executes, every checker, and what it says about broken kernels.

mod barriers;
mod checkers;
mod copies;
mod coverage;
mod decoding;
mod driver;
mod golden;
mod grid;
mod harness;
mod kernels;
mod matrices;
mod memory;
mod mutation;
mod transfer;
mod trial;
mod warps;
