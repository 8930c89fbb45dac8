//! `g2d bench`: measures this machine.

use clap::{Args, Subcommand};

use super::{Device, PrecisionWord};
use crate::bench::step::{self, Report, Work};
use crate::error::Error;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::Precision;

/// Measures how fast this machine trains, and where the time goes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  g2d bench step\n  g2d bench step --preset full --batch 2 --recipe official --text-len 256 --json"
)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Step(Step),
}

/// Times training steps on random films and reports, and every kind of launch within one.
#[derive(Args)]
pub struct Step {
    /// What to run on.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Size of the model.
    #[arg(long, default_value = "small", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Whose mask and losses.
    #[arg(long, default_value = "default", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: String,
    /// Pairs a step.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens per report at most; by default the preset's longest, at most 256.
    #[arg(long)]
    text_len: Option<usize>,
    /// Tokens of every report; by default all lengths up to --text-len.
    #[arg(long)]
    real_tokens: Option<usize>,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value = "exact")]
    precision: PrecisionWord,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Steps before the clock starts.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Steps timed.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Print the measurements as JSON.
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        match &self.what {
            What::Step(step) => step.run(),
        }
    }
}

impl Step {
    fn run(&self) -> Result<(), Error> {
        let Device::Cpu = self.device;
        let mut config = Config::preset(&self.preset)?.with_recipe(&self.recipe)?;
        config.warmup_steps = 0; // the whole step is measured
        let report = step::run(&Work {
            batch: self.batch,
            text_length: self.text_len.unwrap_or(config.max_positions.min(256)),
            real_tokens: self.real_tokens,
            precision: Precision::from(self.precision),
            threads: self.threads,
            warmup: self.warmup,
            steps: self.steps,
            config,
        })?;
        if self.json {
            println!("{}", serde_json::to_string(&report).unwrap_or_default());
        } else {
            print!("{}", text(&report));
        }
        Ok(())
    }
}

fn text(report: &Report) -> String {
    let ceilings = &report.ceilings;
    let mut text = format!(
        "{:.1} samples/s: a step of {} pairs takes {:.1} ms ({:.1} to {:.1}), {:.1} GFLOP/s on {} threads\n\
         opened in {:.2} s, first step {:.2} s, peak memory {:.0} MiB\n\
         ceilings: {:.0} GFLOP/s multiply-add ({}), {:.1} GB/s copy\n\n\
         {:22} {:10} {:>8} {:>9} {:>6} {:>7} {:>7}\n",
        report.samples_per_s,
        report.batch,
        report.step_s.median * 1e3,
        report.step_s.lower * 1e3,
        report.step_s.upper * 1e3,
        report.gflops,
        report.threads,
        report.open_s,
        report.first_step_s,
        report.peak_memory.unwrap_or(0) as f64 / f64::from(1 << 20),
        ceilings.multiply_add_gflops,
        ceilings.instructions,
        ceilings.copy_gb_per_s,
        "op",
        "kernel",
        "launches",
        "ms",
        "%",
        "% fma",
        "% copy",
    );
    for op in &report.ops {
        text += &format!(
            "{:22} {:10} {:8} {:9.2} {:6.1} {:7.1} {:7.1}\n",
            op.op,
            op.kernel,
            op.launches,
            op.seconds * 1e3,
            op.percent,
            op.percent_multiply_add,
            op.percent_copy
        );
    }
    text
}
