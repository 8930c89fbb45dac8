//! The property tests as the shipped binary runs them: every op, every kind of its cases, random shapes and numbers, every
//! kernel of a device against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use serde::Serialize;

use super::cases::{self, Expected};
use super::compare::Storage;
use super::device::{Failure, Target};
use super::schedules::{self, Scheduled};
use super::{Shaders, Spot, Subject, cpu, gradients};
use crate::base::Rng;
use crate::cuda::Modules;
use crate::cuda::driver::{Attributes, Driver, DriverError};
use crate::error::Error;
use crate::kernels::shaders::{Offered, SHADERS, Shader};
use crate::kernels::{Architecture, Library, manifest};
use crate::ops::{Op, REGISTRY};
use crate::program::{Case, Operation, Size};
use crate::train::Device;
use crate::wgpu::GpuError;

/// What is verified.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Whose kernels.
    pub device: Device,
    /// Folders of ops that [`Suite::run`] tries; empty: all.
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
    /// Passes of an op of another crate with a gradient rule, and what is wrong with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<&'static str, Option<String>>,
}

impl Report {
    /// Whether every case passed and everything was tried.
    pub fn passed(&self) -> bool {
        self.kernels.values().all(|line| line.failure.is_none())
            && self.uncovered.is_empty()
            && self.untried.is_empty()
            && self.rules.values().all(Option::is_none)
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
                    if line.failure.is_none() {
                        let again = |spot: &Spot| check(spot, kernel, &spot.expected()?);
                        let (least, failure) = shrunk(*spot, failure, again);
                        let (case, storage) = (cases::describe(&least.case()), cases::name(spot.storage));
                        line.failure = Some(format!("{failure}; case: {case} as {storage}"));
                    }
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

/// Steps by which a failing case is made smaller, at most.
const SHRINKS: usize = 40;

/// A case nearby that fails too and of which none of the numbers it is made from can be smaller, and how it fails. After a
/// fault nothing runs on a GPU any more, so there a case stays as it is.
fn shrunk(
    mut spot: Spot,
    mut failure: Failure,
    mut check: impl FnMut(&Spot) -> Result<f64, Failure>,
) -> (Spot, Failure) {
    for _ in 0..SHRINKS {
        if matches!(failure, Failure::Driver(_) | Failure::Gpu(_)) {
            break;
        }
        let mut fails = |size| {
            let smaller = Spot { size, ..spot };
            check(&smaller).err().filter(|why| !matches!(why, Failure::Refused(_))).map(|why| (smaller, why))
        };
        let Some(smaller) = smaller(spot.size).find_map(&mut fails) else { break };
        (spot, failure) = smaller;
    }
    (spot, failure)
}

/// The same with one of its numbers smaller, most at first.
fn smaller(size: Size) -> impl Iterator<Item = Size> {
    let less = |number: usize| [1, number / 2, number - 1].into_iter().filter(move |&less| 0 < less && less < number);
    let batch = less(size.batch).map(move |batch| Size { batch, ..size });
    let side = less(size.side).map(move |side| Size { side, ..size });
    let channels = less(size.channels).map(move |channels| Size { channels, ..size });
    let extra = less(size.extra).map(move |extra| Size { extra, ..size });
    batch.chain(side).chain(channels).chain(extra)
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
    /// What `g2d verify` does by default: every op, the kernels that ship.
    pub fn new(device: Device) -> Self {
        Self { device, ops: Vec::new(), cases: 6, seed: 0, library: Library::shipped() }
    }

    /// Runs it on ops of this crate. `observe` is told how many kinds of cases are done, of how many.
    ///
    /// # Errors
    /// If an op is not known, or there is no such device.
    pub fn run(&self, observe: &(dyn Fn(usize, usize) + Sync)) -> Result<Report, SuiteError> {
        if let Some(unknown) = self.ops.iter().find(|op| REGISTRY.iter().all(|(name, _)| name != op)) {
            let all = REGISTRY.iter().map(|&(name, _)| name).collect::<Vec<_>>().join(", ");
            return Err(SuiteError::NoOp { op: unknown.clone(), all });
        }
        let wanted = |position: usize| self.ops.is_empty() || self.ops.iter().any(|op| op == REGISTRY[position].0);
        let kinds = cases::registry().filter(|&(position, _)| wanted(position));
        let kinds: Vec<(Subject, usize)> = kinds.map(|(position, variant)| (position.into(), variant)).collect();
        let mut report = self.tried(&kinds, observe)?;
        if self.ops.is_empty() {
            let offered = self.device.adapter()?.map_or_else(Offered::default, |adapter| adapter.offered);
            let driver = self.device.driver()?;
            let of = |driver: Arc<dyn Driver>| Architecture::of(driver.properties().capability);
            let entries = self.entries(driver.map_or(Architecture::default(), of), offered);
            report.untried = entries.filter(|symbol| !report.entries.contains_key(symbol)).collect();
        }
        Ok(report)
    }

    /// Does with an op of another crate what is done with those of this one: its kernels on the device against its own
    /// reference in f64, under the same checkers, and its gradient rules against central differences. It need not take every
    /// stored type. Every entry that it brings along has to be launched.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn foreign<O: Operation>(&self) -> Result<Report, SuiteError> {
        let subject = Subject::foreign::<O>();
        let kinds: Vec<(Subject, usize)> = (0..O::VARIANTS).map(|variant| (subject, variant)).collect();
        let mut report = self.tried(&kinds, &|_, _| {})?;
        let took = |pass: &str, kernel: &str| {
            kernel.split_once('/').is_some_and(|(of, _)| pass.starts_with(&format!("{of} as ")))
        };
        let kernels = &report.kernels;
        report.uncovered.retain(|pass| !kernels.iter().any(|(kernel, line)| line.passed > 0 && took(pass, kernel)));
        for variant in 0..O::VARIANTS {
            for (draw, size) in (0..).zip(&gradients::SIZES) {
                let case = subject.case(variant, size, draw);
                if !case.differentiable.is_empty() {
                    let what = || gradients::check(&case).err();
                    let wrong = report.rules.entry(case.op.name()).or_default();
                    *wrong = wrong.take().or_else(what);
                }
            }
        }
        let shaders = O::WGSL.iter().map(|&text| Shader::from(text));
        let entries: Vec<String> = match self.device {
            Device::Cpu => Vec::new(),
            Device::Cuda(_) | Device::CudaEmulated(_) | Device::HopperEmulated(_) => O::PTX
                .iter()
                .flat_map(|text| manifest::entries(text.text))
                .flatten()
                .map(|entry| entry.symbol)
                .collect(),
            Device::Wgpu(_) => shaders.flat_map(names).collect(),
        };
        report.untried = entries.into_iter().filter(|symbol| !report.entries.contains_key(symbol)).collect();
        Ok(report)
    }

    /// What becomes of cases of these kinds.
    fn tried(&self, kinds: &[(Subject, usize)], observe: &(dyn Fn(usize, usize) + Sync)) -> Result<Report, SuiteError> {
        let done = Mutex::new((0, Report::default()));
        let finish = |found: Report| {
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            done.0 += 1;
            done.1.merge(found);
            observe(done.0, kinds.len());
        };
        let schedule = self.device.schedule();
        let (driver, gpu) = (self.device.driver()?, self.device.gpu()?);
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
        Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1)
    }

