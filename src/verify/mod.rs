//! Kernels held against the definitions of their ops: cases from a few small numbers, the one tolerance, and launches on a
//! device with everything poisoned that may not be read. Below the kernels: single instructions against golden vectors.

pub mod cases;
pub mod compare;
mod content;
pub mod cpu;
pub mod device;
pub mod golden;
pub mod gradients;
pub mod interpret;
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
use crate::base::Rng;
use crate::ops::Op;
use crate::program::{Case, Operation, Size};

/// Whose cases are tried.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// An op of this crate, by its position in [`REGISTRY`](crate::ops::REGISTRY).
    Registered(usize),
    /// An op of another crate.
    Foreign {
        /// Makes its cases, as [`Operation::case`].
        case: fn(usize, &Size, &mut Rng) -> Case<Op>,
        /// See [`Operation::LARGE`].
        large: &'static [(usize, Size)],
    },
}

impl From<usize> for Subject {
    fn from(position: usize) -> Self {
        Self::Registered(position)
    }
}

impl Subject {
    /// Of an op of another crate.
    pub fn foreign<O: Operation>() -> Self {
        Self::Foreign { case: |variant, size, rng| O::case(variant, size, rng).map(Op::foreign), large: O::LARGE }
    }

    /// The case of that kind; `draw` names the numbers in it.
    pub fn case(self, variant: usize, size: &Size, draw: u64) -> Case<Op> {
        match self {
            Self::Registered(position) => cases::case(position, variant, size, draw),
            Self::Foreign { case, .. } => case(variant, size, &mut Rng::new(draw, self.stream(variant), 0)),
        }
    }

    /// Sizes at which a device does what it does at no small one.
    pub fn large(self, variant: usize) -> impl Iterator<Item = Size> {
        let all = match self {
            Self::Registered(position) => crate::ops::LARGE[position],
            Self::Foreign { large, .. } => large,
        };
        all.iter().filter(move |&&(of, _)| of == variant).map(|&(_, size)| size)
    }

    /// The stream of random numbers of a kind of case.
    fn stream(self, variant: usize) -> u32 {
        match self {
            Self::Registered(position) => (position * 64 + variant) as u32,
            Self::Foreign { .. } => 0x8000_0000 + variant as u32,
        }
    }
}

/// Which case is tried: whose and which kind, the small numbers it is made of, and how it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Of which op.
    pub subject: Subject,
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
        planned(self.subject.case(self.variant, &self.size, self.draw.wrapping_add(at)), self.storage)
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
