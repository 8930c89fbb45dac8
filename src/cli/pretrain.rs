//! `g2d pretrain`: trains, and says what was learned.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::DeviceWord;
use super::pretrain_lines::{bar, on_the_emulated_device, say, show, text};
use super::store::local;
use crate::checkpoint::beside;
use crate::checkpoint::import::{Import, Sources, weights_file};
use crate::data::Dataset;
use crate::data::tokenizer::Tokenizer;
use crate::downstream::Subject;
use crate::error::Error;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::report::Reporter;
use crate::train::Device;
use crate::train::config::RunConfig;
use crate::train::defaults::{self, Start};
use crate::train::quickstart::{self, Phantoms};
use crate::train::resident::Resident;
use crate::train::run::{self, Data, Event, Manifest, Run};
use crate::verify::last_step;

/// The phantoms of a run without data.
pub(super) const PHANTOMS: Phantoms = Phantoms { train: 4000, held_out: 320, threads: 0, size: 192 };
/// Its steps.
const PHANTOM_STEPS: u64 = 1000;
/// Passes over one's own data by default.
const EPOCHS: u64 = 20;
/// Steps of a schedule on own data at least: fewer teach nothing.
const LEAST_STEPS: u64 = 200;

/// Pre-trains a model. Without flags: on phantoms, in a few minutes, on any machine.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d pretrain                                      phantoms, a few minutes\n  \
    g2d pretrain --data shards --preset small --steps 200\n  \
    g2d pretrain --data shards --preset full --recipe paper --epochs 50 --batch 128 --out runs/paper\n  \
    g2d pretrain --data shards --preset full --init image=resnet50.pth,text=Bio_ClinicalBERT\n  \
    g2d pretrain --data shards --set lr=1e-4 --set quantile=0.75\n  \
    g2d pretrain --data shards --set decoder_objective=none   an ablation; docs/training.md has all\n  \
    g2d pretrain --resume --out runs/paper            continues from the newest checkpoint")]
pub struct Pretrain {
    /// Folder of shards made by `g2d pack`, or s3://bucket/folder; without it phantoms are drawn.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Size of the model; by default tiny, and without data tiny as tuned for the first run (docs/training.md).
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: Option<String>,
    /// Whose mask, losses and schedule: ours (default), the paper's, or the released code's.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: Option<String>,
    /// TOML file of settings: keys as in --set, the schedule's in a table [schedule], groups as [[groups]]. Or a run's config.json, of
    /// which the model is taken.
    #[arg(long)]
    config: Option<PathBuf>,
    /// One setting, KEY=VALUE; may be given many times and wins over --config.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Stop after so many steps, counted from the run's beginning.
    #[arg(long, conflicts_with = "epochs", value_parser = super::from_one::<u64>)]
    steps: Option<u64>,
    /// Stop after so many passes over the data, counted from the run's beginning.
    #[arg(long, value_parser = super::from_one::<u64>)]
    epochs: Option<u64>,
    /// Pairs a step; short for --set batch=N. On cuda-emulated 4 where nothing is said.
    #[arg(long)]
    batch: Option<usize>,
    #[command(flatten)]
    tower: super::text::Text,
    /// The run's folder; by default a new one in runs/.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue the run in --out (by default the newest in runs/) from its last checkpoint, exactly.
    #[arg(long)]
    resume: bool,
    /// Weights to start from, under published names (safetensors, or as torch.save writes them): a file, a run's folder, or a
    /// folder made by `g2d import`. The published learning rate applies then.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Towers of others to start from, image=FILE,text=FILE_OR_FOLDER: a ResNet-50, a BERT (docs/weights.md). What they lack
    /// starts fresh; the names stand in the run's init.json. The published learning rate applies then.
    #[arg(long, value_name = "image=FILE,text=FILE", conflicts_with = "weights")]
    init: Vec<String>,
    /// What to run on: auto (the best real device), cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N]; a resumed run stays on its last one.
    #[arg(long)]
    device: Option<DeviceWord>,
    /// Keep the films on a CUDA device, uploaded once: auto (where they fit beside the step), on or off. The steps are the same.
    #[arg(long, value_name = "auto|on|off", default_value = "auto")]
    resident: Resident,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Wait for each launch on a GPU, so that an error names its place in the plan; slow.
    #[arg(long)]
    replay: bool,
    /// Write to metrics.jsonl, every 10 steps, the cosine and the ratio of lengths of the two losses' gradients by the image
    /// encoder.
    #[arg(long)]
    log_interference: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) const RUNS: &str = "runs";