    /// Names of everything that the cases of all ops must launch, on a GPU of this architecture or an adapter that offers this.
    fn entries(&self, architecture: Architecture, offered: Offered) -> Box<dyn Iterator<Item = String> + '_> {
        match self.device {
            Device::Cpu => Box::new(std::iter::empty()),
            Device::Cuda(_) | Device::CudaEmulated(_) | Device::HopperEmulated(_) => {
                let entries = self.library.texts.iter().flat_map(|text| &text.entries);
                let symbols = entries.map(|entry| entry.symbol.clone());
                Box::new(symbols.filter(move |symbol| architecture.lacks(symbol).is_none()))
            }
            Device::Wgpu(_) => {
                let of_op = |shader: &&Shader| REGISTRY.iter().any(|&(op, _)| op == shader.file);
                let symbols = SHADERS.iter().filter(of_op).copied().flat_map(names);
                Box::new(symbols.filter(move |symbol| offered.lacks(symbol).is_none()))
            }
        }
    }

    /// All cases of one kind on a device.
    fn on_device<T: Target>(&self, kind: (Subject, usize), target: &mut T) -> Report {
        let kernels = |case: &Case<Op>| T::kernels(&case.op).to_vec();
        let mut report =
            self.kind(kind, T::STORAGES, kernels, |spot, kernel, expected| spot.check(target, kernel, expected));
        report.entries.extend(target.asked());
        report
    }

    /// All cases of one kind on an emulated device, each on two schedules.
    fn emulated(&self, kind: (Subject, usize), asked: u64) -> Report {
        let mut device = Scheduled::new(self.library.clone());
        let kernels = |case: &Case<Op>| case.op.cuda().to_vec();
        let mut report = self.kind(kind, Modules::STORAGES, kernels, |spot, kernel, expected| {
            device.check(spot, kernel, expected, schedules::pair(spot, asked))
        });
        report.entries.extend(Target::asked(&device.modules));
        report
    }

    /// All cases of one kind on the processor.
    fn on_processor(&self, kind: (Subject, usize)) -> Report {
        let check = |spot: &Spot, kernel, expected: &Expected| cpu::check(&spot.case(), kernel, spot.storage, expected);
        self.kind(kind, &[Storage::F32, Storage::Bf16], cpu::kernels, check)
    }

    /// All cases of one kind, by those of the kernels for which `check` does not refuse.
    fn kind(
        &self,
        (subject, variant): (Subject, usize),
        storages: &[Storage],
        kernels: impl Fn(&Case<Op>) -> Vec<&'static str>,
        mut check: impl FnMut(&Spot, &'static str, &Expected) -> Result<f64, Failure>,
    ) -> Report {
        let mut report = Report::default();
        let mut rng = Rng::new(self.seed, subject.stream(variant), 1);
        for &storage in storages {
            let mut sizes: Vec<Size> = (0..self.cases).map(|_| size(&mut rng)).collect();
            sizes.extend(subject.large(variant));
            for size in sizes {
                let spot = Spot { subject, variant, size, draw: u64::from(rng.next_u32()), storage };
                report.take(&spot, &kernels, &mut check);
            }
        }
        report
    }
}

/// `NAME.ENTRY` of every entry of a shader.
fn names(shader: Shader) -> impl Iterator<Item = String> {
    shader.entries().map(move |entry| format!("{}.{entry}", shader.name))
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
