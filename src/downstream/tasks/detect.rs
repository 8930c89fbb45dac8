//! Detection by a YOLOv3 head on the encoder, which does not learn (MGCA's protocol; the paper's table 1), of films whose
//! boxes say where something is. All labels are one class.

use super::Task;
use crate::base::{Estimate, Real, Spec, counted};
use crate::data::record::BoundingBox;
use crate::data::{Dataset, Split};
use crate::downstream::classified::mean;
use crate::downstream::cohort::fraction;
use crate::downstream::evaluation::{Evaluation, figure, percent};
use crate::downstream::imaged::{self, Imaged};
use crate::downstream::learner::{self, Learner};
use crate::downstream::metrics::Undefined;
use crate::downstream::metrics::detection::{
    COCO, Detection, Image, PUBLISHED, Rectangle, Truth, average_precisions, suppress,
};
use crate::downstream::report::Figure;
use crate::downstream::subject::Part;
use crate::downstream::varied::Varied;
use crate::downstream::yolo::{self, SCALES};
use crate::error::Error;
use crate::model::batch::{Images, Shapes, Source};
use crate::model::config::Config;
use crate::model::g2d;
use crate::model::layer::Statistics;
use crate::ops::accumulate::Accumulate;
use crate::ops::elementwise_loss::{ElementwiseLoss, Form};
use crate::program::record::RecordError;
use crate::program::{Checked, Recorder, Value};
use crate::train::Engine;

const TASK: Task = Task::Detect;
/// MGCA's, of batches of 16; smaller ones learn at the lower rate.
const LEARNING_RATES: [f64; 2] = [2e-4, 5e-4];
const WEIGHT_DECAY: f64 = 1e-6;
/// Films a step at most.
const BATCH: usize = 16;
/// How sure a detection is at least: for the standard figure, and as published.
const SURE: [f64; 2] = [0.05, 0.5];
/// Detections that overlap a surer one more are dropped.
const OVERLAP: f64 = 0.5;

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let cohort = evaluation.cohort;
    // A finding without a box is nothing that is not there: such films neither teach nor count.
    let known = |split| -> Result<(Vec<usize>, usize), Error> {
        let (mut films, mut boxed) = (Vec::new(), 0);
        for &film in cohort.split(split) {
            let has = !boxes(&cohort.dataset, film)?.is_empty();
            boxed += usize::from(has);
            if has || cohort.labels(film).is_some_and(|labels| !labels.contains(&true)) {
                films.push(film);
            }
        }
        Ok((films, boxed))
    };
    let [(train, taught), (val, _), (test, asked)] = [known(Split::Train)?, known(Split::Val)?, known(Split::Test)?];
    if taught == 0 || asked == 0 {
        let folder = cohort.dataset.folder().display();
        return Err(Error::Usage(format!(
            "detect needs films with boxes to train and to test on; {folder} has {taught} in its split train and {asked} in test"
        )));
    }
    let left: usize = Split::ALL.iter().map(|&split| cohort.split(split).len()).sum();
    let left = left - train.len() - val.len() - test.len();
    if left > 0 {
        let left = counted(left, "film");
        evaluation.note(format!("detect: left out, with findings but no box, or of unknown findings: {left}"));
    }
    let films = [train, val, test];
    let mut figures = Vec::new();
    for part in evaluation.choices.budget.fractions.clone() {
        let setting = format!("encoder frozen, {} % of training", percent(part));
        (evaluation.progress)(&format!("detect: {setting}"));
        let [plain, published] = one(evaluation, &films, part, evaluation.subject.seed)?;
        for (metric, films, thresholds, kept) in [
            ("mAP", &plain, &COCO[..], false),
            ("AP50", &plain, &COCO[..1], false),
            ("mAP as published", &published, &PUBLISHED[..], true),
        ] {
            let images = matched(films, thresholds)?;
            let of = |films: &[usize]| {
                let images = films.iter().map(|&film| &images[film]).filter(|image| !kept || image.is_published());
                mean(average_precisions(&images.collect::<Vec<_>>()).ok()?)
            };
            let estimate = Estimate::of_statistic(films.len(), of);
            if estimate.is_none() {
                evaluation.note(format!(
                    "detect: {setting}: nothing is found as surely as published, so there is no {metric}"
                ));
            }
            figures.extend(estimate.map(|it| figure(TASK, &setting, "all labels as one", metric, it)));
        }
    }
    Ok(figures)
}

/// Detections and truth of a film.
type Film = (Vec<Detection>, Vec<Truth>);

/// Films with their detections assigned to their truths.
fn matched(films: &[Film], thresholds: &[f64]) -> Result<Vec<Image>, Error> {
    let of = |(found, truth): &Film| Image::new(found, truth, thresholds).map_err(undefined);
    films.iter().map(of).collect()
}

fn undefined(why: Undefined) -> Error {
    Error::Usage(format!("detect: {why}"))
}

/// The boxes of a film, in parts of its side.
fn boxes(dataset: &Dataset, film: usize) -> Result<Vec<yolo::Rectangle>, Error> {
    let side = dataset.size() as f32;
    let rectangle = |one: &BoundingBox| {
        let [x, y, w, h] = [one.x + one.w / 2.0, one.y + one.h / 2.0, one.w, one.h].map(|of| f64::from(of / side));
        yolo::Rectangle { x, y, w, h }
    };
    Ok(dataset.record(film)?.boxes.iter().filter(|one| one.w > 0.0 && one.h > 0.0).map(rectangle).collect())
}

