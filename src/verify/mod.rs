//! Kernels held against the definitions of their ops: cases from a few small numbers, the one tolerance, and launches on a
//! device with everything poisoned that may not be read. Below the kernels: single instructions against golden vectors.

pub mod cases;
pub mod compare;
mod content;
pub mod cpu;
pub mod device;
pub mod golden;
pub mod last_step;
pub mod opened;
mod places;
pub mod restrict;
pub mod sample;
pub mod schedules;
pub mod shadow;
pub mod specification;
pub mod suite;
mod target;

pub use target::Shaders;

use self::cases::Expected;
use self::compare::Storage;
use self::device::{Failure, Target, planned};
use crate::ops::Op;
use crate::program::{Case, Size};

/// Which case is tried: position and variant in the registry, the small numbers it is made of, and how it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Position in [`REGISTRY`](crate::ops::REGISTRY).
    pub position: usize,
    /// Kind of case.
    pub variant: usize,
    /// From which its shapes are made.
    pub size: Size,
    /// From which its numbers are drawn.
    pub draw: u64,
    /// How activations are stored.
    pub storage: Storage,
}

impl Spot {
    /// The case, as a plan of that storage has it.
    pub fn case(&self) -> Case<Op> {
        self.drawn(0)
    }

    fn drawn(&self, at: u64) -> Case<Op> {
        planned(cases::case(self.position, self.variant, &self.size, self.draw.wrapping_add(at)), self.storage)
    }

    /// What results are held against.
    pub fn expected(&self) -> Result<Expected, Failure> {
        Expected::new(|at| self.drawn(at), self.storage).map_err(Failure::Wrong)
    }

    /// Runs the case by a device's kernel and holds the result against `expected`: how much of the tolerance is used up.
    pub fn check<T: Target>(&self, target: &mut T, kernel: &'static str, expected: &Expected) -> Result<f64, Failure> {
        let got = device::run(target, &self.case(), kernel, self.storage)?;
        expected.accepts(&got).map_err(Failure::Wrong)
    }
}