impl Pretrain {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let cancelled = super::cancelled()?;
        let (run, towers) = if self.resume { (self.resumed()?, Vec::new()) } else { self.fresh(cancelled)? };
        let bar = bar(run.stop_at);
        let mut last_line = None;
        // The first run ends with a look at the GPU kernels that it did not use; an experiment does not.
        let look = self.first() && self.set.is_empty() && run.device == Device::Cpu;
        let mut repeated = None;
        let mut pages = Pages { reporter: Reporter::new(&run.folder), said: false };
        let mut observe = |event: Event<'_>| {
            pages.take(&bar, |reporter| reporter.observe(&event));
            match event {
                Event::Finished(session, films, text) if look => {
                    bar.set_message("repeating launches on the emulated CUDA device");
                    repeated = Some(last_step::repeat(session, films, text));
                }
                event => show(&bar, self.json, event, &run.config.model, &mut last_line),
            }
        };
        let summary = run::run(&run, towers, &mut observe, cancelled);
        let page = pages.take(&bar, |reporter| reporter.finish()).flatten();
        bar.finish_and_clear();
        let (summary, repeated) = (summary?, repeated.transpose()?.unwrap_or_default());
        if self.json {
            let mut report = serde_json::to_value(&summary).unwrap_or_default();
            report["emulated"] = serde_json::to_value(&repeated).unwrap_or_default();
            report["report"] = serde_json::to_value(&page).unwrap_or_default();
            println!("{report}");
        } else {
            let page = page.map_or_else(String::new, |page| format!("report: {}\n", page.display()));
            print!("{}{}", text(&run, &summary, &page), on_the_emulated_device(&repeated));
        }
        match repeated.repeated.iter().find_map(|launch| launch.failure.as_ref().map(|what| (launch, what))) {
            Some((launch, what)) => Err(Error::Usage(format!("{} on the emulated device: {what}", launch.op))),
            None => Ok(()),
        }
    }

    /// Whether it is the first run: neither data nor model were named.
    fn first(&self) -> bool {
        let named = self.data.is_some() || self.preset.is_some() || self.recipe.is_some() || self.imports();
        !named && !self.resume
    }

    /// Whether it starts from weights that are there.
    fn imports(&self) -> bool {
        self.weights.is_some() || !self.init.is_empty()
    }

    fn preset(&self) -> &str {
        self.preset.as_deref().unwrap_or("tiny")
    }

    fn recipe(&self) -> &str {
        self.recipe.as_deref().unwrap_or("default")
    }

    fn start(&self) -> Start {
        Start::of(self.recipe(), self.imports())
    }

    /// A new run, and the towers that it starts from.
    fn fresh(&self, cancelled: &'static std::sync::atomic::AtomicBool) -> Result<(Run, Vec<Import>), Error> {
        let folder = self.new_folder()?;
        // Settings are checked before any data are drawn; the vocabulary follows from the data.
        let draft = self.settings(defaults::VOCABULARY, 1)?;
        draft.validate()?;
        let (init, weights) = (self.sources()?, self.weights()?);
        let mut towers = init.open()?;
        let (data, path, held_out) = match self.data.as_deref().map(local).transpose()? {
            Some(path) => (Data::split(Dataset::open(&path)?), path, None),
            None => {
                let data = self.phantoms(draft.model.image_size, draft.train.batch, cancelled)?;
                let [train, held_out] = [&data.train, &data.held_out]
                    .map(|set| set.tokenizer_path().parent().map(Path::to_owned).unwrap_or_default());
                (data, train, Some(held_out))
            }
        };
        let whole = self.whole(&data, draft.train.batch);
        // Where a run stops within its schedule says nothing of it: one that is stopped and resumed is the one that went on.
        // What follows from the schedule's horizon follows from the one that was asked for.
        let asked = if self.first() { defaults::first_horizon(whole) } else { whole }.max(self.steps.unwrap_or(0));
        let horizon = self.settings(data.train.vocab_size(), asked)?.train.schedule.steps;
        // A horizon of one's own is also where the run ends.
        let stop_at = self.steps.unwrap_or(if horizon == asked || self.epochs.is_some() { whole } else { horizon });
        let mut config = self.settings(data.train.vocab_size(), horizon)?;
        for tower in &mut towers {
            fit(tower, &mut config.model, &data.train)?;
        }
        if let Some((vocabulary, _)) = weights.as_deref().map(beside::vocabulary).transpose()?.flatten() {
            same_vocabulary(&vocabulary, &data.train)?;
        }
        config.validate()?;
        said_cut(&config, self.preset())?;
        let (own, words) = (config.model.vocab_size, data.train.vocab_size());
        if own < words {
            let what = format!("vocab_size is {own}, the data's tokenizer has {words} tokens: leave vocab_size out");
            return Err(Error::Usage(what));
        }
        let device = self.device.unwrap_or(DeviceWord::Auto).resolve();
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io(path));
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").into(),
            preset: self.preset().into(),
            recipe: self.recipe().into(),
            seed: config.train.seed,
            horizon,
            data: absolute(&path)?,
            data_digest: data.train.digest().into(),
            held_out: held_out.as_deref().map(absolute).transpose()?,
            weights,
            init,
            device: device.to_string(),
            resident: false,
            moves: Vec::new(),
        };
        Ok((self.run_in(folder, config, manifest, data, stop_at, device), towers))
    }

    /// A folder for a new run.
    fn new_folder(&self) -> Result<PathBuf, Error> {
        let folder = self.out.clone().unwrap_or_else(|| next_run(Path::new(RUNS)));
        if folder.exists() && fs::read_dir(&folder).map_err(Error::io(&folder))?.next().is_some() {
            let what = match folder.join("manifest.json").exists() {
                true => "holds a run already; continue it with --resume, give another --out, or remove it",
                false => "is not empty; give --out a new or empty folder",
            };
            return Err(Error::Usage(format!("{} {what}", folder.display())));
        }
        Ok(folder)
    }

    /// The towers to start from, by absolute paths.
    fn sources(&self) -> Result<Sources, Error> {
        let mut init = Sources::parse(&self.init).map_err(Error::Usage)?;
        for path in [&mut init.image, &mut init.text].into_iter().flatten() {
            *path = std::path::absolute(weights_file(path)?).map_err(Error::io(&*path))?;
        }
        Ok(init)
    }

    /// The file of weights to start from, by its absolute path.
    fn weights(&self) -> Result<Option<PathBuf>, Error> {
        let Some(path) = &self.weights else { return Ok(None) };
        let file = if path.is_dir() { Subject::of(path)?.weights.unwrap_or_default() } else { path.clone() };
        Ok(Some(std::path::absolute(&file).map_err(Error::io(file))?))
    }

    /// Steps of a whole run on these data.
    fn whole(&self, data: &Data, batch: usize) -> u64 {
        let samples = data.train.select(Some(crate::data::Split::Train), true).len() as u64;
        let per_epoch = (samples / batch.max(1) as u64).max(1);
        match self.epochs {
            Some(epochs) => epochs.saturating_mul(per_epoch),
            None if self.data.is_none() => PHANTOM_STEPS,
            None => EPOCHS.saturating_mul(per_epoch).max(LEAST_STEPS),
        }
    }

    /// The tuned defaults of preset and recipe, or of the first run, then the file, then the flags.
    fn settings(&self, vocab_size: usize, horizon: u64) -> Result<RunConfig, Error> {
        let mut config = match self.first() {
            true => defaults::first_run(vocab_size, horizon)?,
            false => defaults::settings(self.preset(), self.recipe(), self.start(), vocab_size, horizon)?,
        };
        if let Some(DeviceWord::This(device)) = self.device
            && device.disguised()
        {
            config.train.batch = defaults::DISGUISED_BATCH;
        }
        let length = config.train.text_length;
        if let Some(path) = &self.config {
            let text = fs::read_to_string(path).map_err(Error::io(path))?;
            let applied = match path.extension().is_some_and(|ending| ending == "json") {
                true => super::settings::apply_model(&mut config, &text),
                false => super::settings::apply_toml(&mut config, &text),
            };
            applied.map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?;
        }
        for setting in &self.set {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--set {setting}: write it as KEY=VALUE, for instance lr=1e-4")))?;
            config.set(key.trim(), value.trim())?;
        }
        if let Some(batch) = self.batch {
            config.train.batch = batch;
        }
        self.tower.apply(&mut config.model);
        config.train.text_cache |= self.tower.cache();
        // By default no longer than the model has positions for.
        if config.train.text_length == length {
            config.train.text_length = length.min(config.model.max_positions);
        }
        Ok(config)
    }

    fn phantoms(
        &self,
        image_size: usize,
        batch: usize,
        cancelled: &std::sync::atomic::AtomicBool,
    ) -> Result<Data, Error> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(super::style("{msg:20} {bar:30} {pos}/{len} {eta}"));
        bar.set_message("drawing phantoms");
        let progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        // A short run draws no more than it will see.
        let seen = self.steps.map_or(PHANTOMS.train, |steps| (steps as usize).saturating_mul(batch));
        let train = seen.clamp(500, PHANTOMS.train).next_multiple_of(500);
        let what = Phantoms { size: image_size, train, threads: self.threads, ..PHANTOMS };
        let data = quickstart::phantoms(&phantoms_in(Path::new(RUNS)), what, &progress, cancelled);
        bar.finish_and_clear();
        data
    }

    /// A run with the settings and data that were found for it.
    fn run_in(
        &self,
        folder: PathBuf,
        config: RunConfig,
        manifest: Manifest,
        data: Data,
        stop_at: u64,
        device: Device,
    ) -> Run {
        let (resume, threads, launch_by_launch) = (self.resume, self.threads, self.replay);
        let (log_interference, resident) = (self.log_interference, self.resident);
        Run {
            folder,
            config,
            manifest,
            data,
            stop_at,
            resume,
            device,
            threads,
            resident,
            launch_by_launch,
            log_interference,
        }
    }

    fn resumed(&self) -> Result<Run, Error> {
        let named = self.preset.is_some() || self.recipe.is_some() || self.config.is_some() || self.imports();
        if named || !self.set.is_empty() || self.batch.is_some() || self.tower.any() {
            let flags = "--preset, --recipe, --config, --set, --batch, --weights, --init, --text-stats, --freeze and --text-cache";
            return Err(Error::Usage(format!("a resumed run keeps its settings and weights; leave out {flags}")));
        }
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => newest_run(Path::new(RUNS))
                .ok_or_else(|| Error::Usage("there is no run in runs/ to resume; name its folder with --out".into()))?,
        };
        if !folder.join(run::CONFIG).exists() {
            let what = "is no run: it has no config.json; name the folder of one";
            return Err(Error::Usage(format!("{} {what}", folder.display())));
        }
        let (config, manifest) = run::read(&folder)?;
        let train = Dataset::open(&local(self.data.as_deref().unwrap_or(&manifest.data))?)?;
        let mut data = Data::split(train);
        if let Some(held_out) = &manifest.held_out {
            data.held_out = std::sync::Arc::new(Dataset::open(held_out)?);
        }
        let per_epoch = data.train.select(Some(crate::data::Split::Train), true).len() / config.train.batch.max(1);
        let stop_at = match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => epochs.saturating_mul(per_epoch.max(1) as u64),
            (None, None) => manifest.horizon,
        };
        let own = || manifest.last_device().parse().map_err(|why| Error::Usage(format!("{}: {why}", folder.display())));
        let device = self.device.map_or_else(own, |word| Ok(word.resolve()))?;
        Ok(self.run_in(folder, config, manifest, data, stop_at, device))
    }
}

