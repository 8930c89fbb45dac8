//! What a model has learned, on films it has not seen: retrieval of reports and overlap of predicted masks.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::gallery::{Gallery, Shown};
use super::session::{Evaluation, Films, Session};
use crate::base::Estimate;
use crate::data::Dataset;
use crate::data::loader::Batches;
use crate::error::Error;
use crate::model::batch::TextBatch;

/// A validation. Retrieval is from each film to the distinct reports of all films; the same words are the same
/// report, so identical reports count as hits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Films with a report.
    pub films: usize,
    /// Distinct reports among them.
    pub reports: usize,
    /// Part of the films whose report is the most similar one.
    pub top1: Estimate,
    /// Part whose report is among the five most similar.
    pub top5: Estimate,
    /// What `top1` would be by chance.
    pub chance1: f64,
    /// What `top5` would be by chance.
    pub chance5: f64,
    /// What `top1` would be with the same answer for every film, the most frequent report. Runs from before have 0.
    #[serde(default)]
    pub constant1: f64,
    /// What `top5` would be with the same answer, the five most frequent reports.
    #[serde(default)]
    pub constant5: f64,
    /// Dice of the predicted mask (probability above one half) with the true one, over films with findings; `None` without a
    /// decoder that learns masks.
    pub dice: Option<Estimate>,
    /// The same for the pseudo mask.
    pub pseudo_dice: Option<Estimate>,
    /// The same for the best of the constant central squares: what a mask that looks at no film reaches.
    pub central_dice: Option<Estimate>,
    /// The losses; `None` if there are fewer films than a batch holds. Runs from before have none.
    #[serde(default)]
    pub loss: Option<Losses>,
}

/// Losses of held-out films, by running statistics and without augmentation: means over whole batches, of as many films as in
/// training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// What the next step would differentiate.
    pub total: f64,
    /// Image and report.
    pub contrastive: f64,
    /// The decoder's; `None` without a decoder.
    pub segmentation: Option<f64>,
    /// Batches.
    pub batches: usize,
}

impl Losses {
    /// The mean over batches, each with its contrastive and the decoder's loss; `None` of none, or if one is not finite.
    fn of(batches: &[(f64, Option<f64>)], weight: f64) -> Option<Self> {
        let count = batches.len() as f64;
        let contrastive = batches.iter().map(|batch| batch.0).sum::<f64>() / count;
        let segmentation = batches.iter().map(|batch| batch.1).sum::<Option<f64>>().map(|sum| sum / count);
        let total = contrastive + segmentation.map_or(0.0, |loss| weight * loss);
        // A loss that is not finite counts nowhere, not even with weight 0.
        let finite = [contrastive].into_iter().chain(segmentation).all(f64::is_finite);
        finite.then_some(Self { total, contrastive, segmentation, batches: batches.len() })
    }
}

/// What the films of a validation gave, gathered over batches.
#[derive(Default)]
struct Gathered {
    images: Vec<f64>,
    texts: Vec<f64>,
    dice: Vec<f64>,
    pseudo: Vec<f64>,
    central: Vec<Vec<f64>>,
    losses: Vec<(f64, Option<f64>)>,
}

impl Gathered {
    /// Adds how the masks of film `at` of a batch overlap with the true one.
    fn masks(&mut self, out: &Evaluation, at: usize, truth: &[bool]) {
        let first = at * truth.len();
        if !out.logits.is_empty() {
            self.dice.push(dice(truth, |pixel| out.logits[first + pixel] > 0.0));
        }
        self.pseudo.push(dice(truth, |pixel| out.mask[first + pixel] > 0.5));
    }
}

