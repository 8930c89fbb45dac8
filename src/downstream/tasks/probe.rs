//! Linear classification on frozen features (MGCA; the paper's table 4): the mean of one of the encoder's maps, by running
//! statistics, and one linear layer, on a part of the training films. Labels are learned each by itself, or, where they exclude
//! each other, by the cross entropy of their softmax (COVIDx).

use std::rc::Rc;

use super::Task;
use crate::base::{Kind, Rng, Spec};
use crate::data::Split;
use crate::downstream::classified::Classified;
use crate::downstream::cohort::fraction;
use crate::downstream::encoder::{Features, LEVELS};
use crate::downstream::evaluation::{Evaluation, percent};
use crate::downstream::learner::{self, Fit, Learner};
use crate::downstream::report::Figure;
use crate::error::Error;
use crate::model::init::Scheme;
use crate::model::layer::Dense;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::elementwise_loss::{ElementwiseLoss, Form};
use crate::program::Recorder;

const TASK: Task = Task::Probe;
/// MGCA's.
const LEARNING_RATE: f64 = 5e-4;
const WEIGHT_DECAY: f64 = 1e-6;
/// Films a step at most; MGCA's script has 48.
const BATCH: usize = 48;
const STREAM: u32 = u32::from_be_bytes(*b"prob");

/// Features [films, width] and truth [films, classes] of labelled films.
struct Labelled {
    features: Vec<f32>,
    truth: Vec<bool>,
}

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    super::need_classes(evaluation, TASK)?;
    let budget = evaluation.choices.budget.clone();
    let mut figures = Vec::new();
    for level in (0..LEVELS).rev() {
        // The deepest level is the published one; the others are for comparison.
        let fractions = if level == LEVELS - 1 { &budget.fractions } else { &budget.upper_fractions };
        for &part in fractions {
            let setting = format!("f{}, {} % of training, {} seeds", level + 1, percent(part), budget.seeds);
            (evaluation.progress)(&format!("probe: {setting}"));
            let found = repeated(evaluation, level, part)?;
            super::note_unlearned(evaluation, TASK, part, budget.seeds);
            let classes = &evaluation.cohort.classes;
            let classified = Classified { classes, truth: &found.0, scores: &found.1 };
            figures.extend(classified.aucs(TASK, &setting));
            if evaluation.cohort.exclusive() {
                figures.extend(classified.accuracy(TASK, &setting));
            }
        }
    }
    Ok(figures)
}

/// Truth and each repetition's scores of the test films.
fn repeated(evaluation: &mut Evaluation<'_>, level: usize, part: f64) -> Result<(Vec<bool>, Vec<Vec<f64>>), Error> {
    let of = |evaluation: &mut Evaluation<'_>, split| -> Result<Labelled, Error> {
        let (films, truth) = evaluation.cohort.labelled(split);
        let features = evaluation.features(split)?;
        Ok(Labelled { features: rows(&features, level, &films), truth })
    };
    let [train, val, test] = [of(evaluation, Split::Train)?, of(evaluation, Split::Val)?, of(evaluation, Split::Test)?];
    let classes = evaluation.cohort.classes.len();
    let films: Vec<usize> = (0..train.truth.len() / classes).collect();
    if films.is_empty() {
        let folder = evaluation.cohort.dataset.folder().display();
        return Err(Error::Usage(format!(
            "probe needs labelled films to train on, and {folder} has none in its split train"
        )));
    }
    let budget = evaluation.choices.budget.clone();
    let mut scores = Vec::new();
    for seed in evaluation.seeds(budget.seeds) {
        scores.push(one(evaluation, &train, &val, &test, &fraction(&films, part, seed), seed)?);
    }
    Ok((test.truth, scores))
}

