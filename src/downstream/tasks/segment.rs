//! Segmentation by the U-Net on films with a true mask (the paper's table 1). By default MGCA's protocol: the encoder is taken
//! from pre-training and does not learn, its batch norms use the batch's statistics in training all the same, the decoder learns.

use super::Task;
use crate::base::{Estimate, Real, Spec};
use crate::data::Split;
use crate::downstream::classified::mean;
use crate::downstream::cohort::{Cohort, fraction};
use crate::downstream::evaluation::{Evaluation, figure, percent};
use crate::downstream::imaged::{self, Imaged};
use crate::downstream::learner::{self, Learner};
use crate::downstream::metrics::overlap::{Overlap, batch_means};
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
    /// Its encoder.
    Encoder,
    /// Encoder and decoder.
    EncoderDecoder,
    /// Nothing: everything is drawn, and learns.
    Random,
}

/// Which loss is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// 10 · focal − ln of the batch's Dice coefficient (MGCA, GLoRIA).
    Mgca,
    /// Binary cross entropy + 1 − the batch's Dice coefficient (MedKLIP).
    Medklip,
}

/// How a segmentation is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segmenting {
    /// What the U-Net begins with, one after the other.
    pub transfers: Vec<Transfer>,
    /// Whether an encoder that was taken over does not learn.
    pub frozen: bool,
    /// What an encoder that does not learn normalises with in training.
    pub batch_norm: Statistics,
    /// The loss.
    pub loss: Loss,
}

impl Default for Segmenting {
    /// MGCA's, with everything that can be taken over.
    fn default() -> Self {
        Self { transfers: Transfer::ALL.into(), frozen: true, batch_norm: Statistics::Batch, loss: Loss::Mgca }
    }
}

impl Segmenting {
    /// What becomes of the encoder, in words, and the loss where it is not MGCA's.
    fn told(&self, transfer: Transfer) -> String {
        let encoder = match (transfer, self.frozen, self.batch_norm) {
            (Transfer::Random, ..) | (_, false, _) => "everything learns",
            (_, true, Statistics::Batch) => "encoder frozen, batch statistics",
            (_, true, Statistics::Running) => "encoder frozen, running statistics",
        };
        match self.loss {
            Loss::Mgca => encoder.into(),
            Loss::Medklip => format!("{encoder}, MedKLIP's loss"),
        }
    }
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
    let segmenting = evaluation.choices.segmenting.clone();
    for &transfer in &segmenting.transfers {
        if transfer.parts().iter().any(|&part| !evaluation.subject.has(part)) {
            evaluation.note(format!("segment: these weights lack what --transfer {} takes over", transfer.name()));
            continue;
        }
        for part in evaluation.choices.budget.fractions.clone() {
            let how = segmenting.told(transfer);
            let setting = format!("{}, {how}, {} % of training", transfer.name(), percent(part));
            (evaluation.progress)(&format!("segment: {setting}"));
            let repeats = evaluation.seeds(evaluation.choices.budget.repeats);
            let overlaps: Vec<Vec<Overlap>> =
                repeats.map(|seed| one(evaluation, &splits, transfer, part, seed)).collect::<Result<_, _>>()?;
            figures.extend(overlapping(&setting, &overlaps));
            figures.extend(by_class(cohort, &splits[2], &setting, &overlaps));
        }
    }
    Ok(figures)
}

/// A measure of each film, the mean over repetitions.
fn each(repeats: &[Vec<Overlap>], of: fn(&Overlap) -> f64) -> Vec<f64> {
    let film = |film: usize| repeats.iter().map(|overlaps| of(&overlaps[film])).sum::<f64>() / repeats.len() as f64;
    (0..repeats[0].len()).map(film).collect()
}

/// The Dice of the films with each class: the masks do not tell classes apart, so a film of two counts for both.
fn by_class(cohort: &Cohort, films: &[usize], setting: &str, repeats: &[Vec<Overlap>]) -> Vec<Figure> {
    let dice = each(repeats, Overlap::dice);
    let of = |(class, name): (usize, &String)| {
        let has = |at: usize| repeats[0][at].is_positive() && cohort.labels(films[at]).is_some_and(|has| has[class]);
        let values: Vec<f64> = (0..films.len()).filter(|&at| has(at)).map(|at| dice[at]).collect();
        Estimate::of_mean(&values).map(|it| figure(TASK, setting, name, "Dice", it))
    };
    cohort.classes.iter().enumerate().filter_map(of).collect()
}

/// Dice and IoU by both conventions, of each film the mean over repetitions; and the Dice that MGCA prints, the mean of its
/// batches' means.
fn overlapping(setting: &str, repeats: &[Vec<Overlap>]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let films = &repeats[0];
    for (metric, of) in [("Dice", Overlap::dice as fn(&Overlap) -> f64), ("IoU", Overlap::iou)] {
        let every = each(repeats, of);
        let film = |film: usize| every[film];
        let positive: Vec<f64> = (0..films.len()).filter(|&at| films[at].is_positive()).map(film).collect();
        for (which, values) in [("films with a finding", &positive), ("all films, empty truth = 1", &every)] {
            figures.extend(Estimate::of_mean(values).map(|it| figure(TASK, setting, which, metric, it)));
        }
        if metric == "Dice" {
            let batches = |films: &[usize]| {
                let values: Vec<f64> = films.iter().map(|&film| every[film]).collect();
                mean(batch_means(&values, BATCH))
            };
            let estimate = Estimate::of_statistic(every.len(), batches);
            figures.extend(estimate.map(|it| figure(TASK, setting, "mean of batches, as published", metric, it)));
        }
    }
    figures
}

