//! The property tests as the shipped binary runs them: every op, every kind of its cases, random shapes and numbers, every
//! kernel of a device against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use serde::Serialize;

use super::cases::{self, Expected};
use super::compare::Storage;
use super::device::Failure;
use super::{Spot, cpu};
use crate::base::Rng;
use crate::cuda::Modules;
use crate::cuda::driver::{Driver, DriverError};
use crate::error::Error;
use crate::kernels::Library;
use crate::ops::REGISTRY;
use crate::program::Size;
use crate::train::Device;

/// What is verified.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Whose kernels.
    pub device: Device,
    /// Folders of ops; empty: all.
    pub ops: Vec<String>,
    /// Shapes for each kind of case and each stored type.
    pub cases: usize,
    /// From which shapes and numbers are drawn.
    pub seed: u64,
    /// Where kernels come from.
    pub library: Library,
}

/// What became of one kernel of one pass of an op.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// Cases that ran and passed.
    pub passed: usize,
    /// Cases that it does not take, which is no fault.
    pub refused: usize,
    /// Part of the tolerance that was used up at worst.
    pub used: f64,
    /// What failed first, with the case that repeats it.
    pub failure: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// By `op.pass/kernel`.
    pub kernels: BTreeMap<String, Line>,
    /// Passes of ops for which a case ran on no kernel.
    pub uncovered: BTreeSet<String>,
    /// Entries of PTX texts that were launched.
    pub entries: BTreeSet<String>,
    /// Entries that no case launched; empty where only some ops were asked for.
    pub untried: Vec<String>,
}

impl Report {
    /// Whether every case passed and everything was tried.
    pub fn passed(&self) -> bool {
        self.kernels.values().all(|line| line.failure.is_none())
            && self.uncovered.is_empty()
            && self.untried.is_empty()
            && !self.kernels.is_empty()
    }

    fn merge(&mut self, other: Self) {
        for (name, line) in other.kernels {
            let own = self.kernels.entry(name).or_default();
            own.passed += line.passed;
            own.refused += line.refused;
            own.used = own.used.max(line.used);
            own.failure = own.failure.take().or(line.failure);
        }
        self.uncovered.extend(other.uncovered);
        self.entries.extend(other.entries);
    }
}

/// Sizes that a case is made from: small ones, and every second time one that is wider than a kernel's tile along one side.
fn size(rng: &mut Rng) -> Size {
    let mut size =
        Size { batch: 1 + rng.below(3), side: 1 + rng.below(9), channels: 1 + rng.below(9), extra: 1 + rng.below(9) };
    match rng.below(6) {
        0 => size.side = 10 + rng.below(14),
        1 => size.channels = 10 + rng.below(140),
        2 => size.extra = 10 + rng.below(140),
        _ => {}
    }
    size
}

impl Suite {
    /// Runs it. `observe` is told how many kinds of cases are done, of how many.
    ///
    /// # Errors
    /// If an op is not known, or there is no such device.
    pub fn run(&self, observe: &(dyn Fn(usize, usize) + Sync)) -> Result<Report, SuiteError> {
        if let Some(unknown) = self.ops.iter().find(|op| REGISTRY.iter().all(|(name, _)| name != op)) {
            let all = REGISTRY.iter().map(|&(name, _)| name).collect::<Vec<_>>().join(", ");
            return Err(SuiteError::NoOp { op: unknown.clone(), all });
        }
        let wanted = |position: usize| self.ops.is_empty() || self.ops.iter().any(|op| op == REGISTRY[position].0);
        let kinds: Vec<(usize, usize)> = cases::registry().filter(|&(position, _)| wanted(position)).collect();
        let done = Mutex::new((0, Report::default()));
        let finish = |found: Report| {
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            done.0 += 1;
            done.1.merge(found);
            observe(done.0, kinds.len());
        };
        match self.device.driver()? {
            // A GPU is one; its modules are compiled once.
            Some(driver) if self.device != Device::CudaEmulated => {
                let mut modules = self.modules(driver);
                kinds.iter().for_each(|&kind| finish(self.kind(kind, Some(&mut modules))));
            }
            Some(_) => kinds.par_iter().try_for_each(|&kind| {
                // One device for each, so that they run side by side.
                let mut modules = self.device.driver()?.map(|driver| self.modules(driver));
                finish(self.kind(kind, modules.as_mut()));
                Ok::<(), DriverError>(())
            })?,
            None => kinds.par_iter().for_each(|&kind| finish(self.kind(kind, None))),
        }
        let mut report = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1;
        if self.ops.is_empty() && self.device != Device::Cpu {
            let all = self.library.texts.iter().flat_map(|text| &text.entries).map(|entry| &entry.symbol);
            report.untried = all.filter(|symbol| !report.entries.contains(*symbol)).cloned().collect();
        }
        Ok(report)
    }

