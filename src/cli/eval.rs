//! `g2d eval`: the downstream tasks, from one checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::DeviceWord;
use super::pretrain::{RUNS, newest_run, phantoms_in};
use super::store::local;
use crate::checkpoint::beside::run_of;
use crate::checkpoint::folder;
use crate::data::{Dataset, Split};
use crate::downstream::evaluation::{Budget, Choices, Evaluation, PROTOCOL};
use crate::downstream::prompts::Prompts;
use crate::downstream::report::{self, Report};
use crate::downstream::tasks::{Loss, Segmenting, Transfer};
use crate::downstream::{Cohort, Subject, Task};
use crate::error::Error;
use crate::model::layer::Statistics;
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
    masks      the pseudo masks of pre-training beside true masks: by stage, head and threshold\n  \
    probe      a linear layer on frozen features of each level, from 1, 10 and 100 % of the training films\n  \
    segment    a U-Net from pre-trained encoder, encoder and decoder, or nothing\n  \
    finetune   classification with the whole encoder\n  \
    detect     a YOLOv3 head on the frozen encoder\n  \
    all        every task that data and weights allow")]
pub struct Eval {
    /// The task.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(names()), required_unless_present = "compare")]
    task: Option<String>,
    /// A run's folder, a file of weights in one, a folder made by `g2d import` (with --data), or `random` (`random:SEED`,
    /// `random:SEED:RUN`): fresh weights of that run's model. By default the newest run in runs/.
    #[arg(long)]
    weights: Option<String>,
    /// Folder of shards made by `g2d pack` (or s3://bucket/folder), with splits; by default the run's own, or phantoms
    /// drawn for evaluation.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How much time is spent: quick (minutes), or full, as the published protocols have it.
    #[arg(long, default_value = "quick", value_parser = ["quick", "full"])]
    budget: String,
    /// Parts of the training films that heads and decoders learn from, above 0 and up to 1 (all), as in 0.01,0.1,1.
    #[arg(long, value_delimiter = ',', value_parser = fraction)]
    fractions: Option<Vec<f64>>,
    /// What is printed where publications do it otherwise than they should (thresholds tuned on the test films, COCO's mAP by
    /// other overlaps): both, or only what they print. Reports always hold both.
    #[arg(long, default_value = "both", value_parser = ["both", "published"])]
    protocol: String,
    /// segment: what the U-Net begins with; by default each in turn.
    #[arg(long, value_parser = ["encoder", "encoder-decoder", "random"])]
    transfer: Option<String>,
    /// segment: an encoder that was taken over learns too.
    #[arg(long)]
    unfrozen: bool,
    /// segment: what a frozen encoder normalises with in training: the batch's statistics (MGCA), or the running ones.
    #[arg(long, default_value = "batch", value_parser = ["batch", "running"])]
    batch_norm: String,
    /// segment: 10 focal - ln(Dice) (mgca), or cross entropy + 1 - Dice (medklip).
    #[arg(long, default_value = "mgca", value_parser = ["mgca", "medklip"])]
    loss: String,
    /// Own sentences of classes: TOML, a table [CLASS] with lists `positive` and `negative`.
    #[arg(long)]
    prompts: Option<PathBuf>,
    /// Where the report is written, as .json and .md; by default eval/ in the run's folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to run on: auto (the best real device), cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N].
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

/// Between lines that tell of progress where nobody sees a bar.
const LINES_APART: Duration = Duration::from_secs(10);

/// Tells of progress: on the bar or, where nobody sees one, in a line now and then.
fn told(bar: &ProgressBar, last: &Mutex<Instant>, what: &str) {
    bar.set_message(what.to_owned());
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if bar.is_hidden() && last.elapsed() > LINES_APART {
        eprintln!("{what}");
        *last = Instant::now();
    }
}

/// A part above 0, up to 1.
fn fraction(word: &str) -> Result<f64, String> {
    let part = word.parse().ok().filter(|part: &f64| *part > 0.0 && *part <= 1.0);
    part.ok_or_else(|| {
        format!("`{word}` is no part of the training films: give numbers above 0, up to 1, as in 0.01,0.1,1")
    })
}

/// What may be asked for.
fn names() -> Vec<&'static str> {
    Task::ALL.iter().map(|task| task.name()).chain(["all"]).collect()
}

