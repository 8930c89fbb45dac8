//! Segmentation by the U-Net on films with a true mask (MGCA's protocol; the paper's table 1): the encoder is taken from
//! pre-training and does not learn, its batch norms use the batch's statistics in training all the same, the decoder learns.

use super::Task;
use crate::base::{Estimate, Real, Spec};
use crate::data::Split;
use crate::downstream::classified::mean;
use crate::downstream::cohort::fraction;
use crate::downstream::evaluation::{Evaluation, figure};
use crate::downstream::imaged::{self, Imaged};
use crate::downstream::learner::{self, Learner};
use crate::downstream::metrics::overlap::Overlap;
use crate::downstream::report::Figure;
use crate::downstream::subject::Part;
use crate::downstream::varied::Varied;
use crate::error::Error;
use crate::model::batch::{Images, Shapes, Source};
use crate::model::config::Config;
use crate::model::layer::Statistics;
use crate::model::{g2d, unet};
use crate::ops::accumulate::Accumulate;
use crate::ops::dice_loss::{self, DiceLoss};
use crate::ops::elementwise_loss::{self, ElementwiseLoss};
use crate::ops::ingest::{self, Ingest};
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};
use crate::train::Engine;

const TASK: Task = Task::Segment;
/// The paper's.
const LEARNING_RATE: f64 = 2e-4;
const WEIGHT_DECAY: f64 = 0.05;
/// Weight of the focal loss beside the logarithm of the Dice coefficient (MGCA, GLoRIA).
const FOCAL: f64 = 10.0;
/// Films a step at most (RSNA's; SIIM's is 8).
const BATCH: usize = 16;

/// What of the pre-trained model the U-Net begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Its encoder, which does not learn.
    Encoder,
    /// Encoder, which does not learn, and decoder, which does.
    EncoderDecoder,
    /// Nothing: everything is drawn, and learns.
    Random,
}

impl Transfer {
    /// All.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::EncoderDecoder, Self::Random];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::EncoderDecoder => "encoder-decoder",
            Self::Random => "random",
        }
    }

    fn parts(self) -> &'static [Part] {
        match self {
            Self::Encoder => &[Part::Encoder],
            Self::EncoderDecoder => &[Part::Encoder, Part::Decoder],
            Self::Random => &[],
        }
    }
}

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let cohort = evaluation.cohort;
    let masked = |split| -> Result<Vec<usize>, Error> {
        let has = |&film: &usize| Ok::<_, Error>(cohort.dataset.record(film)?.mask.is_some().then_some(film));
        cohort.split(split).iter().filter_map(|film| has(film).transpose()).collect()
    };
    let splits = [masked(Split::Train)?, masked(Split::Val)?, masked(Split::Test)?];
    if splits[0].is_empty() || splits[2].is_empty() {
        let (folder, train, test) = (cohort.dataset.folder().display(), splits[0].len(), splits[2].len());
        return Err(Error::Usage(format!(
            "segment needs films with a mask to train and to test on; {folder} has {train} in its split train and {test} in \
             test"
        )));
    }
    let mut figures = Vec::new();
    for transfer in Transfer::ALL {
        if transfer.parts().iter().any(|&part| !evaluation.subject.has(part)) {
            evaluation.note(format!("segment: these weights lack what --transfer {} takes over", transfer.name()));
            continue;
        }
        for part in evaluation.choices.budget.fractions.clone() {
            let how = if transfer == Transfer::Random { "everything learns" } else { "encoder frozen" };
            let setting = format!("{}, {how}, {} % of training", transfer.name(), part * 100.0);
            (evaluation.progress)(&format!("segment: {setting}"));
            let overlaps = one(evaluation, &splits, transfer, part, 0)?;
            figures.extend(overlapping(&setting, &overlaps));
        }
    }
    Ok(figures)
}

/// Dice and IoU by both conventions.
fn overlapping(setting: &str, overlaps: &[Overlap]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (metric, of) in [("Dice", Overlap::dice as fn(&Overlap) -> f64), ("IoU", Overlap::iou)] {
        let every: Vec<f64> = overlaps.iter().map(of).collect();
        let positive: Vec<f64> = overlaps.iter().filter(|overlap| overlap.is_positive()).map(of).collect();
        for (which, values) in [("films with a finding", positive), ("all films, empty truth = 1", every)] {
            figures.extend(Estimate::of_mean(&values).map(|it| figure(TASK, setting, which, metric, it)));
        }
    }
    figures
}

