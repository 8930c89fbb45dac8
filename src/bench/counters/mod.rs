//! What every kernel of a planned step moves and computes, counted on the emulated device, without a GPU: `g2d bench
//! counters`.
//!
//! Of each kernel some blocks run, with the grid and the parameters of the plan, on memory that is made where it is read
//! ([`opened`](crate::verify::opened)); what they count stands for all blocks. Launches that are equal are counted once.
//!
//! | figure | what it is |
//! |---|---|
//! | floor bytes | every input of the launch read once, every output written once |
//! | sectors | 32 bytes each, as accesses of warps ask for them: what L1 is asked |
//! | touched | each sector once a block for reading, once for writing: what L2 is asked, if L1 keeps all that its block reads |
//! | distinct | each sector once a kernel for reading, once for writing |
//! | device | what crosses the bus, by the model below |
//!
//! **The model of L2.** Nothing is kept from one kernel to the next. Within a kernel the smallest values that together take
//! half of L2 are read from device memory once. Of the others, what several of 264 blocks in a row read (two on each of 132
//! multiprocessors) is read once for all of them, and again for the next 264. These blocks are not run whole: each
//! is taken to read what the middle block of the grid reads, moved to where it begins to read itself. What is written is
//! written once. A GPU may do worse, where blocks that share do not keep step, and better, between rounds and kernels.
//!
//! **Predicted** times are those of [`roofline`]: the longest of what memory, L2, matrix products, other arithmetic and issue
//! take, each at its full rate, and 2 µs. Nothing was measured.

pub mod baseline;
mod blocks;
pub mod roofline;
mod traffic;

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::blocks::Count;
use self::roofline::{Bound, CHIPS, Chip};
use crate::cuda::driver::emulated::SECTOR;
use crate::error::Error;
use crate::kernels::{Architecture, Library, resources};
use crate::model::batch::{Reports, Shapes, Source, TextBatch};
use crate::model::config::Config;
use crate::program::plan::{Launch, Plan};
use crate::program::{Checked, Kernels, Precision};
use crate::train::session;
use crate::verify::opened::{Machine, Opened, different};

/// From which the numbers of values are drawn.
const SEED: u64 = 1;
/// Inputs and outputs whose shapes are told; AdamW has a thousand.
const NAMED: usize = 4;

/// What is counted.
#[derive(Clone, Debug)]
pub struct Work {
    /// The model.
    pub config: Config,
    /// Pairs a step.
    pub batch: usize,
    /// Tokens of every report.
    pub text_length: usize,
    /// How reports arrive.
    pub reports: Reports,
    /// How numbers are stored.
    pub precision: Precision,
    /// For which times are predicted launch by launch.
    pub chip: Chip,
    /// Whose kernels the plan takes.
    pub architecture: Architecture,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Report {
    /// Sums over the step.
    pub totals: Totals,
    /// Digest of the plan's text.
    pub plan: String,
    /// Every different launch, in the order of the plan.
    pub lines: Vec<Line>,
}

/// Sums over all launches of a step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Launches, and how many of them differ.
    pub launches: usize,
    /// Those.
    pub different: usize,
    /// Kernels that are launched.
    pub kernels: usize,
    /// Bytes that have to move at least, launch by launch.
    pub floor_bytes: u64,
    /// Bytes of the sectors that L1 is asked for.
    pub sector_bytes: u64,
    /// Bytes that cross the bus of device memory, on the chip that was asked for.
    pub device_bytes: u64,
    /// Floating-point operations of the ops' definitions.
    pub floor_flops: u64,
    /// Floating-point operations of matrix instructions.
    pub tensor_flops: u64,
    /// Other floating-point operations.
    pub flops: u64,
    /// Conflicts of shared memory.
    pub conflicts: u64,
    /// Kernels whose threads spill registers.
    pub spilling: usize,
    /// What a step is predicted to take, on every chip that takes the kernels.
    pub predicted: Vec<Step>,
}

/// A step on a chip; predicted, not measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The chip.
    pub chip: String,
    /// Predicted seconds of a step.
    pub seconds: f64,
    /// Predicted pairs per second.
    pub samples_per_s: f64,
    /// Seconds of the launches of this plan at the chip's ceilings.
    pub floor_seconds: f64,
    /// Pairs per second there.
    pub floor_samples_per_s: f64,
}

