//! `g2d bench scaling`: how a step grows with batch and length of the reports.

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::bench::revision;
use super::{DeviceWord, PrecisionWord};
use crate::bench::scaling::{self, Row};
use crate::bench::step::Work;
use crate::error::Error;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::Precision;
use crate::train::defaults;

/// Pairs per second against batch and length of the reports, memory against batch, and what a start takes. Where a step
/// cannot be run, or is not to be, its memory is that of the plan. Reports are all of full length.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d bench scaling --preset tiny --batches 2,4,8 --text-lens 16,32\n  \
    g2d bench scaling --device cuda --preset full --recipe official --precision mixed\n  \
    g2d bench scaling --device cuda-emulated --preset full --recipe official --precision mixed --plan-only\n\n\
    A line: batch, tokens of a report, pairs per second, milliseconds of a step, GiB that the plan takes, seconds to plan,\n\
    to open a session, of the first step.")]
pub struct Scaling {
    /// Size of the model.
    #[arg(long, default_value = "tiny", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Whose mask and losses.
    #[arg(long, default_value = "default", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: String,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value = "exact")]
    precision: PrecisionWord,
    /// What it runs on: auto, cpu, cuda[:N], cuda-emulated[:sm_90a] or wgpu[:N].
    #[arg(long, default_value = "cpu")]
    device: DeviceWord,
    /// Pairs a step, one size after another.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 256, 512, 1024])]
    batches: Vec<usize>,
    /// Tokens of every report, one length after another, each with every batch; by default the preset's longest, at most 256.
    #[arg(long, value_delimiter = ',')]
    text_lens: Vec<usize>,
    /// Steps timed behind the first.
    #[arg(long, default_value_t = 3, value_parser = super::from_one::<u32>)]
    steps: u32,
    /// Plan only, run nothing: needs no device.
    #[arg(long)]
    plan_only: bool,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print a line of JSON for each size.
    #[arg(long)]
    json: bool,
}

impl Scaling {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let config = Config { warmup_steps: 0, ..Config::preset(&self.preset)?.with_recipe(&self.recipe)? };
        let (device, precision) = (self.device.resolve(), Precision::from(self.precision));
        let text_lens = match self.text_lens.is_empty() {
            true => vec![defaults::text_length(&config)],
            false => self.text_lens.clone(),
        };
        let sizes: Vec<(usize, usize)> =
            text_lens.iter().flat_map(|&length| self.batches.iter().map(move |&batch| (batch, length))).collect();
        let bar = ProgressBar::with_draw_target(Some(sizes.len() as u64), ProgressDrawTarget::stderr());
        bar.set_style(super::style("{msg} {bar:30} {pos}/{len} {elapsed}"));
        if !self.json {
            println!(
                "{} on {device}\n{:>6} {:>7} {:>10} {:>9} {:>9} {:>7} {:>7} {:>7}",
                self.preset, "batch", "tokens", "samples/s", "ms", "plan GiB", "plan s", "open s", "first s",
            );
        }
        let revision = revision();
        for (batch, text_length) in sizes {
            bar.set_message(format!("{batch} pairs of {text_length} tokens"));
            let work = Work {
                config: config.clone(),
                batch,
                text_length,
                real_tokens: Some(text_length),
                precision,
                device,
                threads: self.threads,
                launch_by_launch: false,
                text_cache: false,
            };
            let row = scaling::row(&work, if self.plan_only { 0 } else { self.steps as usize })?;
            let line = match self.json {
                true => self.json(&row, revision.as_deref()),
                false => text(&row),
            };
            bar.suspend(|| println!("{line}"));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn json(&self, row: &Row, revision: Option<&str>) -> String {
        let (precision, device) = (Precision::from(self.precision).name(), self.device.resolve().to_string());
        let head = serde_json::json!({
            "preset": self.preset, "recipe": self.recipe, "precision": precision, "device": device, "revision": revision,
        });
        let serde_json::Value::Object(mut line) = head else { return String::new() };
        if let Ok(serde_json::Value::Object(row)) = serde_json::to_value(row) {
            line.extend(row);
        }
        serde_json::Value::Object(line).to_string()
    }
}

fn text(row: &Row) -> String {
    let measured = row.measured.as_ref();
    let of = |number: Option<f64>| number.map_or_else(|| "-".into(), |number| format!("{number:.2}"));
    let why = row.not_run.as_ref().map_or_else(String::new, |why| format!("  {why}"));
    format!(
        "{:6} {:7} {:>10} {:>9} {:9.2} {:7.2} {:>7} {:>7}{why}",
        row.batch,
        row.text_len,
        of(measured.map(|measured| measured.samples_per_s)),
        of(measured.map(|measured| 1e3 * measured.step_s.median)),
        row.planned_bytes as f64 / f64::from(1 << 30),
        row.plan_s,
        of(measured.map(|measured| measured.open_s)),
        of(measured.map(|measured| measured.first_step_s)),
    )
}
