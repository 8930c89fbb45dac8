//! Every barrier, fence, commit and wait of the kernels that ship is needed: without it a checker reports or the result is
//! wrong, in some case of the ops that launch the kernel. What may be left out is listed with the reason.
//! `cargo test --release --test cuda synchronisation -- --ignored` leaves out each of them in turn, `G2D_KERNEL=NAME` only
//! those of kernels whose names begin so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use g2d::base::{DType, Spec};
use g2d::cuda::Modules;
use g2d::program::{DeviceIo, Size};
use g2d::verify::Spot;
use g2d::verify::cases::Expected;
use g2d::verify::compare::Storage;
use g2d::verify::device::{Failure, precision, run};

use rayon::prelude::*;

use super::common::{cases, ledger};
use super::device;

/// Statements that order or await memory operations (PTX ISA 9.7.9.25, 9.7.13).
const STATEMENTS: [&str; 9] = [
    "bar.sync",
    "bar.red",
    "bar.warp.sync",
    "barrier",
    "membar",
    "fence",
    "cp.async.commit_group",
    "cp.async.wait_group",
    "cp.async.wait_all",
];
/// Cases from which a fault must come to light.
const SIZES: [Size; 6] = [
    Size { batch: 2, side: 5, channels: 7, extra: 6 },
    Size { batch: 3, side: 13, channels: 16, extra: 9 },
    Size { batch: 2, side: 4, channels: 140, extra: 12 },
    Size { batch: 2, side: 4, channels: 12, extra: 140 },
    Size { batch: 2, side: 12, channels: 72, extra: 40 },
    Size { batch: 3, side: 13, channels: 16, extra: 16 },
];
/// Faults in the sample.
const SAMPLE: usize = 16;
/// Statements that may be left out: kernel, position among its statements, reason.
const EQUIVALENT: [(&str, usize, &str); 32] = [
    ("batch_norm_totals_f32_columns_sm80", 0, FIRST),
    ("clip_loss_fwd_f32_finish_sm80", 0, FIRST),
    ("cross_entropy_finish_f32_block_sm80", 0, FIRST),
    ("dice_loss_fwd_any_eights_sm80", 0, FIRST),
    ("dice_loss_finish_f32_block_sm80", 0, FIRST),
    ("elementwise_loss_fwd_f32_eights_sm80", 0, FIRST),
    ("elementwise_loss_fwd_bf16_eights_sm80", 0, FIRST),
    ("elementwise_loss_finish_f32_block_sm80", 0, FIRST),
    ("finite_piece_f32_eights_sm80", 0, FIRST),
    ("finite_finish_f32_block_sm80", 0, FIRST),
    ("ingest_bytes_f32_images_sm80", 0, FIRST),
    ("ingest_bytes_bf16_images_sm80", 0, FIRST),
    ("layer_norm_finish_f32_columns_sm80", 0, FIRST),
    ("linear_dgrad_f32_any_sm80", 6, OWN),
    ("conv2d_dgrad_f32_128x64_sm80", 5, OWN),
    (
        "body_mask_fwd_f32_runs_sm80",
        7,
        "joining runs commutes; that rows are joined in pairs first only keeps trees low",
    ),
    ("attention_fwd_f32_any_sm80", 14, DRAINED),
    ("attention_fwd_bf16_any_sm80", 12, DRAINED),
    ("attention_fwd_f32_any_sm80", 12, BEFORE),
    ("attention_fwd_f32_any_sm80", 15, SINCE),
    ("attention_fwd_f32_any_sm80", 16, OWN),
    ("attention_fwd_bf16_any_sm80", 13, SINCE),
    ("attention_bwd_f32_dq_sm80", 9, BEFORE),
    ("attention_bwd_f32_dq_sm80", 10, SINCE),
    ("attention_bwd_f32_dq_sm80", 11, OWN),
    ("attention_bwd_f32_dkv_sm80", 12, BEFORE),
    ("attention_bwd_f32_dkv_sm80", 13, SINCE),
    ("attention_bwd_f32_dkv_sm80", 14, OWN),
    ("attention_bwd_f32_dkv_sm80", 15, SINCE),
    ("attention_bwd_f32_dkv_sm80", 16, OWN),
    ("attention_bwd_bf16_dkv_sm80", 11, SINCE),
    ("attention_bwd_bf16_128x64_sm90a", 7, FULL),
];
/// `Sums::weighted` and `store` of kernels/attention.cu serve several callers.
const BEFORE: &str = "behind this call of it the block or the warp synchronises before these lines are written again";
const SINCE: &str = "before this call of it the block or the warp has synchronised since these lines were read";
/// `tests/cuda/attention.rs` leaves it out where they do, which no case of the op has.
const FULL: &str =
    "unless keys fill their tiles, clearing what lies behind them brings the warpgroups together in time";