/// A launch, with all that are equal to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Their positions in the plan.
    pub launches: Vec<usize>,
    /// Where in the model each of them is.
    pub scopes: Vec<String>,
    /// Op and pass.
    pub op: String,
    /// The chosen kernel.
    pub kernel: String,
    /// Stored types and shapes of the first inputs, then of the first outputs.
    pub shapes: Vec<String>,
    /// Bytes that have to move at least.
    pub floor_bytes: u64,
    /// Floating-point operations of the op's definition.
    pub floor_flops: u64,
    /// Its kernels, in order.
    pub calls: Vec<Call>,
}

/// One kernel of a launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its name.
    pub symbol: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Blocks that ran whole; the counts are those of all blocks.
    pub sampled: usize,
    /// Sectors of 32 bytes that L1 is asked for.
    pub sectors: u64,
    /// Bytes of sectors, once a block.
    pub touched_bytes: u64,
    /// Bytes of sectors, once a kernel.
    pub distinct_bytes: u64,
    /// Bytes that cross the bus of device memory, by the model.
    pub device_bytes: u64,
    /// Floating-point operations of matrix instructions.
    pub tensor_flops: u64,
    /// Other floating-point operations.
    pub flops: u64,
    /// Instructions of warps.
    pub warp_instructions: u64,
    /// Conflicts of shared memory.
    pub conflicts: u64,
    /// Registers of a thread; `None` where they are not recorded of this text.
    pub registers: Option<u32>,
    /// Bytes that a thread spills, stored and loaded.
    pub spilled: Option<u32>,
    /// Predicted microseconds.
    pub predicted_us: f64,
    /// What bounds it.
    pub bound: Bound,
}

impl Line {
    /// Where in the model the first of them is.
    pub fn scope(&self) -> &str {
        self.scopes.first().map_or("", String::as_str)
    }

    /// Predicted microseconds of one of these launches.
    pub fn predicted_us(&self) -> f64 {
        self.calls.iter().map(|call| call.predicted_us).sum()
    }

    /// A sum over its kernels.
    pub fn sum(&self, of: impl Fn(&Call) -> u64) -> u64 {
        self.calls.iter().map(of).sum()
    }
}

/// What a launch counts, before it is told for a chip.
struct Counted {
    line: Line,
    counts: Vec<(Count, u64)>,
}

/// The plan that is counted.
///
/// # Errors
/// If the configuration cannot be, or there is no plan for it.
pub fn plan(work: &Work) -> Result<Checked, Error> {
    let shapes = Shapes { batch: work.batch, text_len: work.text_length, source: Source::Bytes };
    session::step_plan(&work.config, &shapes, work.reports, work.precision, Kernels::Cuda(work.architecture))
}

