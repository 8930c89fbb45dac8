//! A run: batches in, metrics and checkpoints out, until it has taken its steps or is told to stop.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::config::RunConfig;
use super::device::Device;
use super::feed::{Feed, Pairs};
use super::footprint;
use super::gallery::{self, Gallery};
use super::metrics::{MaskMemory, StepLine, ValidationLine};
use super::resident::Resident;
use super::session::{Films, Options, Session};
use super::validate::{Validation, validate};
use crate::base::Kind;
use crate::checkpoint::folder::{self, Progress};
use crate::checkpoint::import::{Import, Report, Sources};
use crate::checkpoint::{folder_beside, write_beside};
use crate::data::augment::Recipe;
use crate::data::dataset::TOKENIZER;
use crate::data::loader::{Batches, Loader, LoaderOptions};
use crate::data::{Dataset, Split};
use crate::error::Error;
use crate::model::batch::TextBatch;
use crate::program::Kernels;

/// The settings of a run, within its folder.
pub const CONFIG: &str = "config.json";
/// What identifies it.
pub const MANIFEST: &str = "manifest.json";
/// What a run writes down of each step ([`metrics`](super::metrics)).
pub const METRICS: &str = "metrics.jsonl";
const INIT: &str = "init.json";
/// Most films of a validation.
const VALIDATED: usize = 512;
/// The same where the processor plays the device.
const VALIDATED_DISGUISED: usize = 8;
/// Steps between logs of the losses' interference, each of which takes as long as a step.
pub const INTERFERENCE_EVERY: u64 = 10;

/// The films of a run.
pub struct Data {
    /// What is trained on: the films of its split `train` that have a report.
    pub train: Arc<Dataset>,
    /// What is validated on: the films of its split `val` that have a report; of all splits if it is another data set.
    pub held_out: Arc<Dataset>,
}

impl Data {
    /// One data set with a split.
    pub fn split(dataset: Dataset) -> Self {
        let train = Arc::new(dataset);
        Self { held_out: train.clone(), train }
    }

    fn held_out_samples(&self, device: Device) -> Vec<usize> {
        let split = Arc::ptr_eq(&self.train, &self.held_out).then_some(Split::Val);
        let mut samples = self.held_out.select(split, true);
        let most = if device.disguised() { VALIDATED_DISGUISED } else { VALIDATED };
        samples.truncate(most);
        samples
    }
}

/// What identifies a run; `manifest.json`. Written when the run starts; a run that goes on on another device adds that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this crate.
    pub version: String,
    /// The preset it started from; `config.json` has what came of it.
    pub preset: String,
    /// The recipe put over that.
    pub recipe: String,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Horizon of the learning rate's schedule, fixed here when the run starts.
    #[serde(rename = "schedule.steps")]
    pub horizon: u64,
    /// Folder of the shards that are trained on.
    pub data: PathBuf,
    /// Digest of what is trained on.
    pub data_digest: String,
    /// Folder of the shards that are validated on, if it is another.
    pub held_out: Option<PathBuf>,
    /// Published weights that it starts from.
    pub weights: Option<PathBuf>,
    /// Towers of others that it starts from.
    #[serde(default, skip_serializing_if = "Sources::is_empty")]
    pub init: Sources,
    /// What it ran on, first.
    pub device: String,
    /// Whether the films lay on that device when it started.
    #[serde(default)]
    pub resident: bool,
    /// Where it went on on another device, in the order of the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// A run went on on another device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// Steps that were taken before.
    pub after: u64,
    /// What the steps behind these were computed on.
    pub device: String,
}

impl Manifest {
    /// What its last steps were computed on.
    pub fn last_device(&self) -> &str {
        self.moves.last().map_or(&self.device, |last| &last.device)
    }
}

/// What a run is asked to do.
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its settings.
    pub config: RunConfig,
    /// Where the data lie, what they are and so on.
    pub manifest: Manifest,
    /// The films.
    pub data: Data,
    /// Stops when so many steps were taken, counted from the run's beginning.
    pub stop_at: u64,
    /// Continues from the newest checkpoint in the folder.
    pub resume: bool,
    /// What it runs on.
    pub device: Device,
    /// Threads; 0: all cores.
    pub threads: usize,
    /// Whether its films stay on the device. They are the same steps, bit for bit.
    pub resident: Resident,
    /// Waits for each launch on a GPU, so that an error names its place in the plan; slow.
    pub launch_by_launch: bool,
    /// Writes down, every [`INTERFERENCE_EVERY`] steps, how the two losses' gradients by the image encoder lie to each other.
    pub log_interference: bool,
}