/// Refuses a tower that does not fit the model or was trained with another vocabulary than the data were packed with, as far as
/// what lies beside it tells. The model takes the size of the tower's vocabulary.
fn fit(tower: &mut Import, model: &mut Config, data: &Dataset) -> Result<(), Error> {
    if let Some(rows) = tower.vocab_size() {
        model.vocab_size = rows;
    }
    tower.check(model)?;
    match (tower.vocabulary(), tower.vocab_size()) {
        (Some(path), _) => same_vocabulary(path, data),
        (None, Some(_)) => Ok(tower.packed_with(data.vocab_size())?),
        (None, None) => Ok(()),
    }
}

/// Refuses data that were packed with another vocabulary than the one in `path`.
fn same_vocabulary(path: &Path, data: &Dataset) -> Result<(), Error> {
    let packed = Tokenizer::load(&data.tokenizer_path(), false)?;
    if Tokenizer::load(path, false)?.same_pieces(&packed) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} was packed with another vocabulary than {}; pack it again with --tokenizer {}",
        data.folder().display(),
        path.display(),
        path.display()
    )))
}

/// Says that reports are cut to what the model has positions for, where that is less than its preset has.
fn said_cut(config: &RunConfig, preset: &str) -> Result<(), Error> {
    let length = config.train.text_length;
    if length == config.model.max_positions && length < Config::preset(preset)?.max_positions {
        eprintln!("reports are cut to {length} tokens: the model has positions for no more");
    }
    Ok(())
}

