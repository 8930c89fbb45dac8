//! A model in memory with everything needed to train and to use it: slabs, plans, threads. The embedding surface.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::device::{Capacity, Device};
use super::engine::{Engine, Resources};
pub use super::films::Films;
use super::footprint::Footprint;
use super::groups::Rule;
use super::machine::{Machine, Opened};
use super::memory;
use super::planned::Planned;
use super::reader::Reader;
use super::text_cache::TextCache;
use crate::base::Spec;
use crate::base::ceilings::Ceilings;
use crate::checkpoint::folder::{self, Progress};
use crate::checkpoint::import::{Import, Report};
use crate::checkpoint::{Loaded, Others, names};
use crate::error::Error;
use crate::model::batch::{Reports, STATES, Shapes, Source, TextBatch};
use crate::model::config::Config;
use crate::model::g2d::{self, Phase};
use crate::model::interference::{self, Interference};
use crate::model::optimizer::{self, Group};
use crate::program::plan::{Kernels, Plan};
use crate::program::{Checked, Precision, Program, StateLayout, plan};

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model.
    pub config: Config,
    /// Pairs a step, and the largest number of films or reports used at once.
    pub batch: usize,
    /// The longest report, in tokens.
    pub text_length: usize,
    /// What films come as.
    pub source: Source,
    /// How numbers are stored.
    pub precision: Precision,
    /// What it computes on.
    pub device: Device,
    /// Which kernels may run on the processor.
    pub kernels: Kernels,
    /// Parameter groups.
    pub groups: Vec<Rule>,
    /// Seed of the fresh weights.
    pub seed: u64,
    /// Threads of the session's own pool; 0: as many as there are cores.
    pub threads: usize,
    /// Waits for each launch on a GPU, so that an error names its place in the plan; slow.
    pub launch_by_launch: bool,
    /// Makes ready what [`Session::interference`] needs.
    pub interference: bool,
    /// Keeps what the frozen part of the text encoder makes of each report ([`TextCache`]).
    pub text_cache: bool,
}

impl Options {
    fn resources(&self) -> Resources {
        let Self { device, precision, kernels, threads, launch_by_launch, .. } = *self;
        Resources { device, precision, kernels, threads, launch_by_launch }
    }

    /// Extents of its batches.
    pub fn shapes(&self) -> Shapes {
        Shapes { batch: self.batch, text_len: self.text_length, source: self.source }
    }

    /// A session that trains `config` on bytes, in f32, on all cores.
    pub fn new(config: Config, batch: usize, text_length: usize) -> Self {
        Self {
            config,
            batch,
            text_length,
            source: Source::Bytes,
            precision: Precision::Exact,
            device: Device::Cpu,
            kernels: Kernels::Best,
            groups: vec![Rule::everything()],
            seed: 0,
            threads: 0,
            launch_by_launch: false,
            interference: false,
            text_cache: false,
        }
    }
}

/// What a step leaves behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// The loss that was differentiated.
    pub total: f64,
    /// Image and report.
    pub contrastive: f64,
    /// The decoder's: predicted mask and pseudo mask, or whatever its objective is; `None` without a decoder. During warm-up
    /// it does not count.
    pub segmentation: Option<f64>,
    /// Part of the films, in [0, 1], whose own report is the most similar one.
    pub top1: f64,
    /// Part, in [0, 1], whose own report is among the five most similar.
    pub top5: f64,
    /// Length (L2) of the gradient.
    pub grad_norm: f64,
    /// The pseudo masks' mean, in [0, 1].
    pub mask_area: f64,
}

/// What one launch of a step read and made, value by value.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its position in the plan.
    pub at: usize,
    /// Numbers of its inputs.
    pub inputs: Vec<Vec<f64>>,
    /// Numbers of its outputs.
    pub outputs: Vec<Vec<f64>>,
}

