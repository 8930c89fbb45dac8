//! Pseudo masks against true masks, on test films with a finding: what pre-training gives its decoder to learn (the paper's
//! section 3.3, figure 2 and table 5). By stage of refinement, by head of the attention pool and by threshold, each recipe on
//! the same attention maps; nothing is learned here.

use std::sync::Arc;

use super::Task;
use crate::base::{Estimate, Rng};
use crate::data::Split;
use crate::downstream::encoder::batches;
use crate::downstream::evaluation::{Evaluation, figure};
use crate::downstream::metrics::overlap::Overlap;
use crate::downstream::report::Figure;
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::model::config::{Config, MaskAggregation, MaskBody, MaskSmooth, MaskThreshold, MaskUpsample};
use crate::model::g2d;
use crate::program::Checked;
use crate::train::Engine;
use crate::train::session::Films;

const TASK: Task = Task::Masks;
/// Films at a time.
const BATCH: usize = 16;
/// Deviation of the noise under which a mask should stay where it is, of pixels in [0, 1].
const NOISE: f64 = 0.02;
const STREAM: u32 = u32::from_be_bytes(*b"mask");

/// A recipe by which maps become masks.
struct Recipe {
    setting: &'static str,
    name: String,
    config: Config,
}

/// What is measured of one film's mask.
struct Measured {
    overlap: Overlap,
    /// Part of the film within it.
    area: f64,
    /// Pieces that touch along no edge.
    pieces: f64,
    /// Dice of it and the mask of the same film with a little noise.
    stability: f64,
}

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let (subject, dataset) = (evaluation.subject, &evaluation.cohort.dataset);
    let films = films(evaluation)?;
    let recipes = recipes(&subject.config);
    let mut maker = Maker::open(evaluation, &recipes)?;
    let batches = batches(dataset, &films, &subject.config, 1)?;
    let mut found: Vec<Vec<Measured>> = recipes.iter().map(|_| Vec::new()).collect();
    for (done, part) in films.chunks(BATCH).enumerate() {
        (evaluation.progress)(&format!("masks: {} of {} films", done * BATCH, films.len()));
        let mut padded = part.to_vec();
        padded.resize(BATCH, part[0]); // what fills the last batch is not kept
        let pixels: Vec<f32> =
            batches.gather(&padded, 0)?.pixels.iter().map(|&value| f32::from(value) / 255.0).collect();
        let (plain, noisy) = (maker.masks(&pixels)?, maker.masks(&noised(&pixels, done))?);
        let truth: Vec<bool> = batches.masks(part)?.iter().map(|&value| value > 127).collect();
        let side = subject.config.image_size;
        for (found, (plain, noisy)) in found.iter_mut().zip(plain.iter().zip(&noisy)) {
            let films = truth
                .chunks_exact(side * side)
                .zip(plain.chunks_exact(side * side).zip(noisy.chunks_exact(side * side)));
            for (truth, (plain, noisy)) in films {
                found.push(measured(plain, noisy, truth, side)?);
            }
        }
    }
    Ok(recipes.iter().zip(&found).flat_map(|(recipe, found)| figures(recipe, found)).collect())
}

/// Test films with a true mask in which something is set.
fn films(evaluation: &Evaluation<'_>) -> Result<Vec<usize>, Error> {
    let dataset = &evaluation.cohort.dataset;
    let mut films = Vec::new();
    for &film in evaluation.cohort.split(Split::Test) {
        if dataset.record(film)?.mask.is_some_and(|mask| mask.iter().any(|&value| value > 127)) {
            films.push(film);
        }
    }
    if films.is_empty() {
        let what = "no film of the test split has a true mask in which anything is set; give masks when packing";
        return Err(Error::Usage(format!("masks cannot be done on {}: {what}", dataset.folder().display())));
    }
    Ok(films)
}

/// The model as far as its masks, by each recipe.
struct Maker {
    engine: Engine,
    plan: Arc<Checked>,
    recipes: usize,
}

