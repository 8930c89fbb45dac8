//! `g2d verify`: kernels against the definitions of their ops.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::{DeviceWord, PrecisionWord};
use crate::bench::step::{Stepper, Work};
use crate::cuda::driver::Attributes;
use crate::error::Error;
use crate::kernels::Library;
use crate::model::batch::{Reports, Shapes, Source, TextBatch};
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::{Kernels, Precision};
use crate::train::{Device, session};
use crate::verify::golden;
use crate::verify::sample::{Sample, Sampled};
use crate::verify::shadow::shadow;
use crate::verify::suite::{Report, Suite};

/// Tokens of a report in a shadowed step, at most.
const TEXT_LENGTH: usize = 64;
/// Tokens of a report in a planned step, at most.
const PLANNED_LENGTH: usize = 256;

/// Holds every kernel of a device against the definition of its op: random shapes and numbers, poisoned outputs, f32 and
/// bf16 storage, the written tolerance. On cuda-emulated the PTX that ships runs under every checker, without a GPU.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d verify                                        every kernel of the best device here\n  \
    g2d verify --device cuda-emulated                 every CUDA kernel, without a GPU, each case on two schedules\n  \
    g2d verify --device cuda-emulated:7               each case on the natural schedule and on schedule 7\n  \
    g2d verify --device cuda-emulated --op conv2d --op linear --cases 20 --seed 7\n  \
    g2d verify --device cuda-emulated --ptx target/ptx   texts under development in the place of those that ship\n  \
    g2d verify --device cuda-emulated --shadow micro  whole steps, launch by launch\n  \
    g2d verify --device cuda --golden tests/emulated/golden --record target/golden   single instructions\n  \
    g2d verify --device cuda-emulated --plan full --batch 256 --sample   the largest step, some blocks of each kernel\n\n\
    A line: op.pass/kernel, cases passed, cases it does not take, what checkers reported, part of the tolerance used up at\n\
    worst. On a GPU also what each entry takes: registers and local memory of a thread, static shared memory of a block.\n\
    Exit code 2 if a case fails, a pass is covered by no kernel, or an entry of ptx/ or kernels/*.wgsl is launched by no case.")]
pub struct Verify {
    /// Whose kernels: auto, cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "auto")]
    device: DeviceWord,
    /// Only this op (its folder in src/ops); may be given many times.
    #[arg(long = "op", value_name = "OP")]
    ops: Vec<String>,
    /// Shapes for each kind of case and each stored type.
    #[arg(long, default_value_t = 6, value_parser = super::from_one::<u32>)]
    cases: u32,
    /// From which shapes and numbers are drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder laid out like ptx/ whose texts are taken in the place of those that ship.
    #[arg(long, value_name = "FOLDER")]
    ptx: Option<PathBuf>,
    /// Instead of drawn cases: steps of this preset, of every recipe, stored as f32 and as bf16; every launch is held
    /// against its op's definition on the very numbers it was given.
    #[arg(long, value_name = "PRESET", conflicts_with_all = ["ops", "cases", "seed", "ptx", "plan"],
        value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    shadow: Option<String>,
    /// Instead of kernels single instructions: the golden vectors in the files (*.txt) of this folder, such as
    /// tests/emulated/golden.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["ops", "cases", "seed", "ptx", "shadow", "plan"])]
    golden: Option<PathBuf>,
    /// Write the golden vectors with the results of this device into this folder, which is made.
    #[arg(long, value_name = "FOLDER", requires = "golden")]
    record: Option<PathBuf>,
    /// Instead of drawn cases: the step of this preset as it is planned for `--batch` pairs, launch by launch. With `--sample`
    /// and on cuda-emulated, for no device holds all of it here: some blocks of each kernel, with the grid and the parameters
    /// of the plan, on numbers that are made where they are read.
    #[arg(long, value_name = "PRESET", conflicts_with_all = ["ops", "cases"], requires_all = ["batch", "sample"],
        value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    plan: Option<String>,
    /// Pairs of the planned step.
    #[arg(long, requires = "plan")]
    batch: Option<usize>,
    /// Runs of each kernel of the planned step some blocks: the first, the last, the last of the first row, two others.
    #[arg(long, requires = "plan")]
    sample: bool,
    /// How the planned step stores numbers: exact or mixed.
    #[arg(long, value_enum, requires = "plan", default_value = "mixed")]
    precision: PrecisionWord,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        if let Some(folder) = &self.golden {
            return self.golden(folder);
        }
        let library = match &self.ptx {
            Some(folder) => {
                Library::with_folder(folder).map_err(|error| Error::Usage(format!("{}: {error}", folder.display())))?
            }
            None => Library::shipped(),
        };
        let device = self.device.resolve();
        if let Some(preset) = &self.plan {
            return self.sampled(preset, device, &library);
        }
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

impl Verify {
    /// Holds a device against golden vectors, and writes down what it gives.
    fn golden(&self, folder: &Path) -> Result<(), Error> {
        let device = self.device.resolve();
        let Some(driver) = device.driver()? else {
            let text = format!("golden vectors are PTX, which {device} does not run; take cuda or cuda-emulated");
            return Err(Error::Usage(text));
        };
        let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(Error::io(folder))?;
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.retain(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "txt"));
        paths.sort();
        if paths.is_empty() {
            return Err(Error::Usage(format!("{} holds no golden vectors (*.txt)", folder.display())));
        }
        let (mut wrong, mut files) = (0, Vec::new());
        for path in &paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            let recorded = golden::recorded(&text, &*driver);
            let (written, differences) =
                recorded.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
            if let Some(to) = &self.record {
                std::fs::create_dir_all(to).map_err(Error::io(to))?;
                std::fs::write(to.join(&*name), written).map_err(Error::io(to))?;
            }
            wrong += differences.len();
            if !self.json {
                println!("{name}: {} cases differ", differences.len());
                differences.iter().for_each(|difference| println!("  {difference}"));
            }
            files.push(serde_json::json!({ "file": name, "differences": differences }));
        }
        if self.json {
            let device = device.to_string();
            println!("{}", serde_json::json!({ "device": device, "passed": wrong == 0, "golden": files }));
        }
        match wrong {
            0 => Ok(()),
            _ => Err(Error::Usage(format!("{device}: {wrong} golden cases differ"))),
        }
    }

    /// `--plan PRESET --batch N --sample`.
    fn sampled(&self, preset: &str, device: Device, library: &Library) -> Result<(), Error> {
        if device.schedule().is_none() {
            return Err(Error::Usage(format!("--sample runs on cuda-emulated, not on {device}")));
        }
        let config = Config { warmup_steps: 0, ..Config::preset(preset)? };
        let text_len = config.max_positions.min(PLANNED_LENGTH);
        let batch = self.batch.unwrap_or(1);
        let shapes = Shapes { batch, text_len, source: Source::Bytes };
        let kernels = device.kernels(Kernels::Best, device.capacity());
        let plan = session::step_plan(&config, &shapes, Reports::Tokens, self.precision.into(), kernels)?;
        // Of every length from half of the longest on, so that rows are packed.
        let lengths: Vec<usize> = (0..batch).map(|text| text_len - text * 37 % text_len.div_ceil(2)).collect();
        let tokens: Vec<i32> =
            (0..lengths.iter().sum()).map(|at: usize| (at * 31 % config.vocab_size) as i32).collect();
        let texts = TextBatch::pack(&tokens, &lengths, text_len, &config)?;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(super::style("{msg} {bar:30} {pos}/{len} {elapsed}"));
        bar.set_message(format!("different launches of {preset}, {batch} pairs"));
        let sample = Sample { plan: &plan, texts: &texts, library, seed: self.seed.max(1) };
        let lines = sample.run(&|done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let failed = lines.iter().filter(|line| line.failure.is_some()).count();
        if self.json {
            let passed = failed == 0;
            let (preset, device) = (preset.to_owned(), device.to_string());
            println!(
                "{}",
                serde_json::json!({ "device": device, "preset": preset, "batch": batch, "passed": passed, "kernels": lines })
            );
        } else {
            lines.iter().for_each(|line| println!("{}", sampled_line(line)));
            println!("{}", sampled_total(&lines));
        }
        if failed == 0 { Ok(()) } else { Err(Error::Usage(format!("{device}: {failed} kernels of the plan fail"))) }
    }
}

fn sampled_line(line: &Sampled) -> String {
    let [x, y, z] = line.grid;
    let place = format!("{}x {} {} {}", line.launches.len(), line.scope, line.op, line.kernel);
    let verdict = match (&line.failure, &line.uncompared) {
        (Some(what), _) => format!("FAILED: {what}"),
        (None, None) => format!("{:.2} of the tolerance", line.used),
        (None, Some(why)) if line.elements == 0 => format!("not compared: {why}"),
        (None, Some(why)) => format!("{:.2} of the tolerance; not compared: {why}", line.used),
    };
    format!(
        "{:4} {place:100} grid {x}x{y}x{z} {} blocks {:6} elements  {verdict}",
        line.launches[0], line.blocks, line.elements
    )
}

fn sampled_total(lines: &[Sampled]) -> String {
    let count = |of: &dyn Fn(&&Sampled) -> bool| lines.iter().filter(of).count();
    let launches: BTreeSet<usize> = lines.iter().flat_map(|line| &line.launches).copied().collect();
    let blocks: usize = lines.iter().map(|line| line.blocks).sum();
    let elements: usize = lines.iter().map(|line| line.elements).sum();
    format!(
        "{} launches, {} different kernels of them: {blocks} blocks under every checker, {elements} elements compared; {} kernels \
         compared whole, {} in part, {} not; {} fail",
        launches.len(),
        lines.len(),
        count(&|line| line.elements > 0 && line.uncompared.is_none()),
        count(&|line| line.elements > 0 && line.uncompared.is_some()),
        count(&|line| line.elements == 0),
        count(&|line| line.failure.is_some()),
    )
}

/// Steps of two pairs, launch by launch.
fn shadows(preset: &str, device: Device, bar: &ProgressBar) -> Result<Report, Error> {
    let mut report = Report::default();
    // Shaders have no bf16.
    let precisions: &[Precision] =
        if matches!(device, Device::Wgpu(_)) { &[Precision::Exact] } else { &[Precision::Exact, Precision::Mixed] };
    for recipe in RECIPES {
        for &precision in precisions {
            let config = Config { warmup_steps: 0, ..Config::preset(preset)?.with_recipe(recipe)? };
            let text_length = config.max_positions.min(TEXT_LENGTH);
            let work = Work {
                config,
                batch: 2,
                text_length,
                real_tokens: None,
                precision,
                device,
                threads: 0,
                launch_by_launch: false,
                text_cache: false,
            };
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
    let checked = report.entries.values().any(Option::is_some);
    for (name, line) in &report.kernels {
        let verdict = match &line.failure {
            Some(what) => format!("FAILED: {what}"),
            None if line.passed == 0 => "takes none of these cases".into(),
            None => format!("{:.2} of the tolerance", line.used),
        };
        // On the processor and by wgpu there are no checkers.
        let reports = if checked { format!("  {:2} reports", line.reports) } else { String::new() };
        text += &format!("{name:36} {:4} passed {:4} not taken{reports}  {verdict}\n", line.passed, line.refused);
    }
    for (symbol, attributes) in &report.entries {
        // The emulated device gives as many registers as the text names; what an assembler makes of them a driver says.
        if let Some(Attributes { registers: registers @ 1.., local, static_shared, .. }) = attributes {
            text += &format!("{symbol:44} {registers:3} registers, {local} bytes local, {static_shared} shared\n");
        }
    }
    let (cases, kernels) = (report.kernels.values().map(|line| line.passed).sum::<usize>(), report.kernels.len());
    text += &format!("{cases} cases of {kernels} kernels");
    if !report.entries.is_empty() {
        text += &format!(", {} entries launched", report.entries.len());
    }
    if checked {
        text += &format!(", {} reports", report.kernels.values().map(|line| line.reports).sum::<usize>());
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
