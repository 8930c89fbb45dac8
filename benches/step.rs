//! Whole training steps on the processor: 8 pairs of `tiny` and `small` with reports of 64 tokens, timed again and again; and
//! beside its floor and PyTorch what a step of `small` and of `full` reaches.

use std::path::{Path, PathBuf};
use std::process::Command;

use criterion::Throughput;
use g2d::bench::step::{self, Stepper, Work};
use g2d::model::config::Config;
use g2d::program::Precision;
use g2d::train::Device;
use serde_json::Value;

mod settings;

/// What is held against PyTorch, as benches/peers/compare has it: preset, recipe, pairs, tokens, steps here.
const WORKS: [(&str, &str, usize, usize, usize); 2] =
    [("small", "default", 8, 64, 10), ("full", "official", 2, 256, 3)];
/// What was measured by the rules of benches/NOTES.md, a line of JSON for each work.
const COMMITTED: &str = include_str!("results/cpu-step.json");

fn work(preset: &str, recipe: &str, batch: usize, text_length: usize) -> Work {
    Work {
        config: Config::preset(preset).and_then(|config| config.with_recipe(recipe)).expect("a preset"),
        batch,
        text_length,
        real_tokens: None,
        precision: Precision::Exact,
        device: Device::Cpu,
        threads: 0,
        launch_by_launch: false,
        text_cache: false,
    }
}

/// Device, samples per second, percent of the floor, and how many times as fast as PyTorch.
fn beside_its_floor_and_its_peer((preset, recipe, batch, tokens, steps): (&str, &str, usize, usize, usize)) {
    let report = step::run(&work(preset, recipe, batch, tokens), 1, steps).expect("a preset can be trained");
    let floor = report
        .floor_s
        .map_or("no floor".into(), |floor| format!("{:.0} % of its floor", 1e2 * floor / report.step_s.median));
    let peer = measured(preset, recipe, batch, tokens, steps, report.threads).map_or_else(
        || committed(preset),
        |seconds| format!("{:.2} times as fast as PyTorch, measured now", seconds / report.step_s.median),
    );
    println!(
        "step {preset}, {recipe}, {batch} pairs of {tokens} tokens: {} ({}, {} threads), {:.2} samples/s, {floor}; {peer}",
        report.device,
        report.machine.model.as_deref().unwrap_or("unknown processor"),
        report.threads,
        report.samples_per_s
    );
}

/// Seconds of PyTorch's step, if it is installed (tests/oracle/setup).
fn measured(preset: &str, recipe: &str, batch: usize, tokens: usize, steps: usize, threads: usize) -> Option<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = std::env::var_os("G2D_ORACLE_VENV").map_or_else(|| root.join("target/oracle"), PathBuf::from);
    let numbers = [("--batch", batch), ("--text-len", tokens), ("--threads", threads), ("--steps", steps)];
    let python = venv.join("bin/python");
    let mut command = Command::new(python.is_file().then_some(python)?);
    command.arg(root.join("benches/peers/torch_step.py")).args(["--preset", preset, "--recipe", recipe]);
    for (name, number) in numbers {
        command.arg(name).arg(number.to_string());
    }
    let done = command.output().ok()?;
    let line: Value = serde_json::from_str(String::from_utf8_lossy(&done.stdout).lines().last()?).ok()?;
    line["step_s"]["median"].as_f64()
}

/// What was measured before, with its date.
fn committed(preset: &str) -> String {
    let lines = COMMITTED.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["name"] == preset);
    line.map_or("PyTorch was never measured beside it".into(), |line| {
        format!(
            "{:.2} times as fast as PyTorch on {} (committed, not measured now: {})",
            line["speed_ratio"].as_f64().unwrap_or(f64::NAN),
            line["date"].as_str().unwrap_or("an unknown day"),
            line["machine"]["processor"].as_str().unwrap_or("unknown processor"),
        )
    })
}

fn main() {
    let mut criterion = settings::criterion(5);
    let mut group = criterion.benchmark_group("step");
    for preset in ["tiny", "small"] {
        let mut stepper = Stepper::open(&work(preset, "default", 8, 64)).expect("a preset can be trained");
        group.throughput(Throughput::Elements(8));
        group.bench_function(preset, |bencher| bencher.iter(|| stepper.step().expect("the numbers are finite")));
    }
    group.finish();
    criterion.final_summary();
    // Once through everything (`-- --test`) is not for figures.
    if !std::env::args().any(|argument| argument == "--test") {
        WORKS.into_iter().for_each(beside_its_floor_and_its_peer);
    }
}