/// Where phantoms are drawn.
pub(super) fn phantoms_in(runs: &Path) -> PathBuf {
    runs.join("phantoms")
}

/// runs/1, runs/2, ...: the first that does not exist.
fn next_run(runs: &Path) -> PathBuf {
    (1..).map(|number: u32| runs.join(number.to_string())).find(|path| !path.exists()).unwrap_or_default()
}

/// The run that was named, or the newest in runs/.
pub(super) fn named_or_newest(named: Option<&Path>) -> Result<PathBuf, Error> {
    let newest = || newest_run(Path::new(RUNS));
    named
        .map(Path::to_owned)
        .or_else(newest)
        .ok_or_else(|| Error::Usage("there is no run in runs/; make one with g2d pretrain, or name its folder".into()))
}

/// The run whose settings were written last.
pub(super) fn newest_run(runs: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(runs).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let written = |path: &PathBuf| path.join("manifest.json").metadata().and_then(|file| file.modified()).ok();
    entries.filter(|path| written(path).is_some()).max_by_key(written)
}

/// The run's page, pictures and event files; training goes on where they cannot be written.
struct Pages {
    reporter: Reporter,
    /// That something could not be written was said.
    said: bool,
}

impl Pages {
    fn take<T>(&mut self, bar: &ProgressBar, act: impl FnOnce(&mut Reporter) -> Result<T, Error>) -> Option<T> {
        let made = act(&mut self.reporter);
        if let (Err(error), false) = (&made, self.said) {
            self.said = true;
            let later = "training goes on, and it is tried again with each validation; g2d report makes the page later";
            say(bar, format!("the run's page or event file cannot be written: {error}; {later}"));
        }
        made.ok()
    }
}