/// Trains on a part of the training films; what was found on the test films, of detections as sure as [`SURE`] says.
fn one(
    evaluation: &Evaluation<'_>,
    [train, val, test]: &[Vec<usize>; 3],
    part: f64,
    seed: u64,
) -> Result<[Vec<Film>; 2], Error> {
    let (dataset, config) = (&evaluation.cohort.dataset, &evaluation.subject.config);
    let side = config.image_size;
    let chosen = fraction(train, part, seed);
    // Boxes do not move along: films are left as they are.
    let films = Imaged::new(dataset, chosen, config, BATCH, Varied::Nothing, seed)?;
    let mut learner = Learner::open(record(config, films.batch)?, &evaluation.choices.on, seed)?;
    learner.take(evaluation.subject, &[Part::Encoder])?;
    let mut feed = |engine: &mut Engine, plan: &Checked, step: usize| {
        let fed = films.feed(engine, plan, step)?;
        let boxes: Vec<Vec<yolo::Rectangle>> =
            fed.films.iter().map(|&film| boxes(dataset, film)).collect::<Result<_, _>>()?;
        for scale in 0..SCALES {
            let (target, weight) = yolo::targets(&boxes, scale, side);
            engine.write(plan, &format!("target.{scale}"), &target)?;
            engine.write(plan, &format!("weight.{scale}"), &weight)?;
        }
        Ok(())
    };
    let found = |learner: &mut Learner, of: &[usize], sure: f64| {
        let mut found = Vec::new();
        let mut take = |film: usize, numbers: &[f64]| {
            found.push(detected(dataset, film, numbers, side, sure)?);
            Ok(())
        };
        imaged::predict(learner, dataset, of, config, films.batch, &OUTPUTS, &mut take)?;
        Ok::<_, Error>(found)
    };
    let mut judge = |learner: &mut Learner| {
        let films = found(learner, val, SURE[0])?;
        let images = matched(&films, &COCO)?;
        let precisions = average_precisions(&images.iter().collect::<Vec<_>>());
        Ok(precisions.ok().and_then(mean))
    };
    let told = |look: usize, found: Option<f64>| {
        let found = found.map_or(String::new(), |found| format!(": mAP {found:.3}"));
        (evaluation.progress)(&format!("detect: {} % of training, look {look}{found}", percent(part)));
    };
    let rate = LEARNING_RATES[usize::from(films.batch == BATCH)];
    learner.fit(evaluation.choices.budget.fit(&films, rate), &mut feed, &mut judge, &told, evaluation.cancelled)?;
    Ok([found(&mut learner, test, SURE[0])?, found(&mut learner, test, SURE[1])?])
}

/// What the numbers of all scales say of a film, beside the truth.
fn detected(dataset: &Dataset, film: usize, numbers: &[f64], side: usize, sure: f64) -> Result<Film, Error> {
    let place = |of: yolo::Rectangle| {
        Rectangle::new(of.x - of.w / 2.0, of.y - of.h / 2.0, of.x + of.w / 2.0, of.y + of.h / 2.0).map_err(undefined)
    };
    let (mut found, mut rest) = (Vec::new(), numbers);
    for scale in 0..SCALES {
        let (own, behind) = rest.split_at(yolo::numbers(scale, side));
        yolo::decode(own, scale, side, sure, &mut found);
        rest = behind;
    }
    let detection = |(of, score): (yolo::Rectangle, f64)| Ok(Detection { place: place(of)?, score, class: 0 });
    let found: Vec<Detection> = found.into_iter().map(detection).collect::<Result<_, Error>>()?;
    let truth = |of: yolo::Rectangle| Ok(Truth { place: place(of)?, class: 0 });
    let truth = boxes(dataset, film)?.into_iter().map(truth).collect::<Result<_, Error>>()?;
    Ok((suppress(&found, OVERLAP).into_iter().map(|at| found[at]).collect(), truth))
}

/// The numbers of each scale.
const OUTPUTS: [&str; SCALES] = ["out.scale.0", "out.scale.1", "out.scale.2"];

fn record(config: &Config, batch: usize) -> Result<learner::Task, Error> {
    let shapes = Shapes { batch, text_len: 2, source: Source::Bytes };
    let scales = |r: &mut Recorder, statistics| -> Result<[Value; SCALES], RecordError> {
        let images = Images::declare(r, config, &shapes)?;
        let features = g2d::features(r, config, &images, statistics)?;
        r.scope("yolo", |r| yolo::head(r, config, &features, statistics))
    };
    let mut prediction = Recorder::new();
    for (name, scale) in OUTPUTS.into_iter().zip(scales(&mut prediction, Statistics::Running)?) {
        prediction.output(name, scale);
    }
    let mut training = Recorder::new();
    let r = &mut training;
    let mut sum: Option<Value> = None;
    for (scale, numbers) in scales(r, Statistics::Batch)?.into_iter().enumerate() {
        let spec = Spec::exact(r.shape(numbers));
        let target = r.input(format!("target.{scale}"), spec);
        let weight = r.input(format!("weight.{scale}"), spec);
        let loss = ElementwiseLoss::fwd(Form::Detection { channels: yolo::CHANNELS }).weighted();
        let loss = r.one(loss, &[numbers, target, weight])?;
        sum = Some(match sum {
            None => loss,
            Some(sum) => r.one(Accumulate::Add { scale: Real(1.0) }, &[sum, loss])?,
        });
    }
    let Some(loss) = sum else { unreachable!("there are three scales") };
    r.freeze(|name| Part::Encoder.prefixes().iter().any(|prefix| name.starts_with(prefix)));
    Ok(learner::Task { training, loss, prediction: prediction.finish(), weight_decay: WEIGHT_DECAY })
}