/// What a batch gives in running-statistics mode, row by row.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Image embeddings [batch, projection_dim], not normalised.
    pub image_embedding: Vec<f64>,
    /// Report embeddings [batch, projection_dim], not normalised.
    pub text_embedding: Vec<f64>,
    /// Logits of the predicted mask [batch, side, side]; none without a decoder that learns masks.
    pub logits: Vec<f64>,
    /// Pseudo mask [batch, side, side].
    pub mask: Vec<f64>,
    /// Attention maps [batch, heads, cells, cells].
    pub attention: Vec<f64>,
    /// The contrastive loss of the batch.
    pub contrastive: f64,
    /// The decoder's loss; `None` without a decoder.
    pub segmentation: Option<f64>,
}

/// The plan of a training step with the specification's one group of parameters: what `g2d plan` prints.
pub fn step_plan(
    config: &Config,
    shapes: &Shapes,
    reports: Reports,
    precision: Precision,
    kernels: Kernels,
) -> Result<Checked, Error> {
    config.validate()?;
    let mut recorder = g2d::record_step(config, shapes, Phase::Full, reports)?;
    let group = Group::all(recorder.program(), config);
    optimizer::optimize(&mut recorder, &[group])?;
    let program = recorder.finish();
    let states = StateLayout::of(&program, precision);
    Ok(plan(program, &states, kernels)?)
}

/// The plan of the whole step in a session with these options, on a device of such capacity.
///
/// # Errors
/// As [`Session::open`]: a value that no piece holds is told with the batch whose values fit.
pub fn plan_within(options: &Options, capacity: Capacity) -> Result<Arc<Checked>, Error> {
    options.config.validate()?;
    let planned = Planned::of(options, options.batch, capacity);
    Ok(planned.map_err(|error| memory::explained(error, options, capacity))?.plans.swap_remove(0))
}

/// A model in memory. Two sessions share nothing; one session is used by one thread at a time.
///
/// ```
/// use g2d::model::batch::{Source, TextBatch};
/// use g2d::model::config::Config;
/// use g2d::train::session::{Films, Options, Session};
///
/// let config = Config { warmup_steps: 0, ..Config::preset("micro")? };
/// let pixels = config.image_size * config.image_size;
/// let mut session = Session::open(Options { source: Source::Numbers, ..Options::new(config.clone(), 2, 8) })?;
///
/// // Two films, and two reports of 5 and 3 tokens.
/// let films: Vec<f32> = (0..2 * pixels).map(|at| (at % 97) as f32 / 97.0).collect();
/// let reports = TextBatch::pack(&[2, 5, 6, 7, 3, 2, 9, 3], &[5, 3], 8, &config)?;
/// let first = session.step(Films::Numbers(&films), &reports, 1e-3)?;
/// let second = session.step(Films::Numbers(&films), &reports, 1e-3)?;
/// assert!(first.total.is_finite() && second.total != first.total);
/// # Ok::<(), g2d::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    options: Options,
    groups: Vec<(Group, f64)>,
    engine: Engine,
    warmup: Arc<Checked>,
    full: Arc<Checked>,
    evaluate: Arc<Checked>,
    reader: Reader,
    interference: Option<Arc<Checked>>,
    text_cache: Option<TextCache>,
    steps: u64,
    /// Plan of the next step, once that has its batch.
    put: Option<Arc<Checked>>,
    /// Plan of the step that is computed.
    begun: Option<Arc<Checked>>,
    /// The last step's pseudo masks.
    mask: Vec<f64>,
}