impl Maker {
    fn open(evaluation: &Evaluation<'_>, recipes: &[Recipe]) -> Result<Self, Error> {
        let configs: Vec<Config> = recipes.iter().map(|recipe| recipe.config.clone()).collect();
        let shapes = Shapes { batch: BATCH, text_len: 2, source: Source::Numbers };
        let program = g2d::record_masks(&configs, &shapes)?.finish();
        let (engine, plans) = evaluation.subject.engine(&evaluation.choices.on, program.clone(), vec![program])?;
        Ok(Self { engine, plan: plans[0].clone(), recipes: recipes.len() })
    }

    /// The masks of films in [0, 1] [BATCH, side, side], of the same shape for each recipe.
    fn masks(&mut self, pixels: &[f32]) -> Result<Vec<Vec<bool>>, Error> {
        Films::Numbers(pixels).write(&mut self.engine, &self.plan)?;
        self.engine.replay(&self.plan)?;
        let set = |at| {
            let mask = self.engine.output(&self.plan, &format!("out.mask{at}"))?.unwrap_or_default();
            Ok(mask.iter().map(|&value| value > 0.5).collect())
        };
        (0..self.recipes).map(set).collect()
    }
}

/// The recipe of the run, and others with one thing changed.
fn recipes(own: &Config) -> Vec<Recipe> {
    let recipe = |setting, name: String, config| Recipe { setting, name, config };
    let raw = Config {
        mask_upsample: MaskUpsample::Nearest,
        mask_body: MaskBody::None,
        mask_smooth: MaskSmooth::None,
        ..own.clone()
    };
    let body = Config { mask_body: MaskBody::Threshold, ..raw.clone() };
    let smooth = Config { mask_smooth: MaskSmooth::Bilateral, ..body.clone() };
    let blended = Config { mask_upsample: MaskUpsample::Bilinear, ..smooth.clone() };
    let mut all = vec![
        recipe("as trained", "all".into(), own.clone()),
        recipe("stage", "1 map above its threshold".into(), raw),
        recipe("stage", "2 within the body".into(), body),
        recipe("stage", "3 smoothed".into(), smooth),
        recipe("stage", "4 map blended to the film's size".into(), blended),
    ];
    if own.attention_heads > 1 {
        let with = |mask_aggregation, mask_head| Config { mask_aggregation, mask_head, ..own.clone() };
        for head in 0..own.attention_heads {
            all.push(recipe("heads", format!("head {} alone", head + 1), with(MaskAggregation::Single, head)));
        }
        all.push(recipe("heads", "mean of heads".into(), with(MaskAggregation::Mean, 0)));
        all.push(recipe("heads", "maximum of heads".into(), with(MaskAggregation::Max, 0)));
        all.push(recipe("heads", "a mask each, their mean".into(), with(MaskAggregation::PerHead, 0)));
    }
    for quantile in [0.5, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98] {
        let config = Config { mask_threshold: MaskThreshold::Quantile, quantile, ..own.clone() };
        all.push(recipe("threshold", format!("quantile {quantile}"), config));
    }
    for (name, mask_threshold) in [("mean", MaskThreshold::Mean), ("two Gaussians", MaskThreshold::Gmm)] {
        all.push(recipe("threshold", name.into(), Config { mask_threshold, ..own.clone() }));
    }
    all
}

/// The same films with a little Gaussian noise, the same for the same films.
fn noised(pixels: &[f32], batch: usize) -> Vec<f32> {
    let mut rng = Rng::new(0, STREAM, batch as u64);
    pixels.iter().map(|&pixel| (pixel + (NOISE * rng.normal()) as f32).clamp(0.0, 1.0)).collect()
}

fn measured(mask: &[bool], noisy: &[bool], truth: &[bool], side: usize) -> Result<Measured, Error> {
    let overlap = |other: &[bool]| Overlap::of(mask, other).map_err(|why| Error::Usage(format!("masks: {why}")));
    let with = overlap(truth)?;
    Ok(Measured {
        area: with.predicted as f64 / mask.len() as f64,
        pieces: pieces(mask, side) as f64,
        stability: overlap(noisy)?.dice(),
        overlap: with,
    })
}

