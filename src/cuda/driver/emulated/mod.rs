//! A CUDA device that executes PTX on the CPU and sees what a GPU hides.
//!
//! [`Emulated`] runs the PTX that ships under the same host code, and looks for what goes unnoticed on a GPU until it
//! does not: accesses out of bounds, misaligned or before anything was written; races in shared and in global memory;
//! copies that nobody waited for; misused barriers, divergence in warp-wide instructions, deadlocks. The first fault
//! ends the launch with a [`Report`]. It computes what the PTX ISA manual says; it knows nothing of time, of registers
//! as the vendor's assembler allots them, nor of the inner rounding of tensor cores.
//!
//! | piece | module |
//! |---|---|
//! | text to instructions | [`decode`] makes [`instr`] |
//! | registers and arithmetic | [`registers`], [`scalar`] |
//! | memories | `memory` (global, or `made` when touched), `shared`, with who wrote what in `clocks` and `order` |
//! | one warp | `warp` (divergence), `execute` (the loop), `access`, `consecutive`, `global`, `atomic`, `collective`, `copy`, `matrix` |
//! | async proxy | [`asynchronous`], `bulk` with `boxes` and `tensor_map` (copies), `warpgroup` with `descriptor`, `product`, `sums` |
//! | CTA and grid | `sync` (barriers), `mbarrier` (those in shared memory), `schedule` (turns, seeds, deadlock) |
//! | streams and events, staging memory of the host | `streams`, `staged` |
//! | what comes out | [`report`] (memory by name in `whereabouts`), [`counters`] |

mod access;
pub mod asynchronous;
mod atomic;
mod boxes;
mod bulk;
pub mod checks;
mod clocks;
mod collective;
mod consecutive;
mod copy;
pub mod counters;
pub mod decode;
mod descriptor;
mod device;
mod execute;
mod footprint;
pub mod function;
mod global;
pub mod instr;
mod limits;
mod made;
mod matrix;
mod mbarrier;
mod memory;
pub mod operands;
mod order;
mod product;
pub mod registers;
pub mod report;
pub mod scalar;
mod schedule;
mod shared;
mod staged;
mod state;
mod streams;
mod sums;
mod sync;
mod tensor_map;
pub mod trial;
mod warp;
mod warpgroup;
mod whereabouts;

pub use checks::{Checks, Completion, Options, UnknownChecker, UnknownCompletion};
pub use counters::{Class, Counters};
pub use device::Emulated;
pub use made::Make;
pub use memory::SECTOR;
pub use report::{Check, Place, Report};