impl Session {
    /// A session with fresh weights.
    ///
    /// # Errors
    /// If the configuration cannot be, or this machine has no memory for it.
    pub fn open(options: Options) -> Result<Self, Error> {
        options.config.validate()?;
        if options.text_cache {
            TextCache::allowed(&options.config).map_err(Error::Usage)?;
        }
        let device = Opened::of(options.device)?;
        let capacity = device.capacity();
        let planned = Planned::of(&options, options.batch, capacity);
        let explained = |error| memory::explained(error, &options, capacity);
        let Planned { program, groups, states, plans } = planned.map_err(explained)?;
        if options.device == Device::Cpu {
            let check = |plans: &[Arc<Checked>]| Footprint::of(&plans[0]).check();
            check(&plans)
                .map_err(|error| memory::with_batch(error, &options, capacity, |plans| check(plans).is_ok()))?;
        }
        let engine = Engine::hold(&options.resources(), device, program, states, &plans).map_err(explained)?;
        let (full, warmup, evaluate) = (plans[0].clone(), plans[1].clone(), plans[2].clone());
        let mut further = plans.into_iter().skip(3);
        let mut next = |wanted: bool| if wanted { further.next() } else { None };
        let interference = next(options.interference);
        let text_cache = next(options.text_cache).map(|plan| TextCache::new(plan, options.text_length));
        let mut session = Self {
            full,
            warmup,
            evaluate,
            interference,
            text_cache,
            reader: Reader::of(further.collect(), &options.config, &options.shapes(), true),
            engine,
            steps: 0,
            put: None,
            begun: None,
            mask: Vec::new(),
            groups,
            options,
        };
        session.engine.initialise(session.options.seed)?;
        Ok(session)
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of its slabs.
    pub fn memory(&self) -> u64 {
        self.engine.memory()
    }

    /// Where every state lies.
    pub fn states(&self) -> &StateLayout {
        self.engine.states()
    }

    /// Steps taken so far; AdamW's count.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The pseudo masks of the last step, [batch, side, side].
    pub fn pseudo_mask(&self) -> &[f64] {
        &self.mask
    }

    /// The plan of the next step.
    pub fn step_plan(&self) -> Arc<Checked> {
        self.plan_of(self.steps)
    }

    /// The plan of the step behind so many.
    fn plan_of(&self, steps: u64) -> Arc<Checked> {
        if self.weight_of(steps) != 0.0 { self.full.clone() } else { self.warmup.clone() }
    }

    /// Weight of the decoder's loss in the next step: 0 during warm-up.
    pub fn decoder_weight(&self) -> f64 {
        self.weight_of(self.steps)
    }

    fn weight_of(&self, steps: u64) -> f64 {
        let config = &self.options.config;
        if steps >= config.warmup_steps as u64 { config.segmentation_weight } else { 0.0 }
    }

    fn decodes(&self) -> bool {
        self.options.config.decoder_objective.decodes()
    }

    /// The numbers of a state, in the engine's order; `None` if there is no such state.
    pub fn state(&self, name: &str) -> Result<Option<Vec<f64>>, Error> {
        self.engine.state(name)
    }

    /// Reads weights under published names.
    ///
    /// # Errors
    /// If the file cannot be read, or numbers are not finite. What is missing, unexpected or misshapen is told all at once;
    /// then nothing was changed.
    pub fn load_weights(&mut self, path: &Path) -> Result<Loaded, Error> {
        self.forget();
        let wanted = names::weights(self.program());
        self.engine.load(path, &wanted, Others::Refused)
    }

    /// Reads a tower of others; what its file lacks stays as it is.
    pub fn import(&mut self, tower: &Import) -> Result<Report, Error> {
        self.forget();
        let (tensors, report) = tower.load(self.program(), &self.options.config)?;
        self.engine.put(&tensors)?;
        Ok(report)
    }

    /// Other weights make other states of a report.
    fn forget(&mut self) {
        self.text_cache.iter_mut().for_each(TextCache::clear);
    }

    /// What is kept of reports, if it is ([`Options::text_cache`]).
    pub fn text_cache(&self) -> Option<&TextCache> {
        self.text_cache.as_ref()
    }

    /// Writes weights under published names, beside and renamed.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_weights(&self, path: &Path) -> Result<(), Error> {
        self.engine.save(path, &names::weights(self.program()))
    }