const FIRST: &str = "it is the block's first sum through its scratch: nothing lies there that is still to be read";
const OWN: &str = "in this form each thread reads back the sums that it wrote itself";
const DRAINED: &str =
    "the last group is empty, and the wait before it left no other; it says so to who changes the loop";

/// A statement to be left out.
#[derive(Debug)]
struct Fault {
    symbol: String,
    /// Position among the statements of its kernel.
    nth: usize,
    path: String,
    line: usize,
    statement: String,
}

fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for text in device::library().texts {
        let (mut symbol, mut nth) = (String::new(), 0);
        for (line, content) in text.ptx.lines().enumerate() {
            if let Some((_, rest)) = content.split_once(".entry ") {
                (symbol, nth) = (rest.split('(').next().unwrap_or(rest).trim().to_owned(), 0);
            }
            let bare = content.trim_start();
            let bare =
                if bare.starts_with('@') { bare.split_once(' ').map_or("", |(_, rest)| rest.trim()) } else { bare };
            if STATEMENTS.iter().any(|statement| bare.starts_with(statement)) {
                let statement = bare.split(';').next().unwrap_or(bare).to_owned();
                faults.push(Fault { symbol: symbol.clone(), nth, path: text.path.clone(), line, statement });
                nth += 1;
            }
        }
    }
    faults
}

/// A case and the kernel of its op that runs it.
struct Trial {
    spot: Spot,
    kernel: &'static str,
    /// About how long it takes: multiply-adds, numbers.
    cost: u64,
    expected: OnceLock<Expected>,
    /// Whether it passes with nothing left out: else it could notice nothing.
    sound: OnceLock<()>,
}

impl Trial {
    /// A checker's report comes before the reference is asked for, which takes longer.
    fn run(&self, modules: &mut Modules) -> Result<(), Failure> {
        let got = run(modules, &self.spot.case(), self.kernel, self.spot.storage)?;
        let expected = self.expected.get_or_init(|| self.spot.expected().expect("the reference is right"));
        expected.accepts(&got).map(drop).map_err(Failure::Wrong)
    }

    fn notices(&self, fault: &Fault, seed: u64) -> bool {
        let noticed = self.run(&mut fault.modules(seed)).is_err();
        if noticed {
            self.sound.get_or_init(|| {
                let intact = self.run(&mut device::modules(seed, device::library()));
                intact.unwrap_or_else(|failure| panic!("{:?} by {} fails as it is: {failure}", self.spot, self.kernel));
            });
        }
        noticed
    }
}

impl Fault {
    /// A device whose library lacks the statement.
    fn modules(&self, seed: u64) -> Modules {
        let mut library = device::library();
        let text = library.texts.iter().find(|text| text.path == self.path).expect("the text of the fault");
        let lines = text.ptx.lines().enumerate();
        let without: String =
            lines.map(|(line, content)| if line == self.line { "\n".into() } else { format!("{content}\n") }).collect();
        library.replace(&self.path, without).expect("a text with one statement less");
        device::modules(seed, library)
    }
}

