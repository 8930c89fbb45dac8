//! The property tests as the shipped binary runs them: every op, every kind of its cases, random shapes and numbers, every
//! kernel of a device against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rayon::prelude::*;
use serde::Serialize;

use super::cases::{self, Expected};
use super::compare::Storage;
use super::device::{Failure, Target};
use super::schedules::{self, Scheduled};
use super::{Shaders, Spot, cpu};
use crate::base::Rng;
use crate::cuda::Modules;
use crate::cuda::driver::{Attributes, DriverError};
use crate::error::Error;
use crate::kernels::Library;
use crate::kernels::shaders::{Offered, SHADERS, Shader};
use crate::ops::{Op, REGISTRY};
use crate::program::{Case, Size};
use crate::train::Device;
use crate::wgpu::GpuError;

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
    /// Reports of checkers, or of a GPU, on what the kernel did.
    pub reports: usize,
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
    /// Entries of PTX texts or shaders that were launched, with what a CUDA device says that each takes of it.
    pub entries: BTreeMap<String, Option<Attributes>>,
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

    /// Tries a case.
    fn take(
        &mut self,
        spot: &Spot,
        kernels: &impl Fn(&Case<Op>) -> Vec<&'static str>,
        check: &mut impl FnMut(&Spot, &'static str, &Expected) -> Result<f64, Failure>,
    ) {
        let case = spot.case();
        let mut expected = None;
        let mut ran = false;
        for kernel in kernels(&case) {
            let line = self.kernels.entry(format!("{}/{kernel}", case.op.name())).or_default();
            match expected_of(spot, &mut expected).and_then(|expected| check(spot, kernel, expected)) {
                Ok(used) => (line.passed, line.used, ran) = (line.passed + 1, line.used.max(used), true),
                Err(Failure::Refused(_)) => line.refused += 1,
                Err(failure) => {
                    ran = true;
                    line.reports += usize::from(failure.is_report());
                    let what =
                        || format!("{failure}; case: {} as {}", cases::describe(&case), cases::name(spot.storage));
                    line.failure.get_or_insert_with(what);
                }
            }
        }
        if !ran {
            self.uncovered.insert(format!("{} as {}", case.op.name(), cases::name(spot.storage)));
        }
    }

    fn merge(&mut self, other: Self) {
        for (name, line) in other.kernels {
            let own = self.kernels.entry(name).or_default();
            own.passed += line.passed;
            own.refused += line.refused;
            own.reports += line.reports;
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
        let schedule = match self.device {
            Device::CudaEmulated(number) => Some(number),
            _ => None,
        };
        let (driver, gpu) = (self.device.driver()?, self.device.gpu()?);
        let offered = gpu.as_ref().map_or(Offered::default(), |gpu| gpu.offered());
        match (driver, gpu) {
            // A GPU is one; its kernels are compiled once.
            (Some(driver), _) if schedule.is_none() => {
                let mut modules = Modules::new(driver, self.library.clone());
                kinds.iter().for_each(|&kind| finish(self.on_device(kind, &mut modules)));
            }
            // One device for each, so that they run side by side.
            (Some(_), _) => kinds.par_iter().for_each(|&kind| finish(self.emulated(kind, schedule.unwrap_or(0)))),
            // The references take longer than the GPU: side by side.
            (None, Some(gpu)) => kinds.par_iter().for_each(|&kind| {
                finish(self.on_device(kind, &mut Shaders::new(gpu.clone())));
            }),
            (None, None) => kinds.par_iter().for_each(|&kind| finish(self.on_processor(kind))),
        }
        let mut report = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1;
        if self.ops.is_empty() {
            report.untried = self.entries(offered).filter(|symbol| !report.entries.contains_key(symbol)).collect();
        }
        Ok(report)
    }

    /// Names of everything that the cases of all ops must launch, on an adapter that offers this.
    fn entries(&self, offered: Offered) -> Box<dyn Iterator<Item = String> + '_> {
        match self.device {
            Device::Cpu => Box::new(std::iter::empty()),
            Device::Cuda(_) | Device::CudaEmulated(_) => {
                let entries = self.library.texts.iter().flat_map(|text| &text.entries);
                Box::new(entries.map(|entry| entry.symbol.clone()))
            }
            Device::Wgpu(_) => {
                let of_op = |shader: &&Shader| REGISTRY.iter().any(|&(op, _)| op == shader.file);
                let entries =
                    |shader: &'static Shader| shader.entries().map(|entry| format!("{}.{entry}", shader.name));
                let symbols = SHADERS.iter().filter(of_op).flat_map(entries);
                Box::new(symbols.filter(move |symbol| offered.lacks(symbol).is_none()))
            }
        }
    }

    /// All cases of one kind on a device.
    fn on_device<T: Target>(&self, kind: (usize, usize), target: &mut T) -> Report {
        let kernels = |case: &Case<Op>| T::kernels(&case.op).to_vec();
        let mut report =
            self.kind(kind, T::STORAGES, kernels, |spot, kernel, expected| spot.check(target, kernel, expected));
        report.entries.extend(target.asked());
        report
    }

    /// All cases of one kind on an emulated device, each on two schedules.
    fn emulated(&self, kind: (usize, usize), asked: u64) -> Report {
        let mut device = Scheduled::new(self.library.clone());
        let kernels = |case: &Case<Op>| case.op.cuda().to_vec();
        let mut report = self.kind(kind, Modules::STORAGES, kernels, |spot, kernel, expected| {
            device.check(spot, kernel, expected, schedules::pair(spot, asked))
        });
        report.entries.extend(Target::asked(&device.modules));
        report
    }

    /// All cases of one kind on the processor.
    fn on_processor(&self, kind: (usize, usize)) -> Report {
        let check = |spot: &Spot, kernel, expected: &Expected| cpu::check(&spot.case(), kernel, spot.storage, expected);
        self.kind(kind, &[Storage::F32, Storage::Bf16], cpu::kernels, check)
    }

    /// All cases of one kind, by those of the kernels for which `check` does not refuse.
    fn kind(
        &self,
        (position, variant): (usize, usize),
        storages: &[Storage],
        kernels: impl Fn(&Case<Op>) -> Vec<&'static str>,
        mut check: impl FnMut(&Spot, &'static str, &Expected) -> Result<f64, Failure>,
    ) -> Report {
        let mut report = Report::default();
        let mut rng = Rng::new(self.seed, (position * 64 + variant) as u32, 1);
        for &storage in storages {
            let mut sizes: Vec<Size> = (0..self.cases).map(|_| size(&mut rng)).collect();
            sizes.extend(cases::large(position, variant));
            for size in sizes {
                let spot = Spot { position, variant, size, draw: u64::from(rng.next_u32()), storage };
                report.take(&spot, &kernels, &mut check);
            }
        }
        report
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
            SuiteError::Gpu(error) => Self::Gpu(error),
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
    /// A GPU that is not there.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