    /// Writes a checkpoint of a run: weights, moments, `progress`. Returns its folder.
    pub fn save_checkpoint<H: Serialize>(&self, run: &Path, progress: &Progress<H>) -> Result<PathBuf, Error> {
        folder::save(run, progress, |checkpoint| {
            self.save_weights(&checkpoint.join(folder::WEIGHTS))?;
            self.engine.save(&checkpoint.join(folder::MOMENTS), &names::moments(self.program()))
        })
    }

    /// Continues exactly from a checkpoint.
    pub fn load_checkpoint<H: DeserializeOwned>(&mut self, checkpoint: &Path) -> Result<Progress<H>, Error> {
        let progress = folder::progress(checkpoint)?;
        self.load_weights(&checkpoint.join(folder::WEIGHTS))?;
        let moments = names::moments(self.program());
        self.forget();
        self.engine.load(&checkpoint.join(folder::MOMENTS), &moments, Others::Refused)?;
        self.steps = progress.step;
        Ok(progress)
    }

    /// The recorded step before any pass: forward, reverse, optimizer. To be walked by exporters and other heads.
    pub fn program(&self) -> &Program {
        self.engine.program()
    }

    /// One training step at this learning rate.
    ///
    /// # Errors
    /// If a loss or a gradient is not finite: nothing was updated then, and the error names the first op whose output is not.
    /// If the batch has other extents than the session was opened for, or the device refuses.
    pub fn step(&mut self, films: Films<'_>, text: &TextBatch, learning_rate: f64) -> Result<StepMetrics, Error> {
        self.put(films, text)?;
        self.begin(learning_rate)?;
        self.finish()
    }

    /// Whether the device takes the batch of the next step while one is computed.
    pub(super) fn lands(&self) -> bool {
        self.engine.machine.lands()
    }

    /// Gives the next step its batch while a step is computed, where the device takes it and nothing of it has to be computed
    /// first; whether it did.
    pub(crate) fn put_ahead(&mut self, films: Films<'_>, text: &TextBatch) -> Result<bool, Error> {
        let takes = self.lands() && self.text_cache.as_ref().is_none_or(|cache| cache.knows(text));
        if takes {
            self.put(films, text)?;
        }
        Ok(takes)
    }

    /// Gives the next step its batch.
    pub(crate) fn put(&mut self, films: Films<'_>, text: &TextBatch) -> Result<(), Error> {
        let plan = self.plan_of(self.steps + u64::from(self.begun.is_some()));
        self.learn(&plan, text)?;
        self.engine.machine.ahead(true);
        let written = self.write_inputs(&plan, films, text);
        self.engine.machine.ahead(false);
        self.put = written.is_ok().then_some(plan);
        written
    }

    /// Begins a step with the batch that was put.
    pub(crate) fn begin(&mut self, learning_rate: f64) -> Result<(), Error> {
        let plan = self.put.take().ok_or_else(|| Error::Usage("the step has no batch".into()))?;
        // Before what lands, for which the host would wait.
        self.engine.write_rates(&plan, &self.groups, learning_rate, self.steps + 1)?;
        self.engine.machine.land()?;
        self.engine.keep_statistics()?;
        self.engine.replay(&plan)?;
        self.begun = Some(plan);
        Ok(())
    }

    /// Ends the step that was begun.
    pub(crate) fn finish(&mut self) -> Result<StepMetrics, Error> {
        let plan = self.begun.take().ok_or_else(|| Error::Usage("no step was begun".into()))?;
        let scalar = |name: &str| self.engine.scalar(&plan, name);
        let mask = self.output(&plan, "out.pseudo_mask")?.unwrap_or_default();
        let metrics = StepMetrics {
            total: scalar("loss.total")?,
            contrastive: scalar("loss.contrastive")?,
            segmentation: self.decodes().then(|| scalar("loss.segmentation")).transpose()?,
            top1: scalar("top1")?,
            top5: scalar("top5")?,
            grad_norm: scalar("finite")?.sqrt(),
            mask_area: mask.iter().sum::<f64>() / mask.len().max(1) as f64,
        };
        let numbers = [metrics.total, metrics.contrastive, metrics.grad_norm];
        if !numbers.into_iter().chain(metrics.segmentation).all(f64::is_finite) {
            return Err(self.engine.not_finite(&plan, self.steps + 1)?);
        }
        self.mask = mask;
        self.steps += 1;
        Ok(metrics)
    }