/// Names of the kernels that an op's kernel launches for a case, if it takes it.
fn launched(spot: &Spot, kernel: &'static str) -> Vec<&'static str> {
    let case = spot.case();
    let inputs = cases::specs(&case);
    let outputs = case.op.infer(&inputs).expect("a case of its own").specs;
    let typed = |specs: &[Spec]| -> Vec<(Spec, DType)> {
        specs.iter().map(|&spec| (spec, precision(spot.storage).dtype(spec.kind))).collect()
    };
    let mut io = DeviceIo::unplaced(&typed(&inputs), &typed(&outputs));
    let taken = case.op.run_cuda(kernel, &mut io);
    taken.map_or(Vec::new(), |()| io.finish().calls.iter().map(|call| call.symbol).collect())
}

/// The cases that launch each kernel, the quickest first.
fn trials() -> BTreeMap<&'static str, Vec<Arc<Trial>>> {
    let mut by_symbol: BTreeMap<&str, Vec<Arc<Trial>>> = BTreeMap::new();
    for (position, variant) in cases::registry() {
        for (at, size) in SIZES.into_iter().chain(cases::large(position, variant)).enumerate() {
            for storage in [Storage::F32, Storage::Bf16] {
                let spot = Spot { subject: position.into(), variant, size, draw: 5 + at as u64, storage };
                let case = spot.case();
                let inputs = cases::specs(&case);
                let outputs = case.op.infer(&inputs).expect("a case of its own").specs;
                let numbers: usize = inputs.iter().map(|spec| spec.shape.elements()).sum();
                let cost = case.op.flops(&inputs, &outputs) + numbers as u64;
                for &kernel in case.op.cuda() {
                    let (expected, sound) = (OnceLock::new(), OnceLock::new());
                    let trial = Arc::new(Trial { spot, kernel, cost, expected, sound });
                    let symbols: BTreeSet<&str> = launched(&spot, kernel).into_iter().collect();
                    symbols.iter().for_each(|symbol| by_symbol.entry(symbol).or_default().push(trial.clone()));
                }
            }
        }
    }
    by_symbol.values_mut().for_each(|trials| trials.sort_by_key(|trial| trial.cost));
    by_symbol
}

fn try_out(faults: &[Fault]) {
    let trials = trials();
    let unexpected = |fault: &Fault| {
        let known = EQUIVALENT.iter().any(|&(symbol, nth, _)| (symbol, nth) == (&*fault.symbol, fault.nth));
        let Some(trials) = trials.get(&*fault.symbol) else {
            return Some(format!("{}: launched by no case of these sizes", fault.symbol));
        };
        let found = (1..3).any(|seed| trials.iter().any(|trial| trial.notices(fault, seed)));
        let what = if known { "listed as needless, but missed" } else { "left out unnoticed" };
        (found == known).then(|| {
            format!("{} number {} ({}, line {}): {what}", fault.symbol, fault.nth, fault.statement, fault.line + 1)
        })
    };
    let unexpected: Vec<String> = faults.par_iter().filter_map(unexpected).collect();
    assert!(unexpected.is_empty(), "{} of {}:\n{}", unexpected.len(), faults.len(), unexpected.join("\n"));
}

/// Of every kernel's statements some that are needed: what is not needed is tried on all cases, which takes minutes.
#[test]
fn a_sample_of_the_statements_is_needed() {
    let mut all = faults();
    let count = all.len();
    all.retain(|fault| !EQUIVALENT.iter().any(|&(symbol, nth, _)| (symbol, nth) == (&*fault.symbol, fault.nth)));
    let every = all.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<Fault> = all.into_iter().step_by(every).collect();
    try_out(&sample);
    ledger::ran(
        "emulated",
        format!("{} of {count} synchronising statements of shipped kernels left out", sample.len()),
    );
}

#[test]
#[ignore = "minutes"]
fn every_statement_is_needed() {
    let kernel = std::env::var("G2D_KERNEL").unwrap_or_default();
    let mut faults = faults();
    faults.retain(|fault| fault.symbol.starts_with(&kernel));
    try_out(&faults);
}
