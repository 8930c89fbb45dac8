//! `g2d eval`: the downstream tasks, from one checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::DeviceWord;
use super::pretrain::{RUNS, newest_run};
use crate::data::{Dataset, Split};
use crate::downstream::evaluation::{Budget, Choices, Evaluation};
use crate::downstream::prompts::Prompts;
use crate::downstream::report::{self, Report};
use crate::downstream::{Cohort, Subject, Task};
use crate::error::Error;
use crate::program::{Kernels, Precision};
use crate::train::{Resources, quickstart};

/// Tries pre-trained weights on downstream tasks and prints a table; every figure has a 95 % interval and its n.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d eval all                                      the newest run on its data; minutes\n  \
    g2d eval zero-shot --weights runs/1 --data shards\n  \
    g2d eval probe --weights random                   fresh weights of the same model, to compare with\n  \
    g2d eval all --budget full --data nih --out nih-runs-1\n  \
    g2d eval --compare runs/1/eval/a.json runs/2/eval/a.json\n\n\
    Tasks:\n  \
    zero-shot  classification by prompts\n  \
    retrieve   reports for films and films for reports\n  \
    ground     where on a film a sentence is true\n  \
    probe      a linear layer on frozen features of each level, from 1, 10 and 100 % of the training films\n  \
    segment    a U-Net from pre-trained encoder, encoder and decoder, or nothing\n  \
    finetune   classification with the whole encoder\n  \
    all        every task that data and weights allow")]
pub struct Eval {
    /// The task.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(names()), required_unless_present = "compare")]
    task: Option<String>,
    /// A run's folder, a file of weights in one, or `random` (`random:SEED`, `random:SEED:RUN`): fresh weights of that run's
    /// model. By default the newest run in runs/.
    #[arg(long)]
    weights: Option<String>,
    /// Folder of shards made by `g2d pack`, with splits; by default the run's own, or phantoms drawn for evaluation.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How much time is spent: quick (minutes), or full, as the published protocols have it.
    #[arg(long, default_value = "quick", value_parser = ["quick", "full"])]
    budget: String,
    /// Own sentences of classes: TOML, a table [CLASS] with lists `positive` and `negative`.
    #[arg(long)]
    prompts: Option<PathBuf>,
    /// Where the report is written, as .json and .md; by default eval/ in the run's folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to run on: auto (the best real device), cpu, cuda[:N], cuda-emulated[:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "auto")]
    device: DeviceWord,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Compare two reports, figure by figure, and do nothing else.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with_all = ["task", "weights", "data"])]
    compare: Option<Vec<PathBuf>>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What may be asked for.
fn names() -> Vec<&'static str> {
    Task::ALL.iter().map(|task| task.name()).chain(["all"]).collect()
}