/// Validates on the films `samples` of `dataset`, which all have reports, and shows those of them that are in `shown`.
/// `batches` draws from the same data set, without augmentation.
pub fn validate(
    session: &mut Session,
    dataset: &Dataset,
    batches: &Batches,
    samples: &[usize],
    shown: &[usize],
) -> Result<(Validation, Gallery), Error> {
    let (batch, side) = (session.options().batch, session.options().config.image_size);
    let dim = session.options().config.projection_dim;
    let mut gallery = Gallery { side, cells: side / 32, films: Vec::new() };
    let mut found = Gathered { central: vec![Vec::new(); CENTRAL_SIDES.len()], ..Gathered::default() };
    let squares =
        CENTRAL_SIDES.map(|part| (0..side * side).map(|at| is_central(at, side, part)).collect::<Vec<bool>>());
    for part in samples.chunks(batch) {
        let mut padded = part.to_vec();
        padded.resize(batch, part[0]); // what fills the last batch is not counted
        let films = batches.gather(&padded, 0)?;
        let config = session.options().config.clone();
        let text = TextBatch::pack(&films.tokens, &films.lengths, session.options().text_length, &config)?;
        let out = session.evaluate(Films::Bytes(&films.pixels, &films.augmentation), &text)?;
        found.images.extend(&out.image_embedding[..part.len() * dim]);
        found.texts.extend(&out.text_embedding[..part.len() * dim]);
        if part.len() == batch {
            found.losses.push((out.contrastive, out.segmentation));
        }
        for (at, &sample) in part.iter().enumerate() {
            let truth = true_mask(dataset, sample, side)?;
            if let Some(truth) = &truth {
                found.masks(&out, at, truth);
                for (central, square) in found.central.iter_mut().zip(&squares) {
                    central.push(dice(truth, |pixel| square[pixel]));
                }
            }
            if shown.contains(&sample) {
                let (record, place) = (dataset.record(sample)?, [at, side, gallery.cells]);
                gallery.films.push(Shown::of(&record, truth, &films.pixels, &out, place));
            }
        }
    }
    let texts = samples.iter().map(|&sample| Ok(dataset.record(sample)?.text)).collect::<Result<Vec<_>, Error>>()?;
    let (reports, top1, top5) = retrieval(&found.images, &found.texts, &texts, dim);
    let central = found.central.iter().filter_map(|values| Estimate::of_mean(values));
    let nothing = Estimate { value: 0.0, low: 0.0, high: 0.0, n: 0 };
    let validation = Validation {
        films: samples.len(),
        reports,
        top1: Estimate::of_mean(&top1).unwrap_or(nothing),
        top5: Estimate::of_mean(&top5).unwrap_or(nothing),
        chance1: 1.0 / reports.max(1) as f64,
        chance5: (5.0 / reports.max(1) as f64).min(1.0),
        constant1: constant(&texts, 1),
        constant5: constant(&texts, 5),
        dice: Estimate::of_mean(&found.dice),
        pseudo_dice: Estimate::of_mean(&found.pseudo),
        central_dice: central.max_by(|a, b| a.value.total_cmp(&b.value)),
        loss: Losses::of(&found.losses, session.decoder_weight()),
    };
    Ok((validation, gallery))
}

/// Sides of the central squares that a constant mask may have, as parts of the film's.
const CENTRAL_SIDES: [f64; 8] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0];

fn is_central(pixel: usize, side: usize, part: f64) -> bool {
    let inside = |at: usize| ((at as f64 + 0.5) / side as f64 - 0.5).abs() <= part / 2.0;
    inside(pixel / side) && inside(pixel % side)
}

/// The film's true mask at `side` pixels, if it has one that is not empty.
fn true_mask(dataset: &Dataset, sample: usize, side: usize) -> Result<Option<Vec<bool>>, Error> {
    let record = dataset.record(sample)?;
    let size = dataset.size();
    let Some(mask) = record.mask else { return Ok(None) };
    let at = |pixel: usize| {
        let (y, x) = (pixel / side * size / side + size / side / 2, pixel % side * size / side + size / side / 2);
        mask[y.min(size - 1) * size + x.min(size - 1)] > 127
    };
    let truth: Vec<bool> = (0..side * side).map(at).collect();
    Ok(truth.contains(&true).then_some(truth))
}