    /// How the gradients of this batch's two losses by the image encoder lie to each other, at the weights that the next step
    /// finds; `None` if one of them is zero or not finite. Changes nothing.
    ///
    /// # Errors
    /// If the session was not opened for it ([`Options::interference`]), or the batch does not fit.
    pub fn interference(&mut self, films: Films<'_>, text: &TextBatch) -> Result<Option<Interference>, Error> {
        let plan = self.interference.clone();
        let plan = plan.ok_or_else(|| Error::Usage("this session was not opened to tell interference".into()))?;
        self.write_inputs(&plan, films, text)?;
        self.engine.keep_statistics()?;
        let replayed = self.engine.replay(&plan);
        self.engine.restore_statistics()?;
        replayed?;
        let mut squares = [f64::NAN; 3];
        for (squares, name) in squares.iter_mut().zip(interference::OUTPUTS) {
            *squares = self.engine.scalar(&plan, name)?;
        }
        Ok(Interference::of_squares(squares))
    }

    /// Replays the last step launch by launch and gives the seconds of each. The model is trained by that step again.
    pub fn time_launches(&mut self) -> Result<Vec<f64>, Error> {
        let (plan, machine) = (self.step_plan(), &mut self.engine.machine);
        self.engine.pool.install(|| {
            let time = |at| {
                let start = Instant::now();
                machine.run(&plan, at)?;
                Ok(start.elapsed().as_secs_f64())
            };
            (0..plan.launches.len()).map(time).collect()
        })
    }

    /// Replays one launch of the next step's plan `times` times in a row and waits for the last. What the session holds is
    /// of no use afterwards.
    pub fn repeat(&mut self, at: usize, times: usize) -> Result<(), Error> {
        let (plan, machine) = (self.step_plan(), &mut self.engine.machine);
        self.engine.pool.install(|| machine.repeat(&plan, at, times))
    }

    /// What its device does at best, a processor on the session's threads; `None` where that is not measured.
    pub fn ceilings(&self) -> Result<Option<Ceilings>, Error> {
        self.engine.pool.install(|| self.engine.machine.ceilings())
    }

    /// Does the step of this batch again as far as the launches at `wanted` go, and takes what these read and made.
    /// Running statistics are put back, and the update is not reached; what comes behind it in the plan cannot be taken.
    pub fn take(&mut self, films: Films<'_>, text: &TextBatch, wanted: &[usize]) -> Result<Vec<Taken>, Error> {
        let plan = self.step_plan();
        self.learn(&plan, text)?;
        self.write_inputs(&plan, films, text)?;
        self.engine.keep_statistics()?;
        let update = plan.launches.iter().position(|launch| launch.op.name() == "adamw").unwrap_or(plan.launches.len());
        let end = wanted.iter().filter(|&&at| at < update).max().map_or(0, |last| last + 1);
        let mut taken = Vec::new();
        let watched = self.launch_by_launch(end, &|at| wanted.contains(&at), &mut |launch| taken.push(launch));
        self.engine.restore_statistics()?;
        watched.map(|()| taken)
    }

    /// Replays the last step launch by launch and shows what each read and made. The model is trained by that step again.
    pub fn watch(&mut self, look: &mut (dyn FnMut(Taken) + Send)) -> Result<(), Error> {
        self.launch_by_launch(self.step_plan().launches.len(), &|_| true, look)
    }