impl Eval {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        if let Some([a, b]) = self.compare.as_deref() {
            print!("{}", report::compare(&Report::read(a)?, &Report::read(b)?));
            return Ok(());
        }
        let cancelled = super::cancelled()?;
        let started = Instant::now();
        let (subject, run) = subject(self.weights.as_deref())?;
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let progress = |what: &str| bar.set_message(what.to_owned());
        let cohort = Cohort::of(self.dataset(&subject, &progress, cancelled)?)?;
        let choices = Choices { on: self.resources(), budget: self.budget(), prompts: self.prompts()? };
        let mut evaluation = Evaluation::new(&subject, &cohort, choices, &progress, cancelled);
        let (mut figures, all) = (Vec::new(), self.task.as_deref() == Some("all"));
        for task in Task::ALL.into_iter().filter(|task| all || self.task.as_deref() == Some(task.name())) {
            match evaluation.run(task) {
                Ok(found) => figures.extend(found),
                // Of all tasks those are done that can be; what keeps the others is told.
                Err(Error::Usage(why)) if all && !cancelled.load(std::sync::atomic::Ordering::Relaxed) => {
                    evaluation.note(why);
                }
                Err(error) => return Err(error),
            }
        }
        bar.finish_and_clear();
        if figures.is_empty() {
            return Err(Error::Usage(format!("no task can be done: {}", evaluation.notes.join("; "))));
        }
        let split = |split: Split| {
            Ok((
                split.name().to_owned(),
                cohort.split(split).len(),
                cohort.dataset.split_digest(split)?[..16].to_owned(),
            ))
        };
        let report = Report {
            version: env!("CARGO_PKG_VERSION").into(),
            subject: subject.name.clone(),
            data: cohort.dataset.folder().display().to_string(),
            data_digest: cohort.dataset.digest().to_owned(),
            splits: Split::ALL.into_iter().map(split).collect::<Result<_, Error>>()?,
            budget: self.budget.clone(),
            notes: evaluation.notes,
            seconds: started.elapsed().as_secs_f64(),
            figures,
        };
        let out = self.out.clone().unwrap_or_else(|| self.place(&run, &report));
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        report.write(&out)?;
        match self.json {
            true => println!("{}", serde_json::to_string(&report).unwrap_or_default()),
            false => println!("{}\nwritten to {} and .md", report.text(), out.with_extension("json").display()),
        }
        Ok(())
    }

    /// The films it is tried on.
    fn dataset(
        &self,
        subject: &Subject,
        progress: &(dyn Fn(&str) + Sync),
        cancelled: &std::sync::atomic::AtomicBool,
    ) -> Result<Arc<Dataset>, Error> {
        let phantoms = quickstart::drawn_in(&subject.trained_on);
        let (None, Some(phantoms)) = (&self.data, phantoms) else {
            return Ok(Arc::new(Dataset::open(self.data.as_deref().unwrap_or(&subject.trained_on))?));
        };
        // Other chests, films and words than those that the first run was trained on.
        let told = |done: usize, all: usize| progress(&format!("drawing phantoms for evaluation: {done} of {all}"));
        let size = subject.config.image_size;
        quickstart::evaluation_phantoms(phantoms, size, quickstart::EVALUATION, self.threads, &told, cancelled)
    }

    fn prompts(&self) -> Result<BTreeMap<String, Prompts>, Error> {
        let Some(path) = &self.prompts else { return Ok(BTreeMap::new()) };
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|error| {
            let what = "give each class a table with lists `positive` and `negative`";
            Error::Usage(format!("{}: {}; {what}", path.display(), error.message()))
        })
    }

    fn budget(&self) -> Budget {
        if self.budget == "full" { Budget::full() } else { Budget::quick() }
    }

    fn resources(&self) -> Resources {
        Resources {
            device: self.device.resolve(),
            precision: Precision::Exact,
            kernels: Kernels::Best,
            threads: self.threads,
            launch_by_launch: false,
        }
    }

    /// `RUN/eval/TASK-DATA`, with the data's digest.
    fn place(&self, run: &Path, report: &Report) -> PathBuf {
        let fresh = if self.weights.as_deref().is_some_and(|word| word.starts_with("random")) { "random-" } else { "" };
        let task = self.task.as_deref().unwrap_or_default();
        run.join("eval").join(format!("{fresh}{task}-{}", &report.data_digest[..8]))
    }
}

/// What is evaluated, by what --weights says, and the run it is of.
pub(super) fn subject(weights: Option<&str>) -> Result<(Subject, PathBuf), Error> {
    let newest = || {
        newest_run(Path::new(RUNS)).ok_or_else(|| {
            Error::Usage("there is no run in runs/: train one (g2d pretrain) or name weights with --weights".into())
        })
    };
    match weights {
        None => {
            let run = newest()?;
            Ok((Subject::of_run(&run)?, run))
        }
        Some(word) if word == "random" || word.starts_with("random:") => {
            let (seed, run) = word.strip_prefix("random:").map_or(("0", None), |rest| {
                rest.split_once(':').map_or((rest, None), |(seed, run)| (seed, Some(PathBuf::from(run))))
            });
            let why = || Error::Usage(format!("--weights {word}: write random, random:SEED or random:SEED:RUN"));
            let run = run.map_or_else(newest, Ok)?;
            Ok((Subject::random(&run, seed.parse().map_err(|_| why())?)?, run))
        }
        Some(path) if Path::new(path).is_dir() => Ok((Subject::of_run(Path::new(path))?, path.into())),
        Some(file) => {
            let subject = Subject::of_file(Path::new(file))?;
            Ok((subject, Path::new(file).parent().unwrap_or(Path::new("")).into()))
        }
    }
}