/// Counts every kernel of a plan, with kernels out of a library. `observe` is told how many different launches are done, of
/// how many. Runs on the threads of the current pool; each holds what one block touches.
///
/// # Errors
/// If texts of that length do not fit the model, or a kernel cannot be run.
pub fn run(
    work: &Work,
    plan: &Plan,
    library: &Library,
    observe: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report, Error> {
    let lengths = vec![work.text_length; work.batch];
    let words = work.config.vocab_size.max(1);
    let tokens: Vec<i32> = (0..work.batch * work.text_length).map(|at| (at * 31 % words) as i32).collect();
    let texts = TextBatch::pack(&tokens, &lengths, work.text_length, &work.config)?;
    let groups = different(plan);
    let done = AtomicUsize::new(0);
    let counted = |machine: &mut Machine, group: &Vec<usize>| {
        let counted = launch(plan, group, &texts, machine, &work.chip);
        observe(done.fetch_add(1, Ordering::Relaxed) + 1, groups.len());
        counted
    };
    let machine = || Machine::new(library, blocks::options(SEED));
    let all = groups.par_iter().with_max_len(1).map_init(machine, counted).collect::<Result<Vec<_>, String>>();
    let all = all.map_err(Error::Usage)?;
    let totals = totals(plan, &all, work);
    let plan = blake3::hash(plan.to_string().as_bytes()).to_hex().to_string();
    Ok(Report { totals, plan, lines: all.into_iter().map(|counted| counted.line).collect() })
}

fn launch(
    plan: &Plan,
    group: &[usize],
    texts: &TextBatch,
    machine: &mut Machine,
    chip: &Chip,
) -> Result<Counted, String> {
    let launch = &plan.launches[group[0]];
    let at = |why: String| format!("launch {} ({}, {}): {why}", group[0], launch.scope, launch.op.name());
    let opened = Opened::new(plan, launch, texts, SEED).map_err(|why| at(why.to_string()))?;
    let mut counts = Vec::new();
    let mut calls = Vec::new();
    for (position, asked) in opened.calls.iter().enumerate() {
        let count = blocks::count(&opened, machine, position).map_err(at)?;
        let all = asked.grid.iter().map(|&blocks| u64::from(blocks)).product();
        let (seconds, bound) = chip.predicted(&count, all);
        let resources = resources::of(asked.symbol);
        calls.push(Call {
            symbol: asked.symbol.into(),
            grid: asked.grid,
            threads: asked.block.iter().product(),
            sampled: count.sampled,
            sectors: count.sectors,
            touched_bytes: count.traffic.touched(),
            distinct_bytes: count.traffic.distinct(),
            device_bytes: count.traffic.device(chip.l2),
            tensor_flops: count.tensor_flops,
            flops: count.flops,
            warp_instructions: count.warp_instructions,
            conflicts: count.conflicts,
            registers: resources.map(|of| of.registers),
            spilled: resources.map(|of| of.spill_stores + of.spill_loads),
            predicted_us: (seconds * 1e9).round() / 1e3,
            bound,
        });
        counts.push((count, all));
    }
    Ok(Counted { line: line(plan, launch, group, calls), counts })
}

fn line(plan: &Plan, launch: &Launch, group: &[usize], calls: Vec<Call>) -> Line {
    let told = |values: &[usize]| {
        let name = |&at: &usize| format!("{}{}", plan.buffers[at].dtype.name(), plan.buffers[at].spec.shape);
        let more = values.len().checked_sub(NAMED).filter(|&more| more > 0).map(|more| format!("+{more}"));
        values.iter().take(NAMED).map(name).chain(more).collect::<Vec<_>>()
    };
    Line {
        launches: group.to_vec(),
        scopes: group.iter().map(|&at| plan.launches[at].scope.clone()).collect(),
        op: launch.op.name().into(),
        kernel: launch.kernel.into(),
        shapes: [told(&launch.inputs), vec!["->".into()], told(&launch.outputs)].concat(),
        floor_bytes: launch.cost.bytes,
        floor_flops: launch.cost.flops,
        calls,
    }
}

fn totals(plan: &Plan, all: &[Counted], work: &Work) -> Totals {
    let times = |counted: &Counted| counted.line.launches.len() as u64;
    let sum = |of: &dyn Fn(&Call) -> u64| all.iter().map(|counted| times(counted) * counted.line.sum(of)).sum();
    let spills = |call: &Call| u64::from(call.spilled.is_some_and(|bytes| bytes > 0));
    let step = |chip: &Chip| {
        let kernels =
            |counted: &Counted| counted.counts.iter().map(|(count, all)| chip.predicted(count, *all).0).sum::<f64>();
        let seconds: f64 = all.iter().map(|counted| times(counted) as f64 * kernels(counted)).sum();
        let floor_seconds: f64 =
            plan.launches.iter().map(|launch| chip.floor(launch.cost.flops, launch.cost.bytes)).sum();
        let rate = |seconds: f64| work.batch as f64 / seconds;
        let (samples_per_s, floor_samples_per_s) = (rate(seconds), rate(floor_seconds));
        Step { chip: chip.name.into(), seconds, samples_per_s, floor_seconds, floor_samples_per_s }
    };
    let cost = plan.cost();
    Totals {
        launches: plan.launches.len(),
        different: all.len(),
        kernels: sum(&|_| 1) as usize,
        floor_bytes: cost.bytes,
        sector_bytes: SECTOR as u64 * sum(&|call| call.sectors),
        device_bytes: sum(&|call| call.device_bytes),
        floor_flops: cost.flops,
        tensor_flops: sum(&|call| call.tensor_flops),
        flops: sum(&|call| call.flops),
        conflicts: sum(&|call| call.conflicts),
        spilling: sum(&spills) as usize,
        predicted: CHIPS.iter().filter(|chip| chip.takes(work.architecture)).map(step).collect(),
    }
}