impl Eval {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        if let Some([a, b]) = self.compare.as_deref() {
            print!("{}", report::compare(&Report::read(a)?, &Report::read(b)?)?);
            return Ok(());
        }
        let cancelled = super::cancelled()?;
        let started = Instant::now();
        let (subject, run) = subject(self.weights.as_deref())?;
        let data = self.data.as_deref().map(local).transpose()?;
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let last = Mutex::new(Instant::now());
        let progress = |what: &str| told(&bar, &last, what);
        let dataset = self.dataset(data.as_deref(), &subject, &progress, cancelled)?;
        // A report names its films by digests, so they have to be these films.
        dataset.verify(&mut |_, _| ())?;
        let cohort = Cohort::of(dataset)?;
        let choices = Choices {
            on: self.resources(),
            budget: self.budget(),
            prompts: self.prompts()?,
            segmenting: self.segmenting(),
        };
        let mut evaluation = Evaluation::new(&subject, &cohort, choices, &progress, cancelled);
        let mut report = self.begun(&subject, &cohort)?;
        let out = self.out.clone().map_or_else(|| self.place(&run, &subject, &report), Ok)?;
        let folder = out.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let all = self.task.as_deref() == Some("all");
        for task in Task::ALL.into_iter().filter(|task| all || self.task.as_deref() == Some(task.name())) {
            match evaluation.run(task) {
                Ok(found) => report.figures.extend(found),
                // Of all tasks those are done that can be; what keeps the others is told.
                Err(why) if all && !why.stopped() => evaluation.note(why.to_string()),
                Err(why) => return Err(ended(why, &report, &out)),
            }
            report.notes.clone_from(&evaluation.notes);
            report.seconds = started.elapsed().as_secs_f64();
            // Each task that is done is kept, whatever becomes of the next.
            if !report.figures.is_empty() {
                report.write(&out)?;
            }
        }
        bar.finish_and_clear();
        if self.protocol == "published" {
            report.as_published();
        }
        if report.figures.is_empty() {
            return Err(Error::Usage(format!("no task can be done: {}", report.notes.join("; "))));
        }
        match self.json {
            true => println!("{}", serde_json::to_string(&report).unwrap_or_default()),
            false => {
                let classes = if all { "; there each class by itself" } else { "" };
                let place = report::named(&out, "json");
                println!("{}\nwritten to {} and .md{classes}", report.text(!all), place.display());
            }
        }
        Ok(())
    }

    /// A report that has no figures yet.
    fn begun(&self, subject: &Subject, cohort: &Cohort) -> Result<Report, Error> {
        let split = |split: Split| {
            let digest = cohort.dataset.split_digest(split)?[..16].to_owned();
            Ok((split.name().to_owned(), cohort.split(split).len(), digest))
        };
        Ok(Report {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            subject: subject.name.clone(),
            data: cohort.dataset.folder().display().to_string(),
            data_digest: cohort.dataset.digest().to_owned(),
            splits: Split::ALL.into_iter().map(split).collect::<Result<_, Error>>()?,
            budget: self.budget().name.into(),
            notes: Vec::new(),
            seconds: 0.0,
            figures: Vec::new(),
        })
    }

    /// The films it is tried on.
    fn dataset(
        &self,
        named: Option<&Path>,
        subject: &Subject,
        progress: &(dyn Fn(&str) + Sync),
        cancelled: &std::sync::atomic::AtomicBool,
    ) -> Result<Arc<Dataset>, Error> {
        // Of a run that was moved the phantoms may not have come along.
        let beside = |drawn: &Path| if drawn.is_dir() { drawn.to_owned() } else { phantoms_in(Path::new(RUNS)) };
        let phantoms = subject.trained_on.as_deref().and_then(quickstart::drawn_in).map(beside);
        let (None, Some(phantoms)) = (named, phantoms) else {
            let own = named.or(subject.trained_on.as_deref());
            let what = "were trained on no data that is known: name shards with --data";
            let own = own.ok_or_else(|| Error::Usage(format!("{} {what}", subject.name)))?;
            return Ok(Arc::new(Dataset::open(own)?));
        };
        // Other chests, films and words than those that the first run was trained on.
        let told = |done: usize, all: usize| progress(&format!("drawing phantoms for evaluation: {done} of {all}"));
        let size = subject.config.image_size;
        quickstart::evaluation_phantoms(&phantoms, size, quickstart::EVALUATION, self.threads, &told, cancelled)
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
        let budget = if self.budget == "full" { Budget::full() } else { Budget::quick() };
        match &self.fractions {
            Some(own) => Budget { fractions: own.clone(), upper_fractions: own.clone(), ..budget },
            None => budget,
        }
    }

    fn segmenting(&self) -> Segmenting {
        let own = Segmenting::default();
        let named = |word: &str| Transfer::ALL.into_iter().filter(|transfer| transfer.name() == word).collect();
        Segmenting {
            transfers: self.transfer.as_deref().map_or(own.transfers, named),
            frozen: !self.unfrozen,
            batch_norm: if self.batch_norm == "running" { Statistics::Running } else { Statistics::Batch },
            loss: if self.loss == "medklip" { Loss::Medklip } else { Loss::Mgca },
        }
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

    /// What was chosen otherwise than by default and shapes the figures, as a short digest behind a hyphen; else nothing.
    fn choices(&self) -> Result<String, Error> {
        let prompts = self.prompts.as_deref().map(|path| std::fs::read(path).map_err(Error::io(path))).transpose()?;
        let own = (&self.fractions, &self.transfer, self.unfrozen, &self.batch_norm, &self.loss, &prompts);
        let plain =
            (&None::<Vec<f64>>, &None::<String>, false, &"batch".to_owned(), &"mgca".to_owned(), &None::<Vec<u8>>);
        if own == plain {
            return Ok(String::new());
        }
        Ok(format!("-{}", &blake3::hash(format!("{own:?}").as_bytes()).to_hex()[..8]))
    }

    /// `RUN/eval/TASK-WEIGHTS-BUDGET-DATA`, with the data's digest and that of other choices.
    fn place(&self, run: &Path, subject: &Subject, report: &Report) -> Result<PathBuf, Error> {
        let step = subject.weights.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let weights = match step {
            Some(step) => step.to_string_lossy().into_owned(),
            None => format!("random{}", subject.seed),
        };
        let task = self.task.as_deref().unwrap_or_default();
        let (data, choices) = (&report.data_digest[..8], self.choices()?);
        Ok(run.join("eval").join(format!("{task}-{weights}-{}-{data}{choices}", self.budget)))
    }
}

/// What ends an evaluation; where it was stopped, with the place of what was done before.
fn ended(why: Error, report: &Report, out: &Path) -> Error {
    if !why.stopped() || report.figures.is_empty() {
        return why;
    }
    Error::Stopped(format!("the tasks that were done are in {} and .md", report::named(out, "json").display()))
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
        Some(path) => {
            let path = Path::new(path);
            // Reports go to the run's folder, or to the one that the weights lie in.
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
            Ok((Subject::of(path)?, run_of(&folder.join(folder::WEIGHTS)).unwrap_or(folder).into()))
        }
    }
}
