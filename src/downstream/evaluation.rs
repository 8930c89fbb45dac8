//! One evaluation: a model, the films it is tried on, and what both share between tasks.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use super::cohort::Cohort;
use super::encoder::{Encoder, Features};
use super::imaged::Imaged;
use super::learner::Fit;
use super::prompts::Prompts;
use super::report::Figure;
use super::subject::Subject;
use super::tasks::{Segmenting, Task};
use crate::base::Estimate;
use crate::data::Split;
use crate::error::Error;
use crate::train::Resources;

/// The protocol of all tasks, by number: whoever changes which figures `g2d eval` computes, or how, counts it up. A sweep
/// evaluates again what was found by another one, and a comparison of reports warns; training is not touched.
pub const PROTOCOL: u32 = 1;

/// How much time may be spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its name, as stored with the figures.
    pub name: &'static str,
    /// Parts of the training films that heads learn from.
    pub fractions: Vec<f64>,
    /// The same of linear heads on the levels above the deepest, which are there for comparison.
    pub upper_fractions: Vec<f64>,
    /// Repetitions of a linear head, with other films and other fresh weights.
    pub seeds: u64,
    /// The same of a decoder or a whole encoder.
    pub repeats: u64,
    /// Passes over the training films at most.
    pub epochs: usize,
    /// Steps of a decoder or a whole encoder at most, so that large data sets stay within minutes.
    pub steps: usize,
    /// Looks at the validation films while these learn, at most; the best is kept.
    pub looks: usize,
    /// Looks without a better one after which learning ends.
    pub patience: usize,
}

impl Budget {
    /// Minutes on two cores.
    pub fn quick() -> Self {
        Self {
            name: "quick",
            fractions: vec![0.01, 0.1, 1.0],
            upper_fractions: vec![1.0],
            seeds: 3,
            repeats: 1,
            epochs: 50,
            steps: 120,
            looks: 6,
            patience: 10,
        }
    }

    /// As the published protocols have it: up to 50 passes, a look after each, 10 in vain.
    pub fn full() -> Self {
        Self { name: "full", repeats: 3, steps: usize::MAX, looks: 50, ..Self::quick() }
    }

    /// How long a decoder or a whole encoder learns from these films.
    pub(super) fn fit(&self, films: &Imaged, learning_rate: f64) -> Fit {
        let steps = (self.epochs * films.steps_per_epoch()).min(self.steps);
        let looks = self.looks.min(steps);
        Fit { learning_rate, steps_per_epoch: steps.div_ceil(looks), epochs: looks, patience: self.patience }
    }
}

/// What is chosen for an evaluation.
#[derive(Clone, Debug)]
pub struct Choices {
    /// What it computes on.
    pub on: Resources,
    /// How much time it takes.
    pub budget: Budget,
    /// Own sentences of classes.
    pub prompts: BTreeMap<String, Prompts>,
    /// How segmentation learns.
    pub segmenting: Segmenting,
}

/// See the [module](self).
pub struct Evaluation<'a> {
    /// What is evaluated.
    pub subject: &'a Subject,
    /// On which films.
    pub cohort: &'a Cohort,
    /// How.
    pub choices: Choices,
    /// Told what is being done.
    pub progress: &'a dyn Fn(&str),
    /// Becomes true when it shall stop.
    pub cancelled: &'a AtomicBool,
    /// What a reader should know.
    pub notes: Vec<String>,
    encoder: Option<Encoder>,
    features: [OnceCell<Rc<Features>>; 3],
}

impl<'a> Evaluation<'a> {
    /// An evaluation that has done nothing yet.
    pub fn new(
        subject: &'a Subject,
        cohort: &'a Cohort,
        choices: Choices,
        progress: &'a dyn Fn(&str),
        cancelled: &'a AtomicBool,
    ) -> Self {
        let features = [const { OnceCell::new() }; 3];
        Self { subject, cohort, choices, progress, cancelled, notes: Vec::new(), encoder: None, features }
    }

    /// Does a task.
    ///
    /// # Errors
    /// If data or weights lack what it needs.
    pub fn run(&mut self, task: Task) -> Result<Vec<Figure>, Error> {
        self.subject.needs(task.name(), task.parts())?;
        task.run(self)
    }

    /// The pre-trained model, opened once.
    pub fn encoder(&mut self) -> Result<&mut Encoder, Error> {
        match self.encoder {
            Some(ref mut encoder) => Ok(encoder),
            ref mut none => Ok(none.insert(Encoder::open(self.subject, &self.choices.on)?)),
        }
    }

    /// What the films of a split become, in the split's order; computed once; without their cells.
    pub fn features(&mut self, split: Split) -> Result<Rc<Features>, Error> {
        if let Some(features) = self.features[split as usize].get() {
            return Ok(features.clone());
        }
        let (cohort, progress) = (self.cohort, self.progress);
        let films = cohort.split(split);
        let told = |done| progress(&format!("features of {}: {done} of {} films", split.name(), films.len()));
        let features = Rc::new(self.encoder()?.films(&cohort.dataset, films, false, &told)?);
        Ok(self.features[split as usize].get_or_init(|| features).clone())
    }

    /// Seeds of `count` repetitions: other ones for other weights.
    pub fn seeds(&self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let first = self.subject.seed.wrapping_mul(count);
        (0..count).map(move |at| first.wrapping_add(at))
    }

    /// Adds what a reader should know.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// A part as a percentage in words, without what rounding leaves behind the sixth digit.
pub(super) fn percent(part: f64) -> f64 {
    (part * 1e6).round() / 1e4
}

/// A figure of a task.
pub(super) fn figure(task: Task, setting: &str, class: &str, metric: &str, estimate: Estimate) -> Figure {
    let [setting, class, metric] = [setting, class, metric].map(str::to_owned);
    Figure { task: task.name().into(), setting, class, metric, estimate, seeds: Vec::new() }
}
