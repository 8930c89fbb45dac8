//! `g2d bench counters`: what every kernel of a step moves and computes, counted without a GPU.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::PrecisionWord;
use super::bench::revision;
use super::text::Text;
use crate::bench::counters::baseline::{self, Head};
use crate::bench::counters::roofline::{CHIPS, Chip};
use crate::bench::counters::{self, Call, Line, Report, Totals, Work};
use crate::error::Error;
use crate::kernels::{Architecture, Library};
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::Precision;
use crate::train::defaults;

/// Counts what every CUDA kernel of a planned step moves and computes, from some blocks of each on the emulated device, and
/// predicts from it what a step takes on a GPU. Reports are all of full length.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  g2d bench counters                                 the published model, 256 pairs; minutes\n  \
    g2d bench counters --preset small --batch 8\n  \
    g2d bench counters --json > counts.json            a line for the step, then one for each different launch\n  \
    g2d bench counters --against counts.json           exit code 2 if a count has grown, or kernels changed\n  \
    g2d bench counters --target sm_90a                 with the kernels that Hopper takes\n  \
    g2d bench counters --ptx target/ptx --preset small texts under development in the place of those that ship\n\n\
    A line: launches that are equal, op/kernel, MB that have to move (floor), that cross the bus of device memory by the\n\
    model of L2 over the floor (device), that L1 is asked for over the floor (sectors), GFLOP of matrix instructions and of\n\
    others, conflicts of shared memory, registers (! where they spill), predicted time of one, what bounds it, where."
)]
pub struct Counters {
    /// Size of the model.
    #[arg(long, default_value = "full", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Whose mask and losses.
    #[arg(long, default_value = "official", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: String,
    /// Pairs a step.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Tokens of every report; by default the preset's longest, at most 256.
    #[arg(long)]
    text_len: Option<usize>,
    /// How numbers are stored: exact or mixed.
    #[arg(long, value_enum, default_value = "mixed")]
    precision: PrecisionWord,
    #[command(flatten)]
    tower: Text,
    /// For which times are predicted launch by launch.
    #[arg(long, default_value = "h200",
        value_parser = clap::builder::PossibleValuesParser::new(CHIPS.map(|chip| chip.name)))]
    chip: String,
    /// Whose kernels the plan takes: those for sm_80, which run everywhere, or with those for sm_90a, which run on Hopper.
    #[arg(long, default_value = "sm_80",
        value_parser = clap::builder::PossibleValuesParser::new([Architecture::Sm80, Architecture::Sm90a].map(Architecture::name)))]
    target: String,
    /// Folder laid out like ptx/ whose texts are taken in the place of those that ship.
    #[arg(long, value_name = "FOLDER")]
    ptx: Option<PathBuf>,
    /// Hold the counts against those in this file, which `--json` wrote.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print the counts as lines of JSON.
    #[arg(long)]
    json: bool,
}

impl Counters {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let library = match &self.ptx {
            Some(folder) => {
                Library::with_folder(folder).map_err(|error| Error::Usage(format!("{}: {error}", folder.display())))?
            }
            None => Library::shipped(),
        };
        // Before the minutes that counting takes.
        let committed = self.committed()?;
        let work = self.work()?;
        let plan = counters::plan(&work)?;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(super::style("{msg} {bar:30} {pos}/{len} {elapsed}"));
        bar.set_message(format!("different launches of {}, {} pairs", self.preset, self.batch));
        let report = counters::run(&work, &plan, &library, &|done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let report = report?;
        if self.json {
            print!("{}", baseline::written(&self.head(&work, &report), &report.lines));
        } else {
            print!("{}", text(&report, &self.chip));
        }
        match committed {
            Some(lines) => held(&baseline::grown(&lines, &report.lines)),
            None => Ok(()),
        }
    }

    fn work(&self) -> Result<Work, Error> {
        let mut config = Config { warmup_steps: 0, ..Config::preset(&self.preset)?.with_recipe(&self.recipe)? };
        self.tower.apply(&mut config);
        let chip = Chip::of(&self.chip).ok_or_else(|| Error::Usage(format!("there is no chip {}", self.chip)))?;
        let architecture = self.architecture();
        if !chip.takes(architecture) {
            let why =
                format!("an {} does not take kernels for {architecture}; give another --chip or --target", self.chip);
            return Err(Error::Usage(why));
        }
        Ok(Work {
            batch: self.batch,
            text_length: self.text_len.unwrap_or(defaults::text_length(&config)),
            reports: self.tower.reports(),
            precision: self.precision.into(),
            chip,
            architecture,
            config,
        })
    }

