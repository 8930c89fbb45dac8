//! Classification with the whole encoder (the paper's table 3): mean of the deepest map, one linear layer, everything
//! learns; batch norms use the batch's statistics in training and the running ones after it.

use super::Task;
use crate::base::{Kind, Spec};
use crate::data::Split;
use crate::downstream::classified::Classified;
use crate::downstream::cohort::fraction;
use crate::downstream::evaluation::{Evaluation, percent};
use crate::downstream::imaged::{self, Imaged};
use crate::downstream::learner::{self, Learner};
use crate::downstream::report::Figure;
use crate::downstream::subject::Part;
use crate::downstream::varied::Varied;
use crate::error::Error;
use crate::model::batch::{Images, Shapes, Source};
use crate::model::config::Config;
use crate::model::g2d;
use crate::model::init::Scheme;
use crate::model::layer::{Dense, Statistics};
use crate::ops::elementwise_loss::{ElementwiseLoss, Form};
use crate::ops::spatial_mean::SpatialMean;
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

const TASK: Task = Task::Finetune;
/// KAD's, which the paper follows.
const LEARNING_RATE: f64 = 1e-4;
/// torch's default for AdamW.
const WEIGHT_DECAY: f64 = 1e-2;
/// Films a step at most.
const BATCH: usize = 64;

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    super::need_classes(evaluation, TASK)?;
    let cohort = evaluation.cohort;
    let (_, truth) = cohort.labelled(Split::Test);
    let mut figures = Vec::new();
    for part in evaluation.choices.budget.fractions.clone() {
        let setting = format!("{} % of training", percent(part));
        (evaluation.progress)(&format!("finetune: {setting}"));
        let repeats = evaluation.choices.budget.repeats;
        let seeds = evaluation.seeds(repeats);
        let scores: Vec<Vec<f64>> = seeds.map(|seed| one(evaluation, part, seed)).collect::<Result<_, _>>()?;
        super::note_unlearned(evaluation, TASK, part, repeats);
        let classified = Classified { classes: &cohort.classes, truth: &truth, scores: &scores };
        figures.extend(classified.aucs(TASK, &setting));
    }
    Ok(figures)
}

/// Trains on a part of the training films and scores the test films.
fn one(evaluation: &mut Evaluation<'_>, part: f64, seed: u64) -> Result<Vec<f64>, Error> {
    let (cohort, config) = (evaluation.cohort, &evaluation.subject.config);
    let named = |split| {
        let (places, truth) = cohort.labelled(split);
        (places.iter().map(|&place| cohort.split(split)[place]).collect::<Vec<usize>>(), truth)
    };
    let ((train, _), (val, known), (test, _)) = (named(Split::Train), named(Split::Val), named(Split::Test));
    if train.is_empty() {
        let folder = cohort.dataset.folder().display();
        return Err(Error::Usage(format!(
            "finetune needs labelled films to train on, and {folder} has none in its split train"
        )));
    }
    let films = Imaged::new(&cohort.dataset, fraction(&train, part, seed), config, BATCH, Varied::Augmented, seed)?;
    let classes = cohort.classes.len();
    let mut learner = Learner::open(record(config, films.batch, classes)?, &evaluation.choices.on, seed)?;
    learner.take(evaluation.subject, &[Part::Encoder])?;
    let fit = evaluation.choices.budget.fit(&films, LEARNING_RATE);
    let mut feed = |engine: &mut crate::train::Engine, plan: &crate::program::Checked, step: usize| {
        let fed = films.feed(engine, plan, step)?;
        let has = |&film: &usize| cohort.labels(film).unwrap_or_default();
        let target: Vec<f32> = fed.films.iter().flat_map(has).map(|&has| f32::from(u8::from(has))).collect();
        engine.write(plan, "target", &target)
    };
    let scores = |learner: &mut Learner, of: &[usize]| {
        let mut logits = Vec::new();
        let mut take = |_, numbers: &[f64]| {
            logits.extend_from_slice(numbers);
            Ok(())
        };
        imaged::predict(learner, &cohort.dataset, of, config, films.batch, &["out.logits"], &mut take)?;
        Ok::<_, Error>(logits)
    };
    let mut judge = |learner: &mut Learner| Ok(super::bce(&scores(learner, &val)?, &known).map(|loss| -loss));
    let told = |look: usize, found: Option<f64>| {
        let found = found.map_or(String::new(), |found| format!(": BCE {:.3}", -found));
        (evaluation.progress)(&format!("finetune: {} % of training, look {look}{found}", percent(part)));
    };
    let fitted = learner.fit(fit, &mut feed, &mut judge, &told, evaluation.cancelled)?;
    super::note_unjudged(evaluation, TASK, &fitted, "is labelled");
    scores(&mut learner, &test)
}

fn record(config: &Config, batch: usize, classes: usize) -> Result<learner::Task, Error> {
    let shapes = Shapes { batch, text_len: 2, source: Source::Bytes };
    let logits = |r: &mut Recorder, statistics| -> Result<Value, RecordError> {
        let images = Images::declare(r, config, &shapes)?;
        let features = g2d::features(r, config, &images, statistics)?;
        let mean = r.scope("mean", |r| r.one(SpatialMean::Fwd, &[features[features.len() - 1]]))?;
        let layer = Dense { output: Kind::Exact, scheme: Scheme::XavierUniform, ..Dense::xavier() };
        r.scope("classifier", |r| layer.record(r, mean, classes))
    };
    let mut prediction = Recorder::new();
    let out = logits(&mut prediction, Statistics::Running)?;
    prediction.output("out.logits", out);
    let mut training = Recorder::new();
    let out = logits(&mut training, Statistics::Batch)?;
    let target = training.input("target", Spec::exact([batch, classes]));
    let loss = training.one(ElementwiseLoss::fwd(Form::BceWithLogits), &[out, target])?;
    Ok(learner::Task { training, loss, prediction: prediction.finish(), weight_decay: WEIGHT_DECAY })
}
