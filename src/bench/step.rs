//! How fast a training step is, and where its time goes: `g2d bench step`.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::Spread;
use crate::base::Rng;
use crate::base::ceilings::Ceilings;
use crate::cpu::machine;
use crate::data::augment::Recipe;
use crate::doctor::devices::{Processor, processor};
use crate::error::Error;
use crate::model::batch::TextBatch;
use crate::model::config::Config;
use crate::program::Precision;
use crate::program::plan::Launch;
use crate::train::Device;
use crate::train::session::{Films, Options, Session};

/// Stream of the random films and texts.
const STREAM: u32 = 0x0be0;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Work {
    /// The model.
    pub config: Config,
    /// Pairs a step.
    pub batch: usize,
    /// Room for tokens of a report.
    pub text_length: usize,
    /// Tokens of every report; `None`: of every length from 3 to `text_length`, the first of the longest, as in the
    /// cases of the specification.
    pub real_tokens: Option<usize>,
    /// How numbers are stored.
    pub precision: Precision,
    /// What it runs on.
    pub device: Device,
    /// Threads; 0: all cores.
    pub threads: usize,
    /// Waits for each launch on a GPU, so that an error names its place in the plan; slow.
    pub launch_by_launch: bool,
    /// Keeps what the frozen part of the text encoder makes of each report.
    pub text_cache: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Pairs per second, from the median step.
    pub samples_per_s: f64,
    /// Seconds of a step.
    pub step_s: Spread,
    /// Seconds it would take at the ceilings: for each launch those of its FLOP or of its compulsory bytes, whichever
    /// are more. What is still in a cache can be copied faster. `None` where there are no ceilings.
    pub floor_s: Option<f64>,
    /// FLOP of a step by the plan, per second of the median step, in GFLOP/s.
    pub gflops: f64,
    /// Seconds from nothing to a model in memory with its plans.
    pub open_s: f64,
    /// Seconds of the first step.
    pub first_step_s: f64,
    /// Most memory the process has held, bytes.
    pub peak_memory: Option<u64>,
    /// Reports whose states are kept, and bytes of these; `None` without a text cache.
    pub text_cache: Option<[usize; 2]>,
    /// Threads used.
    pub threads: usize,
    /// Pairs a step.
    pub batch: usize,
    /// Room for tokens of a report.
    pub text_len: usize,
    /// How numbers are stored.
    pub precision: Precision,
    /// Steps timed, behind so many that are not.
    pub steps: usize,
    /// Steps before these.
    pub warmup: usize,
    /// Version of this crate.
    pub version: &'static str,
    /// What it ran on.
    pub device: String,
    /// The machine around it.
    pub machine: Processor,
    /// What the device does at best, a processor on these threads; `None` where it is not measured.
    pub ceilings: Option<Ceilings>,
    /// Where the time of one step goes, the largest part first.
    pub ops: Vec<OpTime>,
    /// The launches one by one, in order.
    pub launches: Vec<OpTime>,
}

/// One launch, or all launches of one op and kernel.
#[derive(Clone, Debug, Serialize)]
pub struct OpTime {
    /// Where in the model; of a launch alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Op and pass.
    pub op: String,
    /// The kernel chosen.
    pub kernel: String,
    /// Launches in a step.
    pub launches: usize,
    /// Seconds together.
    pub seconds: f64,
    /// Part of all launches' time, in percent.
    pub percent: f64,
    /// Percent of the multiply-add ceiling.
    pub percent_multiply_add: Option<f64>,
    /// Percent of the copy ceiling, by compulsory bytes.
    pub percent_copy: Option<f64>,
}

/// A session with one batch of random films and reports, to be stepped again and again.
#[derive(Debug)]
pub struct Stepper {
    session: Session,
    /// [batch, side, side]
    pixels: Vec<u8>,
    augmentation: Vec<f32>,
    text: TextBatch,
    /// The session has the batch of the next step already.
    put: bool,
}

impl Stepper {
    /// Opens it; the weights are fresh.
    ///
    /// # Errors
    /// If the configuration cannot be, or texts do not fit it.
    pub fn open(work: &Work) -> Result<Self, Error> {
        let options = Options {
            threads: work.threads,
            precision: work.precision,
            device: work.device,
            launch_by_launch: work.launch_by_launch,
            text_cache: work.text_cache,
            ..Options::new(work.config.clone(), work.batch, work.text_length)
        };
        let side = work.config.image_size;
        let mut rng = Rng::new(0, STREAM, 0);
        Ok(Self {
            session: Session::open(options)?,
            pixels: (0..work.batch * side * side).map(|_| rng.below(256) as u8).collect(),
            augmentation: Recipe::None.draw(side, 0, 0, 0).repeat(work.batch),
            text: text(work, &mut rng)?,
            put: false,
        })
    }

