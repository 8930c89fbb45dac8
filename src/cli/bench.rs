//! `g2d bench`: measures this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::model::Model;
use super::store::local;
use super::{bench_counters, bench_scaling};
use crate::base::ceilings::Ceilings;
use crate::bench::kernels;
use crate::bench::loader::{self, Synthetic};
use crate::bench::step::{self, Report, Work};
use crate::error::Error;

/// Measures how fast this machine trains, and where the time goes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  g2d bench step --preset small\n  g2d bench kernels --device wgpu --preset small\n  g2d bench step --preset full --batch 2 --recipe official --text-len 256 --json\n  g2d bench loader\n  g2d bench loader --data shards --size 128\n  g2d bench counters --preset small --batch 8\n  g2d bench scaling --preset tiny --batches 2,4,8"
)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Step(Step),
    Kernels(Kernels),
    Loader(Loader),
    Counters(bench_counters::Counters),
    Scaling(bench_scaling::Scaling),
}

/// Times training steps on random films and reports, and every kind of launch within one.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d bench step --preset small\n  \
    g2d bench step --preset full --batch 2 --recipe official --text-len 256 --json")]
pub struct Step {
    #[command(flatten)]
    model: Model,
    /// Tokens of every report; by default all lengths up to --text-len.
    #[arg(long)]
    real_tokens: Option<usize>,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Steps before the clock starts; 0: the first step counts too.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Steps timed.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Show every launch instead of sums by op and kernel.
    #[arg(long)]
    launches: bool,
    /// Wait for each launch on a GPU, so that an error names its place in the plan; what is timed is then slower.
    #[arg(long)]
    replay: bool,
    /// Print the measurements as JSON.
    #[arg(long)]
    json: bool,
}

/// Times every kind of kernel in a step, at its largest shapes there, beside what the device can do at best.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d bench kernels --preset small\n  \
    g2d bench kernels --device wgpu --preset small --batch 4 --json")]
pub struct Kernels {
    #[command(flatten)]
    model: Model,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print the measurements as JSON.
    #[arg(long)]
    json: bool,
}

/// Times how fast batches leave a packed data set, with nobody to use them.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d bench loader\n  g2d bench loader --data shards --size 128 --json")]
pub struct Loader {
    /// Folder that `g2d pack` wrote, or s3://bucket/folder; without it random films of --size, written to the temporary
    /// folder and removed.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Films in a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Side of a film in pixels; larger packed films are averaged down.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// How long it is measured.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Threads that make batches; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print the measurements as JSON.
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        match &self.what {
            What::Step(step) => step.run(),
            What::Kernels(kernels) => kernels.run(),
            What::Loader(loader) => loader.run(),
            What::Counters(counters) => counters.run(),
            What::Scaling(scaling) => scaling.run(),
        }
    }
}

impl Step {
    fn run(&self) -> Result<(), Error> {
        let work = Work { launch_by_launch: self.replay, ..work(&self.model, self.real_tokens, self.threads)? };
        let report = step::run(&work, self.warmup, self.steps)?;
        if self.json {
            let (preset, recipe, revision) = (&*self.model.preset, &*self.model.recipe, revision());
            let line = Line { preset, recipe, revision, report: &report };
            println!("{}", serde_json::to_string(&line).unwrap_or_default());
        } else {
            print!("{}", text(&report, self.launches));
        }
        Ok(())
    }
}

fn work(model: &Model, real_tokens: Option<usize>, threads: usize) -> Result<Work, Error> {
    let config = model.config()?;
    Ok(Work {
        batch: model.batch,
        text_length: model.text_length(&config),
        real_tokens,
        precision: model.precision(),
        device: model.device(),
        threads,
        launch_by_launch: false,
        text_cache: model.text().cache(),
        config,
    })
}

impl Kernels {
    fn run(&self) -> Result<(), Error> {
        let report = kernels::run(&work(&self.model, None, self.threads)?)?;
        if self.json {
            println!("{}", serde_json::to_string(&report).unwrap_or_default());
        } else {
            print!("{}", table(&report));
        }
        Ok(())
    }
}

/// What `bench step --json` prints: the report, and what only the command knows.
#[derive(Serialize)]
struct Line<'a> {
    preset: &'a str,
    recipe: &'a str,
    /// The checkout of this crate in which the command was run, by git; `-dirty` if files are changed. `None` elsewhere.
    revision: Option<String>,
    #[serde(flatten)]
    report: &'a Report,
}

