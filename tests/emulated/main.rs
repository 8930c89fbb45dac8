//! The emulated CUDA device: every form that it executes, every checker, and what it says about broken kernels.

mod barriers;
mod checkers;
mod copies;
mod grid;
mod harness;
mod matrices;
mod memory;
mod warps;