    /// Takes a step, as a run does: where the device takes it, the next batch comes meanwhile. Gives its seconds.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn step(&mut self) -> Result<f64, Error> {
        let start = Instant::now();
        let (session, films) = (&mut self.session, Films::Bytes(&self.pixels, &self.augmentation));
        if !self.put {
            session.put(films, &self.text)?;
        }
        session.begin(1e-5)?;
        self.put = session.put_ahead(films, &self.text)?;
        session.finish()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The session that it steps.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Times `steps` steps behind `warmup` others.
///
/// # Errors
/// If there is no step to time, the configuration cannot be, there is no memory for it, texts do not fit it, or a number
/// is not finite.
pub fn run(work: &Work, warmup: usize, steps: usize) -> Result<Report, Error> {
    if steps == 0 {
        return Err(Error::Usage("steps is 0; time at least 1".into()));
    }
    let start = Instant::now();
    let mut stepper = Stepper::open(work)?;
    let open_s = start.elapsed().as_secs_f64();
    let mut times = (0..warmup + steps).map(|_| stepper.step()).collect::<Result<Vec<f64>, Error>>()?;
    let first_step_s = times[0];
    times.drain(..warmup);
    let peak_memory = machine::peak_memory();
    let step_s = Spread::of(times);
    let session = &mut stepper.session;
    let ceilings = session.ceilings()?;
    let launches = launches(session, ceilings.as_ref())?;
    Ok(Report {
        samples_per_s: work.batch as f64 / step_s.median,
        floor_s: launches.iter().map(OpTime::floor).sum(),
        gflops: session.step_plan().cost().flops as f64 / step_s.median / 1e9,
        step_s,
        open_s,
        first_step_s,
        peak_memory,
        text_cache: session.text_cache().map(|cache| [cache.reports(), cache.bytes()]),
        threads: session.pool().current_num_threads(),
        batch: work.batch,
        text_len: work.text_length,
        precision: work.precision,
        steps,
        warmup,
        version: env!("CARGO_PKG_VERSION"),
        device: work.device.to_string(),
        machine: processor(),
        ops: by_kind(&launches),
        launches,
        ceilings,
    })
}

fn text(work: &Work, rng: &mut Rng) -> Result<TextBatch, Error> {
    let length = |at: usize| match work.real_tokens {
        Some(tokens) => tokens,
        None if at == 0 => work.text_length,
        None => (3 + at * 97 % work.text_length.max(1)).min(work.text_length),
    };
    let lengths: Vec<usize> = (0..work.batch).map(length).collect();
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(work.config.vocab_size) as i32).collect();
    Ok(TextBatch::pack(&tokens, &lengths, work.text_length, &work.config)?)
}

/// The median time of each launch over a few replays.
fn launches(session: &mut Session, ceilings: Option<&Ceilings>) -> Result<Vec<OpTime>, Error> {
    const REPLAYS: usize = 3;
    let plan = session.step_plan();
    let replays: Vec<Vec<f64>> = (0..REPLAYS).map(|_| session.time_launches()).collect::<Result<_, Error>>()?;
    let seconds: Vec<f64> = (0..plan.launches.len())
        .map(|at| Spread::of(replays.iter().map(|replay| replay[at]).collect()).median)
        .collect();
    let whole: f64 = seconds.iter().sum();
    let time = |(launch, seconds): (&Launch, f64)| OpTime {
        scope: launch.scope.clone(),
        op: launch.op.name().into(),
        kernel: launch.kernel.into(),
        launches: 1,
        seconds,
        percent: 100.0 * seconds / whole,
        percent_multiply_add: ceilings.map(|at| at.percent_multiply_add(launch.cost.flops, seconds)),
        percent_copy: ceilings.map(|at| at.percent_copy(launch.cost.bytes, seconds)),
    };
    Ok(plan.launches.iter().zip(seconds).map(time).collect())
}

/// Launches of the same op and kernel together.
fn by_kind(launches: &[OpTime]) -> Vec<OpTime> {
    let mut kinds: BTreeMap<(&str, &str), OpTime> = BTreeMap::new();
    for launch in launches {
        kinds
            .entry((&launch.op, &launch.kernel))
            .and_modify(|kind| kind.add(launch))
            .or_insert_with(|| OpTime { scope: String::new(), ..launch.clone() });
    }
    let mut kinds: Vec<OpTime> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kinds
}

impl OpTime {
    /// Seconds of a launch at the ceilings.
    fn floor(&self) -> Option<f64> {
        Some(self.seconds * self.percent_multiply_add?.max(self.percent_copy?) / 100.0)
    }

    fn add(&mut self, other: &Self) {
        let seconds = self.seconds + other.seconds;
        let mean =
            |own: Option<f64>, others: Option<f64>| Some((own? * self.seconds + others? * other.seconds) / seconds);
        self.percent_multiply_add = mean(self.percent_multiply_add, other.percent_multiply_add);
        self.percent_copy = mean(self.percent_copy, other.percent_copy);
        self.percent += other.percent;
        self.launches += 1;
        self.seconds = seconds;
    }
}