    fn launch_by_launch(
        &mut self,
        end: usize,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        look: &mut (dyn FnMut(Taken) + Send),
    ) -> Result<(), Error> {
        let (plan, machine) = (self.step_plan(), &mut self.engine.machine);
        self.engine.pool.install(|| {
            for (at, launch) in plan.launches.iter().enumerate().take(end) {
                let read = |machine: &Machine, buffers: &[usize]| {
                    buffers.iter().map(|&buffer| machine.read(&plan.buffers[buffer])).collect::<Result<Vec<_>, _>>()
                };
                let inputs = wanted(at).then(|| read(machine, &launch.inputs)).transpose()?;
                machine.run(&plan, at)?;
                if let Some(inputs) = inputs {
                    look(Taken { at, inputs, outputs: read(machine, &launch.outputs)? });
                }
            }
            Ok(())
        })
    }

    /// The threads it computes on.
    pub fn pool(&self) -> &rayon::ThreadPool {
        self.engine.pool()
    }

    /// Computes what the text cache lacks of a batch for this plan; replays.
    fn learn(&mut self, plan: &Plan, text: &TextBatch) -> Result<(), Error> {
        match &mut self.text_cache {
            Some(cache) if plan.input(STATES).is_some() => cache.learn(&mut self.engine, plan, text),
            _ => Ok(()),
        }
    }

    fn write_inputs(&mut self, plan: &Plan, films: Films<'_>, text: &TextBatch) -> Result<(), Error> {
        match &self.text_cache {
            Some(cache) if plan.input(STATES).is_some() => cache.write(&mut self.engine, plan, text)?,
            _ => self.engine.write_texts(plan, text)?,
        }
        films.write(&mut self.engine, plan)
    }

    /// An output of the last step, by name: `out.*`, `loss.*`.
    pub fn output(&self, plan: &Plan, name: &str) -> Result<Option<Vec<f64>>, Error> {
        self.engine.output(plan, name)
    }

    /// The gradient that the last step (whose plan this was) left for a parameter, in the engine's order.
    pub fn gradient(&self, plan: &Plan, parameter: &str) -> Result<Option<Vec<f64>>, Error> {
        self.engine.gradient(plan, parameter)
    }

    /// Embeddings, predicted and pseudo masks, and losses of a whole batch, by running statistics. Changes nothing.
    ///
    /// # Errors
    /// If the batch has other extents than the session was opened for, or the device refuses.
    pub fn evaluate(&mut self, films: Films<'_>, text: &TextBatch) -> Result<Evaluation, Error> {
        let plan = self.evaluate.clone();
        self.write_inputs(&plan, films, text)?;
        self.engine.replay(&plan)?;
        let read = |name: &str| Ok::<_, Error>(self.output(&plan, name)?.unwrap_or_default());
        Ok(Evaluation {
            image_embedding: read("out.image_embedding")?,
            text_embedding: read("out.text_embedding")?,
            logits: read("out.segmentation_logits")?,
            mask: read("out.pseudo_mask")?,
            attention: read("out.attention_map")?,
            contrastive: self.engine.scalar(&plan, "loss.contrastive")?,
            segmentation: self.decodes().then(|| self.engine.scalar(&plan, "loss.segmentation")).transpose()?,
        })
    }

    /// The predicted mask's probabilities [films, side, side] for stored pixels [films, side, side], by running
    /// statistics. Needs a session opened for bytes. Changes nothing.
    ///
    /// # Errors
    /// If there is no decoder that learns masks, or these are no whole films.
    pub fn segment(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        self.reader.masks(&mut self.engine, pixels)
    }

    /// The model in use: what it replays, and the states that it does so on.
    pub fn reader(&mut self) -> (&Reader, &mut Engine) {
        (&self.reader, &mut self.engine)
    }

    /// Shapes and kinds of what a step reads, by name.
    pub fn inputs(&self) -> Vec<(String, Spec)> {
        self.full.inputs.iter().map(|(name, buffer)| (name.clone(), self.full.buffers[*buffer].spec)).collect()
    }
}