    fn modules(&self, driver: Arc<dyn Driver>) -> Modules {
        Modules::new(driver, self.library.clone())
    }

    /// All cases of one kind, on a CUDA device or without one on the processor.
    fn kind(&self, (position, variant): (usize, usize), mut modules: Option<&mut Modules>) -> Report {
        let mut report = Report::default();
        let mut rng = Rng::new(self.seed, (position * 64 + variant) as u32, 1);
        for storage in [Storage::F32, Storage::Bf16] {
            let mut sizes: Vec<Size> = (0..self.cases).map(|_| size(&mut rng)).collect();
            sizes.extend(cases::large(position, variant));
            for size in sizes {
                let spot = Spot { position, variant, size, draw: u64::from(rng.next_u32()), storage };
                self.spot(&spot, modules.as_deref_mut(), &mut report);
            }
        }
        if let Some(modules) = modules {
            report.entries.extend(modules.asked().map(str::to_owned));
        }
        report
    }

    fn spot(&self, spot: &Spot, mut modules: Option<&mut Modules>, report: &mut Report) {
        let case = spot.case();
        let kernels: Vec<&'static str> = match modules {
            Some(_) => case.op.cuda().to_vec(),
            None => cpu::kernels(&case),
        };
        let mut expected = None;
        let mut ran = false;
        for kernel in kernels {
            let line = report.kernels.entry(format!("{}/{kernel}", case.op.name())).or_default();
            let result = expected_of(spot, &mut expected).and_then(|expected| match &mut modules {
                Some(modules) => spot.check(modules, kernel, expected),
                None => cpu::check(&case, kernel, spot.storage, expected),
            });
            match result {
                Ok(used) => (line.passed, line.used, ran) = (line.passed + 1, line.used.max(used), true),
                Err(Failure::Refused(_)) => line.refused += 1,
                Err(failure) => {
                    ran = true;
                    let what =
                        || format!("{failure}; case: {} as {}", cases::describe(&case), cases::name(spot.storage));
                    line.failure.get_or_insert_with(what);
                }
            }
        }
        if !ran {
            report.uncovered.insert(format!("{} as {}", case.op.name(), cases::name(spot.storage)));
        }
    }
}

fn expected_of<'a>(spot: &Spot, expected: &'a mut Option<Expected>) -> Result<&'a Expected, Failure> {
    Ok(match expected {
        Some(expected) => expected,
        None => expected.insert(spot.expected()?),
    })
}

impl From<SuiteError> for Error {
    fn from(error: SuiteError) -> Self {
        match error {
            SuiteError::NoOp { .. } => Self::Usage(error.to_string()),
            SuiteError::Device(error) => Self::Device(error),
        }
    }
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// An op that is not there.
    #[error("there is no op `{op}`; there are {all}")]
    NoOp {
        /// What was asked for.
        op: String,
        /// All there are.
        all: String,
    },
    /// A device that is not there.
    #[error(transparent)]
    Device(#[from] DriverError),
}