/// How many pieces a mask of rows of `width` pixels has, pixels being of one piece if they share an edge.
fn pieces(mask: &[bool], width: usize) -> usize {
    let mut seen = vec![false; mask.len()];
    let (mut count, mut waiting) = (0, Vec::new());
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        count += 1;
        seen[start] = true;
        waiting.push(start);
        while let Some(at) = waiting.pop() {
            let column = at % width;
            let beside = [
                (at >= width).then(|| at - width),
                (at + width < mask.len()).then(|| at + width),
                (column > 0).then(|| at - 1),
                (column + 1 < width).then(|| at + 1),
            ];
            for next in beside.into_iter().flatten().filter(|&next| mask[next]) {
                if !std::mem::replace(&mut seen[next], true) {
                    waiting.push(next);
                }
            }
        }
    }
    count
}

/// Means over films. `lift` is how much denser true pixels are within the mask than on the whole film: 1 is chance.
fn figures(recipe: &Recipe, found: &[Measured]) -> Vec<Figure> {
    let sums = |films: &[usize], of: fn(&Overlap) -> usize| {
        films.iter().map(|&film| of(&found[film].overlap)).sum::<usize>() as f64
    };
    let lift = |films: &[usize]| {
        let [both, predicted, truth] = [
            sums(films, |overlap| overlap.both),
            sums(films, |overlap| overlap.predicted),
            sums(films, |overlap| overlap.truth),
        ];
        // Mean area of the masks in pixels over the whole film's is the part that chance would hit.
        let area = films.iter().map(|&film| found[film].area).sum::<f64>() / films.len() as f64;
        (predicted > 0.0 && truth > 0.0).then(|| both / truth / area)
    };
    let mean = |of: fn(&Measured) -> f64| Estimate::of_mean(&found.iter().map(of).collect::<Vec<f64>>());
    [
        ("Dice", mean(|one| one.overlap.dice())),
        ("lift", Estimate::of_statistic(found.len(), lift)),
        ("recall", mean(|one| one.overlap.both as f64 / one.overlap.truth as f64)),
        ("area", mean(|one| one.area)),
        ("pieces", mean(|one| one.pieces)),
        ("stability under noise, Dice", mean(|one| one.stability)),
    ]
    .into_iter()
    .filter_map(|(metric, estimate)| Some(figure(TASK, recipe.setting, &recipe.name, metric, estimate?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_by_hand() {
        let mask = |rows: [&str; 3]| rows.concat().bytes().map(|letter| letter == b'#').collect::<Vec<bool>>();
        assert_eq!(pieces(&mask(["#.#", "#.#", "###"]), 3), 1);
        // Corners do not connect, nor does the end of a row with the start of the next.
        assert_eq!(pieces(&mask(["..#", "#..", ".#."]), 3), 3);
        assert_eq!(pieces(&mask(["...", "...", "..."]), 3), 0);
    }

    #[test]
    fn figures_by_hand() {
        // Two films of 4 pixels: one mask lies on the truth, the other beside it.
        let films = [
            measured(&[true, false, false, false], &[true, true, false, false], &[true, false, false, false], 2)
                .unwrap(),
            measured(&[false, false, true, false], &[false, false, true, false], &[true, false, false, false], 2)
                .unwrap(),
        ];
        let recipe = Recipe { setting: "as trained", name: "all".into(), config: Config::default() };
        let value = |metric: &str| {
            figures(&recipe, &films).iter().find(|figure| figure.metric == metric).unwrap().estimate.value
        };
        assert_eq!((value("Dice"), value("recall"), value("area"), value("pieces")), (0.5, 0.5, 0.25, 1.0));
        // Half of the true pixels lie in masks that cover a quarter.
        assert_eq!(value("lift"), 2.0);
        assert!((value("stability under noise, Dice") - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn one_head_is_not_taken_apart() {
        let settings = |heads| {
            let config = Config { attention_heads: heads, ..Config::default() };
            recipes(&config).iter().filter(|recipe| recipe.setting == "heads").count()
        };
        assert_eq!((settings(1), settings(3)), (0, 6));
    }
}
