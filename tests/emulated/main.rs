//! The emulated CUDA device: every form that it executes, every checker, and what it says about broken kernels.

mod barriers;
mod checkers;
mod command;
mod copies;
mod coverage;
mod decoding;
mod driver;
mod formulas;
mod golden;
mod grid;
mod harness;
mod kernels;
mod matrices;
mod mbarriers;
mod memory;
mod mutation;
mod record;
mod refused;
mod registers;
mod seeds;
mod third_party;
mod transfer;
mod trial;
mod warps;