fn dice(truth: &[bool], predicted: impl Fn(usize) -> bool) -> f64 {
    let (mut both, mut sum) = (0usize, 0usize);
    for (pixel, &truth) in truth.iter().enumerate() {
        let predicted = predicted(pixel);
        both += usize::from(truth && predicted);
        sum += usize::from(truth) + usize::from(predicted);
    }
    if sum == 0 { 1.0 } else { 2.0 * both as f64 / sum as f64 }
}

/// Part of the films, each with the words of its report, whose report is one of the `most` most frequent: what is found by the same
/// answer for every film.
pub fn constant(words: &[String], most: usize) -> f64 {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    words.iter().for_each(|words| *counts.entry(words).or_default() += 1);
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable_by_key(|&count| Reverse(count));
    counts.iter().take(most).sum::<usize>() as f64 / words.len().max(1) as f64
}

/// How many distinct reports there are, and for each film whether its own is among the 1 and 5 most similar.
fn retrieval(images: &[f64], texts: &[f64], words: &[String], dim: usize) -> (usize, Vec<f64>, Vec<f64>) {
    let mut number: HashMap<&str, usize> = HashMap::new();
    let (mut first, mut own) = (Vec::new(), Vec::new());
    for (film, words) in words.iter().enumerate() {
        let next = number.len();
        let report = *number.entry(words).or_insert(next);
        if report == next {
            first.push(film);
        }
        own.push(report);
    }
    let unit = |rows: &[f64], at: usize| -> Vec<f64> {
        let row = &rows[at * dim..(at + 1) * dim];
        let length = row.iter().map(|number| number * number).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|number| number / length).collect()
    };
    let reports: Vec<Vec<f64>> = first.iter().map(|&film| unit(texts, film)).collect();
    let rank = |film: usize| {
        let image = unit(images, film);
        let likeness = |report: &Vec<f64>| report.iter().zip(&image).map(|(report, image)| report * image).sum::<f64>();
        let mine = likeness(&reports[own[film]]);
        reports.iter().filter(|report| likeness(report) > mine).count()
    };
    let ranks: Vec<usize> = (0..words.len()).map(rank).collect();
    let within = |most: usize| ranks.iter().map(|&rank| f64::from(u8::from(rank < most))).collect();
    (reports.len(), within(1), within(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_reports_count_as_hits() {
        let words: Vec<String> = ["a", "b", "a"].map(String::from).into();
        let images = [1.0, 0.0, 0.0, 1.0, 1.0, 0.1];
        let (reports, top1, _) = retrieval(&images, &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], &words, 2);
        assert_eq!((reports, top1), (2, vec![1.0, 1.0, 1.0]));
        assert_eq!([0, 1, 2, 5].map(|most| constant(&words, most)), [0.0, 2.0 / 3.0, 1.0, 1.0]);
        assert_eq!(constant(&[], 1), 0.0);
        let (_, swapped, top5) = retrieval(&images, &[0.0, 1.0, 1.0, 0.0, 0.0, 1.0], &words, 2);
        assert_eq!(swapped, [0.0; 3]);
        assert_eq!(top5, [1.0; 3]);
    }

    #[test]
    fn losses_are_means_that_are_finite() {
        let both = Losses::of(&[(1.0, Some(4.0)), (3.0, Some(2.0))], 0.5).unwrap();
        assert_eq!(both, Losses { total: 3.5, contrastive: 2.0, segmentation: Some(3.0), batches: 2 });
        assert_eq!(Losses::of(&[(1.0, None)], 1.0).unwrap().total, 1.0);
        assert_eq!(Losses::of(&[], 1.0), None);
        assert_eq!(Losses::of(&[(1.0, Some(f64::NAN))], 0.0), None);
    }

    #[test]
    fn dice_by_hand() {
        let truth = [true, true, false, false];
        assert_eq!(dice(&truth, |pixel| pixel == 0), 2.0 / 3.0);
        assert_eq!(dice(&truth, |_| false), 0.0);
        assert_eq!(dice(&truth, |pixel| pixel < 2), 1.0);
    }
}