/// What an observer of a run is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// The shards are compared with their digests: so many bytes are, of so many.
    Verified(u64, u64),
    /// Films are put on the device: so many bytes are, of so many.
    Resident(u64, u64),
    /// The run begins, or continues, behind this many steps.
    Started(u64),
    /// Something to know: names in a file of weights that nothing uses, or that there was no checkpoint to resume from.
    Note(&'a str),
    /// A step was taken.
    Step(&'a StepLine),
    /// A validation was done after so many steps, and stands in `metrics.jsonl`; the last are some of its films.
    Validated(u64, &'a Validation, &'a Gallery),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// All is done and saved: the session, with the batch of the last step that this process took.
    Finished(&'a mut Session, Films<'a>, &'a TextBatch),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Steps taken since the run's beginning.
    pub steps: u64,
    /// It was told to stop before it had taken all its steps.
    pub interrupted: bool,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// The validation before the first step, if this process took it.
    pub before: Option<Validation>,
    /// The last validation.
    pub after: Option<Validation>,
    /// Wall time of the steps, seconds.
    pub seconds: f64,
}

struct Files {
    metrics: fs::File,
    path: PathBuf,
}

impl Files {
    /// Opens `metrics.jsonl` for what comes after `steps` steps; lines that will be written again, of a run that was
    /// cut off, are dropped: at step 0 that is all.
    fn open(folder: &Path, steps: u64) -> Result<Self, Error> {
        let path = folder.join(METRICS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        #[derive(Deserialize)]
        struct Numbered {
            step: u64,
        }
        let earlier =
            |line: &&str| serde_json::from_str::<Numbered>(line).is_ok_and(|line| line.step <= steps && steps > 0);
        let kept: String = text.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect();
        if kept != text {
            write_beside(&path, kept.as_bytes()).map_err(Error::io(&path))?;
        }
        let metrics = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { metrics, path })
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        self.metrics.write_all(text.as_bytes()).map_err(Error::io(&self.path))
    }
}

/// Runs. `towers` are those of the manifest's `init` if they are open already; `observe` is told what happens; when `cancelled`
/// becomes true the run saves and ends.
pub fn run(
    run: &Run,
    towers: Vec<Import>,
    observe: &mut dyn FnMut(Event<'_>),
    cancelled: &AtomicBool,
) -> Result<Summary, Error> {
    check(run)?;
    let (config, train, held_out) = (&run.config, &run.data.train, run.data.held_out_samples(run.device));
    let judge = judge(run, &held_out)?;
    let shown = gallery::choose(&run.data.held_out, &held_out)?;
    let batches = Batches::new(train.clone(), train.select(Some(Split::Train), true), loading(config))?;
    let resumed = if run.resume { Some(lock(&run.folder)?) } else { None };
    let mut session = open(run)?;
    verify(&run.data, observe)?;
    let (batches, resident) = run.resident.settle(&mut session, batches, observe)?;
    let (mut masks, mut held) = match resumed {
        Some(held) => (resume(run, &mut session, observe)?, held),
        None => (MaskMemory::default(), begin(run, towers, &mut session, resident.is_some(), observe)?),
    };
    // Who watches it reads there where it ends. The file was opened to append.
    held.set_len(0).and_then(|()| writeln!(held, "{}", run.stop_at)).map_err(Error::io(&run.folder))?;
    let mut files = Files::open(&run.folder, session.steps())?;
    observe(Event::Started(session.steps()));
    let judged = |session: &mut Session, files: &mut Files, observe: &mut dyn FnMut(Event<'_>)| {
        let Some(judge) = &judge else { return Ok::<_, Error>(None) };
        let (validation, gallery) = validate(session, &run.data.held_out, judge, &held_out, &shown)?;
        files.line(&ValidationLine { step: session.steps(), validation: validation.clone() })?;
        observe(Event::Validated(session.steps(), &validation, &gallery));
        Ok(Some(validation))
    };
    let newest = if run.resume { folder::newest(&run.folder)? } else { None };
    let mut saved = newest.map(|checkpoint| (session.steps(), checkpoint));
    let before = if session.steps() == 0 { judged(&mut session, &mut files, observe)? } else { None };
    let mut after = before.clone();
    let started = Instant::now();
    let mut feed = Feed::new(Loader::start(Arc::new(batches), session.steps(), 1)?, resident);
    let mut last = None;
    while session.steps() < run.stop_at && !cancelled.load(Ordering::Relaxed) {
        let (line, pairs) = step(run, &mut session, &mut feed, &mut masks)?;
        files.line(&line)?;
        observe(Event::Step(&line));
        last = Some(pairs);
        if line.step.is_multiple_of(config.train.validate_every) || line.step == run.stop_at {
            after = judged(&mut session, &mut files, observe)?;
        }
        if line.step.is_multiple_of(config.train.checkpoint_every) {
            saved = Some((line.step, save(run, &session, &masks, observe)?));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let checkpoint = match saved {
        Some((step, checkpoint)) if step == session.steps() => checkpoint,
        _ => save(run, &session, &masks, observe)?,
    };
    let steps = session.steps();
    if let Some(pairs) = last.filter(|_| steps == run.stop_at) {
        observe(Event::Finished(&mut session, pairs.films(), &pairs.text));
    }
    Ok(Summary { steps, interrupted: steps < run.stop_at, checkpoint, before, after, seconds })
}

/// Batches of the films that the run is judged by, if there are any.
fn judge(run: &Run, held_out: &[usize]) -> Result<Option<Batches>, Error> {
    let plain = LoaderOptions { batch: 1, recipe: Recipe::None, ..loading(&run.config) };
    let batches = || Batches::new(run.data.held_out.clone(), held_out.to_vec(), plain);
    Ok((!held_out.is_empty()).then(batches).transpose()?)
}

/// The settings are possible, and the schedule's horizon is the one that the manifest fixed at the first start.
fn check(run: &Run) -> Result<(), Error> {
    run.config.validate()?;
    let (now, fixed) = (run.config.train.schedule.steps, run.manifest.horizon);
    if now != fixed {
        return Err(Error::Usage(format!(
            "{}: {CONFIG} has schedule.steps {now}, but {MANIFEST} fixes it at {fixed}; put it back",
            run.folder.display()
        )));
    }
    Ok(())
}

/// There is memory for what frozen layers make of every report, beside what is held already.
fn cache_fits(run: &Run) -> Result<(), Error> {
    let (model, train, data) = (&run.config.model, &run.config.train, &run.data.train);
    let samples = data.select(Some(Split::Train), true);
    let reports: HashSet<&[u32]> = samples.iter().map(|&sample| data.tokens(sample)).collect();
    let rows = |tokens: &&[u32]| match model.padded() {
        true => train.text_length,
        false => tokens.len().min(train.text_length),
    };
    let width = model.text_hidden * train.precision.dtype(Kind::Activation).bytes();
    let bytes = reports.iter().map(rows).sum::<usize>() as u64 * width as u64;
    footprint::fits(&format!("text_cache, what frozen layers make of {} reports,", reports.len()), bytes)
}

fn loading(config: &RunConfig) -> LoaderOptions {
    LoaderOptions {
        batch: config.train.batch,
        image_size: config.model.image_size,
        text_len: config.train.text_length,
        seed: config.train.seed,
        recipe: config.train.augment,
    }
}

fn open(run: &Run) -> Result<Session, Error> {
    let train = &run.config.train;
    let session = Session::open(Options {
        precision: train.precision,
        device: run.device,
        kernels: Kernels::Best,
        groups: train.groups.clone(),
        seed: train.seed,
        threads: run.threads,
        launch_by_launch: run.launch_by_launch,
        interference: run.log_interference,
        text_cache: train.text_cache,
        ..Options::new(run.config.model.clone(), train.batch, train.text_length)
    })?;
    if train.text_cache {
        cache_fits(run)?;
    }
    Ok(session)
}

/// Compares the digests of all shards, once per start: what changed on the disk since it was packed is not trained on.
fn verify(data: &Data, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
    let mut progress = |done, all| observe(Event::Verified(done, all));
    data.train.verify(&mut progress)?;
    if !Arc::ptr_eq(&data.train, &data.held_out) {
        data.held_out.verify(&mut progress)?;
    }
    Ok(())
}

/// The file that the process which writes to a run's folder holds locked.
const LOCK: &str = "run.lock";

/// How long one who asks whether a run is held may hold it.
const ASKED: Duration = Duration::from_millis(50);

/// Takes hold of a run's folder, until the file is dropped or the process ends, however it ends.
///
/// # Errors
/// If another process holds it.
pub fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
    let again = |_| {
        std::thread::sleep(ASKED);
        file.try_lock()
    };
    match file.try_lock().or_else(again) {
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "{}: another process is writing this run; wait until it ends, or give another --out",
            folder.display()
        ))),
        // A file system that has no locks does not stop us.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

/// Whether a process is writing the run in a folder. Nothing is written to find out. Where the file system has no locks nobody seems
/// to.
pub fn held(folder: &Path) -> bool {
    // A system may answer only by handing over the lock, which is given back at once.
    File::open(folder.join(LOCK)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The step after which the process that wrote the run last stops, or was to stop; `None` of a run from before this was written.
pub fn stop(folder: &Path) -> Option<u64> {
    fs::read_to_string(folder.join(LOCK)).ok()?.trim().parse().ok()
}

/// Takes up the newest checkpoint; a run that has none starts over, from the weights it was given.
fn resume(run: &Run, session: &mut Session, observe: &mut dyn FnMut(Event<'_>)) -> Result<MaskMemory, Error> {
    let Some(checkpoint) = folder::newest(&run.folder)? else {
        observe(Event::Note("the run has no checkpoint yet: it starts at its beginning"));
        load_weights(run, Vec::new(), session, observe)?;
        note_device(run, 0, observe)?;
        return Ok(MaskMemory::default());
    };
    folder::prune(&run.folder)?;
    let progress = session.load_checkpoint::<MaskMemory>(&checkpoint)?;
    let now = run.data.train.digest();
    if [&run.manifest.data_digest, &progress.data_digest].iter().any(|&digest| digest != now) {
        return Err(Error::Usage(format!(
            "{}: the checkpoint was made on other data (digest {}, now {now}); resume with the data it was made on",
            checkpoint.display(),
            progress.data_digest,
        )));
    }
    note_device(run, progress.step, observe)?;
    Ok(progress.history)
}

/// Writes down, and says, that the steps behind `steps` are computed on another device than those before: the same numbers but
/// for their last bits.
fn note_device(run: &Run, steps: u64, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
    if steps >= run.stop_at {
        return Ok(()); // nothing is computed there
    }
    let mut manifest = run.manifest.clone();
    // What was computed behind the checkpoint is computed again.
    manifest.moves.retain(|earlier| earlier.after < steps);
    let (before, device) = (manifest.last_device().to_owned(), run.device.to_string());
    if before != device {
        observe(Event::Note(&format!(
            "from step {} on it is computed on {device}, before on {before}: it is not bit for bit the run on one device; \
             {MANIFEST} says so",
            steps + 1
        )));
        manifest.moves.push(Move { after: steps, device });
    }
    if manifest != run.manifest {
        write_json(&run.folder.join(MANIFEST), &manifest)?;
    }
    Ok(())
}

/// Reads what the run starts from. Returns what became of the names of towers of others.
fn load_weights(
    run: &Run,
    towers: Vec<Import>,
    session: &mut Session,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Report>, Error> {
    if let Some(weights) = &run.manifest.weights {
        for note in session.load_weights(weights)?.notes {
            observe(Event::Note(&note));
        }
    }
    let mut reports = Vec::new();
    for tower in if towers.is_empty() { run.manifest.init.open()? } else { towers } {
        tower.check(&run.config.model)?;
        let report = session.import(&tower)?;
        observe(Event::Note(&format!("{}; names in {INIT}", report.summary())));
        report.notes.iter().for_each(|note| observe(Event::Note(note)));
        reports.push(report);
    }
    Ok(reports)
}

/// Starts the folder. A new one is written beside and renamed, so that whenever the process ends, there is a run that
/// can be resumed or none.
fn begin(
    run: &Run,
    towers: Vec<Import>,
    session: &mut Session,
    resident: bool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<File, Error> {
    let reports = load_weights(run, towers, session, observe)?;
    let manifest = Manifest { resident, ..run.manifest.clone() };
    if run.folder.exists() {
        return fill(run, &manifest, &run.folder, &reports);
    }
    folder_beside(&run.folder, |error| Error::io(&run.folder)(error), |beside| fill(run, &manifest, beside, &reports))
}

/// Locks the folder of a new run and writes what makes it one.
fn fill(run: &Run, manifest: &Manifest, folder: &Path, reports: &[Report]) -> Result<File, Error> {
    let held = lock(folder)?;
    if folder.join(CONFIG).exists() {
        let why = "holds a run already; continue it with --resume, give another --out, or remove it";
        return Err(Error::Usage(format!("{} {why}", folder.display())));
    }
    let write = || {
        write_json(&folder.join(MANIFEST), manifest)?;
        let tokenizer = run.data.train.tokenizer_path();
        let words = fs::read(&tokenizer).map_err(Error::io(&tokenizer))?;
        write_beside(&folder.join(TOKENIZER), &words).map_err(Error::io(folder))?;
        if !reports.is_empty() {
            write_json(&folder.join(INIT), &reports)?;
        }
        write_json(&folder.join(CONFIG), &run.config)
    };
    // The folder was empty, and shall be.
    write().inspect_err(|_| {
        [MANIFEST, TOKENIZER, INIT, LOCK].iter().for_each(|file| drop(fs::remove_file(folder.join(file))))
    })?;
    Ok(held)
}

/// The next step, and the batch that it took.
fn step(run: &Run, session: &mut Session, feed: &mut Feed, masks: &mut MaskMemory) -> Result<(StepLine, Pairs), Error> {
    let (model, train) = (&run.config.model, &run.config.train);
    let lr = train.schedule.learning_rate(model.learning_rate, session.steps());
    let pairs = feed.take(&run.config)?;
    let (batch, text) = (&pairs.batch, &pairs.text);
    let logged = run.log_interference && session.steps().is_multiple_of(INTERFERENCE_EVERY);
    let interference = if logged { session.interference(pairs.films(), text)? } else { None };
    let started = Instant::now();
    if !pairs.put {
        session.put(pairs.films(), text)?;
    }
    session.begin(lr)?;
    if session.lands() && session.steps() + 1 < run.stop_at {
        feed.ahead(&run.config, session)?;
    }
    let metrics = session.finish().map_err(|error| {
        let name = |&sample: &usize| run.data.train.record(sample).map_or_else(|_| sample.to_string(), |r| r.id);
        error.with_films(batch.samples.iter().map(name).collect())
    })?;
    let mask_iou_previous = masks.update(&batch.samples, session.pseudo_mask(), model.image_size);
    let line = StepLine {
        step: session.steps(),
        total: metrics.total,
        contrastive: metrics.contrastive,
        segmentation: metrics.segmentation,
        top1: metrics.top1,
        top5: metrics.top5,
        mask_area: metrics.mask_area,
        mask_iou_previous,
        lr,
        grad_norm: metrics.grad_norm,
        samples_per_s: train.batch as f64 / started.elapsed().as_secs_f64(),
        interference_cosine: interference.map(|found| found.cosine),
        interference_norm_ratio: interference.map(|found| found.norm_ratio),
    };
    Ok((line, pairs))
}

fn save(
    run: &Run,
    session: &Session,
    masks: &MaskMemory,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<PathBuf, Error> {
    let checkpoint = session.save_checkpoint(&run.folder, &progress(run, session, masks))?;
    observe(Event::Saved(&checkpoint));
    Ok(checkpoint)
}

fn progress(run: &Run, session: &Session, masks: &MaskMemory) -> Progress<MaskMemory> {
    Progress {
        version: env!("CARGO_PKG_VERSION").into(),
        step: session.steps(),
        data_digest: run.manifest.data_digest.clone(),
        history: masks.clone(),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    write_beside(path, text.as_bytes()).map_err(Error::io(path))
}

/// Reads what a run's folder says of it: settings and manifest.
pub fn read(folder: &Path) -> Result<(RunConfig, Manifest), Error> {
    fn json<T: serde::de::DeserializeOwned>(path: PathBuf) -> Result<T, Error> {
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::NoModel { path, why: format!("{error}; it is not the file a run wrote") })
    }
    Ok((json(folder.join(CONFIG))?, json(folder.join(MANIFEST))?))
}
