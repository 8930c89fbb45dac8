//! `g2d verify`: kernels against the definitions of their ops.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::DeviceWord;
use crate::bench::step::{Stepper, Work};
use crate::error::Error;
use crate::kernels::Library;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::Precision;
use crate::train::Device;
use crate::verify::shadow::shadow;
use crate::verify::suite::{Report, Suite};

/// Tokens of a report in a shadowed step, at most.
const TEXT_LENGTH: usize = 64;

/// Holds every kernel of a device against the definition of its op: random shapes and numbers, poisoned outputs, f32 and
/// bf16 storage, the written tolerance. On cuda-emulated the PTX that ships runs under every checker, without a GPU.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d verify                                        every kernel of the best device here\n  \
    g2d verify --device cuda-emulated                 every CUDA kernel, without a GPU\n  \
    g2d verify --device cuda-emulated --op conv2d --op linear --cases 20 --seed 7\n  \
    g2d verify --device cuda-emulated --ptx target/ptx   texts under development in the place of those that ship\n  \
    g2d verify --device cuda-emulated --shadow micro  whole steps, launch by launch\n\n\
    A line: op.pass/kernel, cases passed, cases it does not take, part of the tolerance used up at worst.\n\
    Exit code 2 if a case fails, a pass is covered by no kernel, or an entry of ptx/ or kernels/*.wgsl is launched by no case.")]
pub struct Verify {
    /// Whose kernels: auto, cpu, cuda[:N], cuda-emulated or wgpu[:N].
    #[arg(long, default_value = "auto")]
    device: DeviceWord,
    /// Only this op (its folder in src/ops); may be given many times.
    #[arg(long = "op", value_name = "OP")]
    ops: Vec<String>,
    /// Shapes for each kind of case and each stored type.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    cases: u32,
    /// From which shapes and numbers are drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder laid out like ptx/ whose texts are taken in the place of those that ship.
    #[arg(long, value_name = "FOLDER")]
    ptx: Option<PathBuf>,
    /// Instead of drawn cases: steps of this preset, of every recipe, stored as f32 and as bf16; every launch is held
    /// against its op's definition on the very numbers it was given.
    #[arg(long, value_name = "PRESET", conflicts_with_all = ["ops", "cases", "seed", "ptx"],
        value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    shadow: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let library = match &self.ptx {
            Some(folder) => {
                Library::with_folder(folder).map_err(|error| Error::Usage(format!("{}: {error}", folder.display())))?
            }
            None => Library::shipped(),
        };
        let device = self.device.resolve();
        let suite = Suite { device, ops: self.ops.clone(), cases: self.cases as usize, seed: self.seed, library };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(super::style("{msg} {bar:30} {pos}/{len} {elapsed}"));
        bar.set_message(format!("kernels of {device}"));
        let report = match &self.shadow {
            Some(preset) => shadows(preset, device, &bar),
            None => suite
                .run(&|done, all| {
                    bar.set_length(all as u64);
                    bar.set_position(done as u64);
                })
                .map_err(Error::from),
        };
        bar.finish_and_clear();
        let report = report?;
        if self.json {
            println!(
                "{}",
                serde_json::json!({ "device": device.to_string(), "passed": report.passed(), "report": report })
            );
        } else {
            print!("{}", text(&report));
        }
        if report.passed() { Ok(()) } else { Err(Error::Usage(verdict(&report, &device.to_string()))) }
    }
}

/// Steps of two pairs, launch by launch.
fn shadows(preset: &str, device: Device, bar: &ProgressBar) -> Result<Report, Error> {
    let mut report = Report::default();
    for recipe in RECIPES {
        for precision in [Precision::Exact, Precision::Mixed] {
            let config = Config { warmup_steps: 0, ..Config::preset(preset)?.with_recipe(recipe)? };
            let text_length = config.max_positions.min(TEXT_LENGTH);
            let work = Work { config, batch: 2, text_length, real_tokens: None, precision, device, threads: 0 };
            let mut stepper = Stepper::open(&work)?;
            stepper.step()?;
            bar.set_position(0);
            bar.set_length(stepper.session().step_plan().launches.len() as u64);
            for launch in shadow(stepper.session(), &mut |_| bar.inc(1))? {
                let line = report.kernels.entry(launch.kernel).or_default();
                match launch.failure {
                    None => (line.passed, line.used) = (line.passed + 1, line.used.max(launch.used)),
                    Some(what) => {
                        let place = format!("launch {} ({})", launch.at, launch.scope);
                        line.failure.get_or_insert(format!("{place} of recipe {recipe}, {}: {what}", precision.name()));
                    }
                }
            }
        }
    }
    Ok(report)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (name, line) in &report.kernels {
        let verdict = match &line.failure {
            Some(what) => format!("FAILED: {what}"),
            None if line.passed == 0 => "takes none of these cases".into(),
            None => format!("{:.2} of the tolerance", line.used),
        };
        text += &format!("{name:36} {:4} passed {:4} not taken  {verdict}\n", line.passed, line.refused);
    }
    let (cases, kernels) = (report.kernels.values().map(|line| line.passed).sum::<usize>(), report.kernels.len());
    text += &format!("{cases} cases of {kernels} kernels");
    if !report.entries.is_empty() {
        text += &format!(", {} entries launched", report.entries.len());
    }
    text + "\n"
}

fn verdict(report: &Report, device: &str) -> String {
    let failed = report.kernels.values().filter(|line| line.failure.is_some()).count();
    let mut faults = Vec::new();
    if failed > 0 {
        faults.push(format!("{failed} kernels fail"));
    }
    if !report.uncovered.is_empty() {
        let passes: Vec<&str> = report.uncovered.iter().map(String::as_str).collect();
        faults.push(format!("no kernel does {}", passes.join(", ")));
    }
    if !report.untried.is_empty() {
        faults.push(format!("no case launches {}", report.untried.join(", ")));
    }
    if report.kernels.is_empty() {
        faults.push("there is no kernel to verify".into());
    }
    format!("{device}: {}", faults.join("; "))
}