/// Trains on a part of the training films; how the predictions of the test films overlap with their masks.
fn one(
    evaluation: &mut Evaluation<'_>,
    splits: &[Vec<usize>; 3],
    transfer: Transfer,
    part: f64,
    seed: u64,
) -> Result<Vec<Overlap>, Error> {
    let [train, val, test] = splits;
    let (dataset, config) = (&evaluation.cohort.dataset, &evaluation.subject.config);
    let segmenting = &evaluation.choices.segmenting;
    let films = Imaged::new(dataset, fraction(train, part, seed), config, BATCH, Varied::ScaledRotated, seed)?;
    let mut learner = Learner::open(record(config, films.batch, transfer, segmenting)?, &evaluation.choices.on, seed)?;
    learner.take(evaluation.subject, transfer.parts())?;
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
            percent(part)
        ));
    };
    let fit = evaluation.choices.budget.fit(&films, LEARNING_RATE);
    let fitted = learner.fit(fit, &mut feed, &mut judge, &told, evaluation.cancelled)?;
    super::note_unjudged(evaluation, TASK, &fitted, "has a mask in which something is set");
    overlaps(&mut learner, test)
}

fn record(config: &Config, batch: usize, transfer: Transfer, segmenting: &Segmenting) -> Result<learner::Task, Error> {
    let shapes = Shapes { batch, text_len: 2, source: Source::Bytes };
    let frozen = segmenting.frozen && transfer != Transfer::Random;
    let logits = |r: &mut Recorder, encoder, decoder| -> Result<Value, RecordError> {
        let images = Images::declare(r, config, &shapes)?;
        let features = g2d::features(r, config, &images, encoder)?;
        Ok(r.scope("img_model", |r| unet::decoder(r, config, &features, 1, decoder))?[0])
    };
    let mut prediction = Recorder::new();
    let out = logits(&mut prediction, Statistics::Running, Statistics::Running)?;
    prediction.output("out.logits", out);
    let mut training = Recorder::new();
    let r = &mut training;
    let out = logits(r, if frozen { segmenting.batch_norm } else { Statistics::Batch }, Statistics::Batch)?;
    let side = config.image_size;
    let masks = r.input("masks", Spec::bytes([batch, side, side]));
    let moved = r.input("mask_augmentation", Spec::exact([batch, ingest::AUGMENTATION]));
    let op = Ingest { source: ingest::Source::Bytes, normalise: ingest::Normalise::Unit };
    let mask = r.scope("masks", |r| r.node(op, &[masks, moved]))?[0];
    let (pixels, dice, weight) = match segmenting.loss {
        Loss::Mgca => (elementwise_loss::Form::Focal, dice_loss::Form::Log, FOCAL),
        Loss::Medklip => (elementwise_loss::Form::BceWithLogits, dice_loss::Form::Linear, 1.0),
    };
    let pixels = r.one(ElementwiseLoss::fwd(pixels), &[out, mask])?;
    let dice = r.node(DiceLoss::fwd(dice), &[out, mask])?[0];
    let loss = r.one(Accumulate::Add { scale: Real(weight) }, &[dice, pixels])?;
    if frozen {
        r.freeze(|name| Part::Encoder.prefixes().iter().any(|prefix| name.starts_with(prefix)));
    }
    Ok(learner::Task { training, loss, prediction: prediction.finish(), weight_decay: WEIGHT_DECAY })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Resources;

    /// Parameters that two steps move and those that they leave.
    fn moved(transfer: Transfer, frozen: bool) -> [Vec<String>; 2] {
        let config = Config { image_size: 64, ..Config::preset("micro").unwrap() };
        let segmenting = Segmenting { frozen, ..Segmenting::default() };
        let task = record(&config, 2, transfer, &segmenting).unwrap();
        let mut learner = Learner::open(task, &Resources::default(), 3).unwrap();
        let pixels: Vec<u8> = (0..2 * 64 * 64).map(|pixel| (pixel * 37 % 251) as u8).collect();
        let masks: Vec<u8> = (0..2 * 64 * 64).map(|pixel| if pixel % 64 < 20 { 255 } else { 0 }).collect();
        let plain = Varied::Nothing.draw(64, 0, 0, 0).repeat(2);
        let feed = |engine: &mut Engine, plan: &crate::program::Checked| {
            engine.upload(plan, "pixels", &pixels)?;
            engine.write(plan, "augmentation", &plain)?;
            engine.upload(plan, "masks", &masks)?;
            engine.write(plan, "mask_augmentation", &plain)
        };
        learner.moved(2, feed).unwrap()
    }

    #[test]
    fn a_frozen_encoder_keeps_its_weights_and_everything_else_learns() {
        let of_encoder = |name: &String| Part::Encoder.prefixes().iter().any(|prefix| name.starts_with(prefix));
        for transfer in [Transfer::Encoder, Transfer::EncoderDecoder] {
            let [moved, kept] = moved(transfer, true);
            assert!(!kept.is_empty() && kept.iter().all(of_encoder), "{kept:?}");
            assert!(!moved.is_empty() && !moved.iter().any(of_encoder), "{moved:?}");
        }
        for (transfer, frozen) in [(Transfer::Encoder, false), (Transfer::Random, true)] {
            let [moved, kept] = moved(transfer, frozen);
            assert!(moved.iter().any(of_encoder) && kept.is_empty(), "{kept:?}");
        }
    }
}