    fn architecture(&self) -> Architecture {
        if self.target == Architecture::Sm90a.name() { Architecture::Sm90a } else { Architecture::Sm80 }
    }

    /// The committed counts, if there are to be any.
    fn committed(&self) -> Result<Option<Vec<Line>>, Error> {
        let Some(path) = &self.against else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let (_, lines) = baseline::read(&text).map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?;
        Ok(Some(lines))
    }

    fn head(&self, work: &Work, report: &Report) -> Head {
        let precision = Precision::from(self.precision).name().to_owned();
        Head {
            preset: self.preset.clone(),
            recipe: self.recipe.clone(),
            batch: self.batch,
            text_len: work.text_length,
            chip: self.chip.clone(),
            target: self.target.clone(),
            plan: report.plan.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            revision: revision(),
            command: format!(
                "g2d bench counters --preset {} --recipe {} --batch {} --text-len {} --precision {precision} --chip {} --target {}{} --json",
                self.preset,
                self.recipe,
                self.batch,
                work.text_length,
                self.chip,
                self.target,
                self.tower.flags()
            ),
            precision,
            totals: report.totals.clone(),
        }
    }
}

/// Whether nothing is worse than what is committed.
fn held(worse: &[String]) -> Result<(), Error> {
    if worse.is_empty() {
        return Ok(());
    }
    worse.iter().for_each(|line| eprintln!("{line}"));
    let count = if worse.len() == 1 { "1 count is".into() } else { format!("{} counts are", worse.len()) };
    let what = "not as committed; mend the kernel, or write the file anew if this is as it should be";
    Err(Error::Usage(format!("{count} {what}")))
}

fn text(report: &Report, chip: &str) -> String {
    let mut text = format!(
        "{:>4} {:28} {:>9} {:>7} {:>7} {:>9} {:>8} {:>9} {:>5} {:>9} {:6}  scope\n",
        "", "op/kernel", "floor MB", "device", "sectors", "GFLOP", "others", "conflicts", "regs", "us", "bound",
    );
    for line in &report.lines {
        text += &row(line);
    }
    text + &summary(&report.totals, chip)
}

fn row(line: &Line) -> String {
    let floor = line.floor_bytes.max(1) as f64;
    let giga = |flops: u64| flops as f64 / 1e9;
    let most = line.calls.iter().max_by(|a, b| a.predicted_us.total_cmp(&b.predicted_us));
    let registers: Vec<u32> = line.calls.iter().filter_map(|call| call.registers).collect();
    let registers = registers.iter().max().map_or("-".into(), |most| most.to_string() + spilling(&line.calls));
    format!(
        "{:3}x {:28} {:9.2} {:7.2} {:7.2} {:9.2} {:8.3} {:9} {:>5} {:9.1} {:6}  {}\n",
        line.launches.len(),
        format!("{}/{}", line.op, line.kernel),
        floor / 1e6,
        line.sum(|call| call.device_bytes) as f64 / floor,
        line.sum(|call| 32 * call.sectors) as f64 / floor,
        giga(line.sum(|call| call.tensor_flops)),
        giga(line.sum(|call| call.flops)),
        line.sum(|call| call.conflicts),
        registers,
        line.predicted_us(),
        most.map_or_else(String::new, |call| format!("{:?}", call.bound).to_lowercase()),
        line.scope(),
    )
}

fn spilling(calls: &[Call]) -> &'static str {
    if calls.iter().any(|call| call.spilled.is_some_and(|bytes| bytes > 0)) { "!" } else { "" }
}

fn summary(totals: &Totals, chip: &str) -> String {
    let giga = |bytes: u64| bytes as f64 / 1e9;
    let mut text = format!(
        "{} launches ({} different, {} kernels): floor {:.1} GB and {:.2} TFLOP; device memory of the {chip} {:.1} GB, {:.2} \
         of the floor; sectors {:.1} GB; {:.2} TFLOP of matrix instructions; {} conflicts; {} kernels spill\n",
        totals.launches,
        totals.different,
        totals.kernels,
        giga(totals.floor_bytes),
        totals.floor_flops as f64 / 1e12,
        giga(totals.device_bytes),
        totals.device_bytes as f64 / totals.floor_bytes.max(1) as f64,
        giga(totals.sector_bytes),
        totals.tensor_flops as f64 / 1e12,
        totals.conflicts,
        totals.spilling,
    );
    for step in &totals.predicted {
        text += &format!(
            "{}: predicted {:.1} ms a step, {:.0} samples/s; floor of this plan {:.1} ms, {:.0} samples/s\n",
            step.chip,
            1e3 * step.seconds,
            step.samples_per_s,
            1e3 * step.floor_seconds,
            step.floor_samples_per_s,
        );
    }
    text
}