/// See [`Line::revision`].
pub fn revision() -> Option<String> {
    let manifest = std::fs::read_to_string("Cargo.toml").ok()?;
    manifest.lines().find(|line| *line == concat!("name = \"", env!("CARGO_PKG_NAME"), "\""))?;
    let git =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).output().ok()?;
    let text = String::from_utf8(git.stdout).ok()?;
    git.status.success().then(|| text.trim().to_owned())
}

impl Loader {
    fn run(&self) -> Result<(), Error> {
        let time = Duration::from_secs(self.seconds.into());
        let work = |data: &Path| loader::Work {
            data: data.to_owned(),
            batch: self.batch,
            image_size: self.size,
            threads: self.threads,
        };
        let report = match &self.data {
            Some(data) => loader::run(&work(&local(data)?), time)?,
            None => loader::run(&work(Synthetic::write(self.size)?.path()), time)?,
        };
        if self.json {
            println!("{}", serde_json::to_string(&report).unwrap_or_default());
        } else {
            let rate = report.samples_per_s;
            println!(
                "{:.0} samples/s ({:.0} to {:.0}) of {3}x{3} in batches of {4}, from {5} films on {6} threads",
                rate.median, rate.lower, rate.upper, self.size, self.batch, report.films, report.threads
            );
        }
        Ok(())
    }
}

fn limits(ceilings: Option<&Ceilings>) -> String {
    ceilings.map_or_else(String::new, |ceilings| {
        let Ceilings { multiply_add_gflops, instructions, copy_gb_per_s } = ceilings;
        format!(
            "ceilings: {multiply_add_gflops:.0} GFLOP/s multiply-add ({instructions}), {copy_gb_per_s:.1} GB/s copy\n"
        )
    })
}

fn percent(of: Option<f64>) -> String {
    of.map_or_else(|| "-".into(), |percent| format!("{percent:.1}"))
}

fn table(report: &kernels::Report) -> String {
    let mut text = format!("{}\n{}", report.device, limits(report.ceilings.as_ref()));
    text += &format!(
        "\n{:25} {:10} {:>8} {:>10} {:>21} {:>7} {:>7}  shapes\n",
        "op", "kernel", "launches", "us", "quartiles", "% fma", "% copy",
    );
    for kernel in &report.kernels {
        let micro = |seconds: f64| format!("{:.1}", seconds * 1e6);
        text += &format!(
            "{:25} {:10} {:8} {:>10} {:>21} {:>7} {:>7}  {}\n",
            kernel.op,
            kernel.kernel,
            kernel.launches,
            micro(kernel.seconds.median),
            format!("{} to {}", micro(kernel.seconds.lower), micro(kernel.seconds.upper)),
            percent(kernel.percent_multiply_add),
            percent(kernel.percent_copy),
            kernel.shapes.join(" "),
        );
    }
    text
}

fn text(report: &Report, launches: bool) -> String {
    let mut text = format!(
        "{:.1} samples/s on {}: a step of {} pairs takes {:.1} ms ({:.1} to {:.1}{}), {:.1} GFLOP/s on {} threads\n\
         opened in {:.2} s, first step {:.2} s, peak memory {:.0} MiB\n",
        report.samples_per_s,
        report.device,
        report.batch,
        report.step_s.median * 1e3,
        report.step_s.lower * 1e3,
        report.step_s.upper * 1e3,
        report.floor_s.map_or_else(String::new, |floor| format!("; floor {:.1}", floor * 1e3)),
        report.gflops,
        report.threads,
        report.open_s,
        report.first_step_s,
        report.peak_memory.unwrap_or(0) as f64 / f64::from(1 << 20),
    );
    text += &limits(report.ceilings.as_ref());
    text += &format!(
        "\n{:25} {:10} {:>8} {:>9} {:>6} {:>7} {:>7}\n",
        "op", "kernel", "launches", "ms", "%", "% fma", "% copy",
    );
    for op in if launches { &report.launches } else { &report.ops } {
        text += &format!(
            "{:25} {:10} {:8} {:9.2} {:6.1} {:>7} {:>7}  {}\n",
            op.op,
            op.kernel,
            op.launches,
            op.seconds * 1e3,
            op.percent,
            percent(op.percent_multiply_add),
            percent(op.percent_copy),
            op.scope,
        );
    }
    text
}
