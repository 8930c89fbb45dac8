//! A head, a decoder or a whole model that learns a downstream task through a recorded step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::subject::{Part, Subject};
use crate::checkpoint::{Others, names};
use crate::error::Error;
use crate::model::optimizer::{self, Group};
use crate::program::record::Role;
use crate::program::{Checked, Program, Recorder, Value};
use crate::train::{Engine, Resources};

/// A step as recorded, up to its loss.
#[derive(Debug)]
pub struct Task {
    /// What is trained, by the batch's statistics.
    pub training: Recorder,
    /// The loss \[1\] that is differentiated.
    pub loss: Value,
    /// What is used after training; its states are among those of `training`.
    pub prediction: Program,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
}

/// How long and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// Steps between two looks at the validation films.
    pub steps_per_epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation after which it ends.
    pub patience: usize,
}

/// How a fit went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitted {
    /// Epochs that were trained.
    pub epochs: usize,
    /// The one whose weights are kept.
    pub best_epoch: usize,
    /// Its validation.
    pub best: f64,
}

/// What learns: a recorded step and its prediction on an engine.
#[derive(Debug)]
pub struct Learner {
    engine: Engine,
    training: Arc<Checked>,
    prediction: Arc<Checked>,
    groups: Vec<(Group, f64)>,
    steps: u64,
}

impl Learner {
    /// A learner with fresh weights.
    ///
    /// # Errors
    /// If the step cannot be recorded, or the device has no room for it.
    pub fn open(task: Task, on: &Resources, seed: u64) -> Result<Self, Error> {
        let Task { training: mut recorder, loss, prediction, weight_decay } = task;
        recorder.output("loss.total", loss);
        recorder.differentiate(loss)?;
        let parameters = optimizer::trainable(recorder.program()).collect();
        let group = Group { name: "all".into(), parameters, weight_decay, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        optimizer::optimize(&mut recorder, std::slice::from_ref(&group))?;
        let whole = recorder.finish();
        let (mut engine, plans) = Engine::open(on, whole.clone(), vec![whole, prediction])?;
        engine.initialise(seed)?;
        let mut plans = plans.into_iter();
        let (Some(training), Some(prediction)) = (plans.next(), plans.next()) else { unreachable!("both were given") };
        Ok(Self { engine, training, prediction, groups: vec![(group, 1.0)], steps: 0 })
    }

    /// Takes parts of a pre-trained model: from its weights or, where it was never trained, drawn by its seed.
    ///
    /// # Errors
    /// If they are not there, or of other shapes.
    pub fn take(&mut self, subject: &Subject, parts: &[Part]) -> Result<(), Error> {
        let named = |name: &str| parts.iter().flat_map(|part| part.prefixes()).any(|prefix| name.starts_with(prefix));
        match &subject.weights {
            None => self.engine.draw(subject.seed, named),
            Some(weights) => {
                let program = self.engine.program();
                let wanted = names::weights(program).into_iter().filter(|&at| named(&program.states[at].name));
                self.engine.load(weights, &wanted.collect::<Vec<_>>(), Others::Left).map(drop)
            }
        }
    }

    /// One step: `feed` writes the batch.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite.
    pub fn step(
        &mut self,
        learning_rate: f64,
        feed: impl FnOnce(&mut Engine, &Checked) -> Result<(), Error>,
    ) -> Result<f64, Error> {
        feed(&mut self.engine, &self.training)?;
        self.engine.write_rates(&self.training, &self.groups, learning_rate, self.steps + 1)?;
        self.engine.keep_statistics()?;
        self.engine.replay(&self.training)?;
        let loss = self.engine.scalar(&self.training, "loss.total")?;
        let gradients = self.engine.scalar(&self.training, "finite")?;
        if !(loss.is_finite() && gradients.is_finite()) {
            let training = self.training.clone();
            return Err(self.engine.not_finite(&training, self.steps + 1)?);
        }
        self.steps += 1;
        Ok(loss)
    }

    /// The outputs `names` of the prediction for what `feed` writes.
    ///
    /// # Errors
    /// If a number of them is not finite.
    pub fn predict(
        &mut self,
        names: &[&str],
        feed: impl FnOnce(&mut Engine, &Checked) -> Result<(), Error>,
    ) -> Result<Vec<Vec<f64>>, Error> {
        feed(&mut self.engine, &self.prediction)?;
        self.engine.replay(&self.prediction)?;
        let read = |name: &&str| {
            let numbers = self.engine.output(&self.prediction, name)?.unwrap_or_default();
            match numbers.iter().all(|number| number.is_finite()) {
                true => Ok(numbers),
                false => {
                    Err(Error::Usage(format!("{name} of a prediction is not finite: what was learned is of no use")))
                }
            }
        };
        names.iter().map(read).collect()
    }

    /// Trains by `feed`, which is given the step's number, until `judge` (more is better; nothing where there are no films to
    /// judge by, and then the last weights are kept) has found nothing better for so many epochs; then takes the best weights
    /// back. `progress` is told the epoch and what `judge` said.
    ///
    /// # Errors
    /// If a step is not finite, or it is told to stop by `cancelled`.
    pub fn fit(
        &mut self,
        fit: Fit,
        feed: &mut dyn FnMut(&mut Engine, &Checked, usize) -> Result<(), Error>,
        judge: &mut dyn FnMut(&mut Self) -> Result<Option<f64>, Error>,
        progress: &dyn Fn(usize, Option<f64>),
        cancelled: &AtomicBool,
    ) -> Result<Fitted, Error> {
        let mut fitted = Fitted { epochs: 0, best_epoch: 0, best: f64::NEG_INFINITY };
        let mut kept = Vec::new();
        while fitted.epochs < fit.epochs && fitted.epochs - fitted.best_epoch < fit.patience {
            for step in 0..fit.steps_per_epoch {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Error::Stopped("nothing of what was being learned is kept".into()));
                }
                let step = fitted.epochs * fit.steps_per_epoch + step;
                self.step(fit.learning_rate, |engine, plan| feed(engine, plan, step))?;
            }
            fitted.epochs += 1;
            let found = judge(self)?;
            progress(fitted.epochs, found);
            if found.is_none_or(|found| found > fitted.best) {
                (fitted.best, fitted.best_epoch) = (found.unwrap_or(fitted.best), fitted.epochs);
                kept = self.moving()?;
            }
        }
        for (name, numbers) in kept {
            self.engine.set_state(&name, &numbers)?;
        }
        Ok(fitted)
    }

    /// Whatever training moves: parameters that learn and running statistics.
    fn moving(&self) -> Result<Vec<(String, Vec<f64>)>, Error> {
        let moves = |role| matches!(role, Role::Parameter { trainable: true } | Role::Statistic);
        let states = self.engine.program().states.iter().filter(|state| moves(state.role));
        states.map(|state| Ok((state.name.clone(), self.engine.state(&state.name)?.unwrap_or_default()))).collect()
    }
}