/// Trains a linear layer on the `chosen` films and scores the test films.
fn one(
    evaluation: &mut Evaluation<'_>,
    train: &Labelled,
    val: &Labelled,
    test: &Labelled,
    chosen: &[usize],
    seed: u64,
) -> Result<Vec<f64>, Error> {
    let classes = evaluation.cohort.classes.len();
    let width = test.features.len() / (test.truth.len() / classes);
    let batch = BATCH.min(chosen.len());
    let exclusive = evaluation.cohort.exclusive();
    let mut learner = Learner::open(record(batch, width, classes, exclusive)?, &evaluation.choices.on, seed)?;
    let steps_per_epoch = chosen.len().div_ceil(batch);
    let budget = &evaluation.choices.budget;
    let fit = Fit { learning_rate: LEARNING_RATE, steps_per_epoch, epochs: budget.epochs, patience: budget.patience };
    let mut order = chosen.to_vec();
    let mut feed = |engine: &mut crate::train::Engine, plan: &crate::program::Checked, step: usize| {
        if step.is_multiple_of(steps_per_epoch) {
            order.copy_from_slice(chosen);
            Rng::new(seed, STREAM, (step / steps_per_epoch) as u64).shuffle(&mut order);
        }
        // The last batch of an epoch begins it over.
        let films = order.iter().cycle().skip(step % steps_per_epoch * batch).take(batch);
        let (mut features, mut target) = (Vec::new(), Vec::new());
        for &film in films {
            features.extend(&train.features[film * width..][..width]);
            target.extend_from_slice(&train.truth[film * classes..][..classes]);
        }
        engine.write(plan, "features", &features)?;
        if exclusive {
            let class = |film: &[bool]| film.iter().position(|&has| has).unwrap_or_default() as i32;
            return engine.upload(plan, "class", &target.chunks_exact(classes).map(class).collect::<Vec<i32>>());
        }
        engine.write(plan, "target", &target.iter().map(|&has| f32::from(u8::from(has))).collect::<Vec<f32>>())
    };
    let mut judge = |learner: &mut Learner| {
        let scores = scores(learner, &val.features, batch, width, classes)?;
        let loss = match exclusive {
            true => super::cross_entropy(&scores, &val.truth, classes),
            false => super::bce(&scores, &val.truth),
        };
        Ok(loss.map(|loss| -loss))
    };
    let fitted = learner.fit(fit, &mut feed, &mut judge, &|_, _| (), evaluation.cancelled)?;
    super::note_unjudged(evaluation, TASK, &fitted, "is labelled");
    scores(&mut learner, &test.features, batch, width, classes)
}

fn scores(
    learner: &mut Learner,
    features: &[f32],
    batch: usize,
    width: usize,
    classes: usize,
) -> Result<Vec<f64>, Error> {
    let mut found = Vec::new();
    for part in features.chunks(batch * width) {
        let mut padded = part.to_vec();
        padded.resize(batch * width, 0.0);
        let logits = learner.predict(&["out.logits"], |engine, plan| engine.write(plan, "features", &padded))?;
        found.extend(&logits[0][..part.len() / width * classes]);
    }
    Ok(found)
}

fn record(batch: usize, width: usize, classes: usize, exclusive: bool) -> Result<learner::Task, Error> {
    let head = |r: &mut Recorder| {
        let features = r.input("features", Spec::exact([batch, width]));
        let layer = Dense { output: Kind::Exact, scheme: Scheme::XavierUniform, ..Dense::xavier() };
        r.scope("classifier", |r| layer.record(r, features, classes))
    };
    let mut prediction = Recorder::new();
    let logits = head(&mut prediction)?;
    prediction.output("out.logits", logits);
    let mut training = Recorder::new();
    let logits = head(&mut training)?;
    let loss = if exclusive {
        let class = training.input("class", Spec::index([batch]));
        training.one(CrossEntropy::fwd(), &[logits, class])?
    } else {
        let target = training.input("target", Spec::exact([batch, classes]));
        training.one(ElementwiseLoss::fwd(Form::BceWithLogits), &[logits, target])?
    };
    Ok(learner::Task { training, loss, prediction: prediction.finish(), weight_decay: WEIGHT_DECAY })
}

/// The means of one map of the films at these places [films, channels].
fn rows(features: &Rc<Features>, level: usize, films: &[usize]) -> Vec<f32> {
    let width = features.levels[level].len() / features.films.max(1);
    films.iter().flat_map(|&film| &features.levels[level][film * width..][..width]).copied().collect()
}