/// Trains on a part of the training films; how the predictions of the test films overlap with their masks.
fn one(
    evaluation: &Evaluation<'_>,
    splits: &[Vec<usize>; 3],
    transfer: Transfer,
    part: f64,
    seed: u64,
) -> Result<Vec<Overlap>, Error> {
    let [train, val, test] = splits;
    let (dataset, config) = (&evaluation.cohort.dataset, &evaluation.subject.config);
    let films = Imaged::new(dataset, fraction(train, part, seed), config, BATCH, Varied::ScaledRotated, seed)?;
    let mut learner = Learner::open(record(config, films.batch, transfer)?, &evaluation.choices.on, seed)?;
    if let Some(weights) = &evaluation.subject.weights {
        for part in transfer.parts() {
            learner.load(weights, part.prefixes())?;
        }
    }
    let mut feed = |engine: &mut Engine, plan: &crate::program::Checked, step: usize| {
        let fed = films.feed(engine, plan, step)?;
        engine.upload(plan, "masks", &films.masks(&fed.films)?)?;
        engine.write(plan, "mask_augmentation", &fed.augmentation)
    };
    let overlaps = |learner: &mut Learner, of: &[usize]| {
        let mut found = Vec::new();
        let mut take = |film: usize, logits: &[f64]| {
            let truth: Vec<bool> = films.masks(&[film])?.iter().map(|&mask| mask > 127).collect();
            let predicted: Vec<bool> = logits.iter().map(|&logit| logit > 0.0).collect();
            found.push(Overlap::of(&predicted, &truth).map_err(|why| Error::Usage(format!("segment: {why}")))?);
            Ok(())
        };
        imaged::predict(learner, dataset, of, config, films.batch, &["out.logits"], &mut take)?;
        Ok::<_, Error>(found)
    };
    let mut judge = |learner: &mut Learner| {
        let found = overlaps(learner, val)?;
        let dice: Vec<f64> = found.iter().filter(|overlap| overlap.is_positive()).map(Overlap::dice).collect();
        Ok(mean(dice))
    };
    let told = |look: usize, found: Option<f64>| {
        let found = found.map_or(String::new(), |found| format!(": Dice {found:.3}"));
        (evaluation.progress)(&format!(
            "segment: {}, {} % of training, look {look}{found}",
            transfer.name(),
            part * 100.0
        ));
    };
    let fit = evaluation.choices.budget.fit(&films, LEARNING_RATE);
    learner.fit(fit, &mut feed, &mut judge, &told, evaluation.cancelled)?;
    overlaps(&mut learner, test)
}

fn record(config: &Config, batch: usize, transfer: Transfer) -> Result<learner::Task, Error> {
    let shapes = Shapes { batch, text_len: 2, source: Source::Bytes };
    let logits = |r: &mut Recorder, statistics| -> Result<Value, RecordError> {
        let images = Images::declare(r, config, &shapes)?;
        let features = g2d::features(r, config, &images, statistics)?;
        Ok(r.scope("img_model", |r| unet::decoder(r, config, &features, 1, statistics))?[0])
    };
    let mut prediction = Recorder::new();
    let out = logits(&mut prediction, Statistics::Running)?;
    prediction.output("out.logits", out);
    let mut training = Recorder::new();
    let r = &mut training;
    let out = logits(r, Statistics::Batch)?;
    let side = config.image_size;
    let masks = r.input("masks", Spec::bytes([batch, side, side]));
    let moved = r.input("mask_augmentation", Spec::exact([batch, ingest::AUGMENTATION]));
    let op = Ingest { source: ingest::Source::Bytes, normalise: ingest::Normalise::Unit };
    let mask = r.scope("masks", |r| r.node(op, &[masks, moved]))?[0];
    let focal = r.one(ElementwiseLoss::fwd(elementwise_loss::Form::Focal), &[out, mask])?;
    let dice = r.node(DiceLoss::fwd(dice_loss::Form::Log), &[out, mask])?[0];
    let loss = r.one(Accumulate::Add { scale: Real(FOCAL) }, &[dice, focal])?;
    if transfer != Transfer::Random {
        r.freeze(|name| Part::Encoder.prefixes().iter().any(|prefix| name.starts_with(prefix)));
    }
    Ok(learner::Task { training, loss, prediction: prediction.finish(), weight_decay: WEIGHT_DECAY })
}
