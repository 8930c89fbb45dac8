//! Phrase grounding: where on a film is what a sentence says? The cosine of each projected cell with the sentence, on test
//! films whose boxes say where it is (the paper's table 2a; MS-CXR's measures).
//!
//! Ways to a map: the projected cells' cosines, blended to the film's size (the paper); the same, smoothed by a Gaussian of 1.5
//! cells and not blended (BioViL); and, ours, blended cosines of what the pool would make of each cell alone, which is what the
//! contrastive loss compares with texts ([`values`](crate::downstream)). The first and the last also with what a phrase has beyond
//! the mean of all phrases: what they share can be nearer to the background than to any finding (CLIP Surgery, Li and others
//! 2023).

use super::Task;
use crate::base::Estimate;
use crate::data::{Dataset, Split};
use crate::downstream::encoder::{Features, normalise};
use crate::downstream::evaluation::{Evaluation, figure};
use crate::downstream::metrics::Undefined;
use crate::downstream::metrics::grid::Grid;
use crate::downstream::metrics::grounding::{Grounding, THRESHOLDS};
use crate::downstream::prompts::prompts;
use crate::downstream::report::Figure;
use crate::error::Error;
use crate::model::config::Config;

const TASK: Task = Task::Ground;
/// Deviation of the Gaussian that smooths a grid, in cells (BioViL).
const SIGMA: f64 = 1.5;
/// Thresholds that are tried.
const TRIED: usize = 20;

/// A film, the class that is looked for, and the pixels in which it is.
struct Asked {
    place: usize,
    class: usize,
    truth: Vec<bool>,
}

/// The films of a split that something is asked of, and what.
struct Shown {
    features: Features,
    asked: Vec<Asked>,
}

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let cohort = evaluation.cohort;
    let (val, test) = (shown(evaluation, Split::Val)?, shown(evaluation, Split::Test)?);
    if test.asked.is_empty() {
        let folder = cohort.dataset.folder().display();
        let what = "no film of the test split has a box labelled with one of its findings; give boxes when packing";
        return Err(Error::Usage(format!("ground cannot be done on {folder}: {what}")));
    }
    let sentences = prompts(&cohort.classes, &evaluation.choices.prompts)?;
    let width = evaluation.subject.config.projection_dim;
    let mut phrases = Vec::new();
    for sides in &sentences {
        let rows = evaluation.encoder()?.prompts(&sides.positive)?;
        let mut sum: Vec<f32> = (0..width).map(|at| rows.iter().skip(at).step_by(width).sum()).collect();
        normalise(&mut sum, width);
        phrases.push(sum);
    }
    if val.asked.is_empty() {
        let what = "no validation film has a box labelled with one of its findings, so no honest threshold";
        evaluation.note(format!("ground: {what}: Dice, IoU and recall are as published"));
    }
    let mut figures = Vec::new();
    for way in ways(&phrases) {
        let config = &evaluation.subject.config;
        let (tuning, tested) = (maps(config, &way, &val)?, maps(config, &way, &test)?);
        figures.extend(free(way.name, &cohort.classes, &test.asked, &tested));
        for threshold in THRESHOLDS {
            figures.extend(thresholded(way.name, &format!("above {threshold}"), &tested, threshold));
        }
        let from_val = (!val.asked.is_empty()).then(|| best(&tuning));
        for (from, threshold) in [("val", from_val), ("test, as published", Some(best(&tested)))] {
            if let Some(threshold) = threshold {
                figures.extend(thresholded(&format!("{}, threshold from {from}", way.name), "all", &tested, threshold));
            }
        }
    }
    Ok(figures)
}

/// How a map is made.
struct Way {
    name: &'static str,
    /// By a Gaussian, and then not blended.
    smooth: bool,
    /// Of what the pool would make of each cell alone.
    pooled: bool,
    /// Of each class what its map is the cosine with [projection_dim].
    phrases: Vec<Vec<f32>>,
}

/// All ways, for phrases of length 1.
fn ways(phrases: &[Vec<f32>]) -> Vec<Way> {
    let way = |name, smooth, pooled, phrases: &[Vec<f32>]| Way { name, smooth, pooled, phrases: phrases.to_vec() };
    let mut all = vec![
        way("projected cells", false, false, phrases),
        way("projected cells, smoothed (BioViL)", true, false, phrases),
        way("cells through the pool (ours)", false, true, phrases),
    ];
    // One phrase shares all it has.
    if phrases.len() > 1 {
        let mean = |at: usize| phrases.iter().map(|phrase| phrase[at]).sum::<f32>() / phrases.len() as f32;
        let apart = |phrase: &Vec<f32>| phrase.iter().enumerate().map(|(at, own)| own - mean(at)).collect();
        let apart: Vec<Vec<f32>> = phrases.iter().map(apart).collect();
        all.push(way("projected cells, what phrases share left out (ours)", false, false, &apart));
        all.push(way("cells through the pool, what phrases share left out (ours)", false, true, &apart));
    }
    all
}

/// The maps of what is asked for, laid on where it is.
fn maps(config: &Config, way: &Way, shown: &Shown) -> Result<Vec<Grounding>, Error> {
    let (side, width) = (config.image_size, config.projection_dim);
    let cells = side / 32;
    let map = |asked: &Asked| {
        let cells_of = if way.pooled { &shown.features.pooled_cells } else { &shown.features.cells };
        let mut rows = cells_of[asked.place * cells * cells * width..][..cells * cells * width].to_vec();
        normalise(&mut rows, width);
        let phrase = &way.phrases[asked.class];
        let dot = |row: &[f32]| f64::from(row.iter().zip(phrase).map(|(a, b)| a * b).sum::<f32>());
        let grid: Vec<f64> = rows.chunks_exact(width).map(dot).collect();
        let heat = warm(grid, cells, side, way.smooth);
        let undefined = |why: Undefined| Error::Usage(format!("ground: {why}"));
        heat.and_then(|heat| Grounding::new(heat.values(), &asked.truth, None)).map_err(undefined)
    };
    shown.asked.iter().map(map).collect()
}

/// Every film of a split with every class that a box of it is labelled with. Only of these are cells kept, which take much memory.
fn shown(evaluation: &mut Evaluation<'_>, split: Split) -> Result<Shown, Error> {
    let (cohort, progress, side) = (evaluation.cohort, evaluation.progress, evaluation.subject.config.image_size);
    let (mut films, mut asked) = (Vec::new(), Vec::new());
    for &film in cohort.split(split) {
        let before = asked.len();
        for class in 0..cohort.classes.len() {
            let truth = boxed(&cohort.dataset, film, &cohort.classes[class], side)?;
            asked.extend(truth.map(|truth| Asked { place: films.len(), class, truth }));
        }
        if asked.len() > before {
            films.push(film);
        }
    }
    let told = |done| progress(&format!("ground: cells of {}: {done} of {} films", split.name(), films.len()));
    let features = evaluation.encoder()?.films(&cohort.dataset, &films, true, &told)?;
    Ok(Shown { features, asked })
}

/// The pixels, of a film of `side` pixels, within a box with this label; `None` if there is no such box.
fn boxed(dataset: &Dataset, film: usize, label: &str, side: usize) -> Result<Option<Vec<bool>>, Error> {
    let record = dataset.record(film)?;
    let scale = side as f64 / dataset.size() as f64;
    let mut truth = vec![false; side * side];
    for one in record.boxes.iter().filter(|one| one.label == label) {
        let pixel = |place: f32| (f64::from(place) * scale).round().clamp(0.0, side as f64) as usize;
        let (left, right) = (pixel(one.x), pixel(one.x + one.w));
        for row in pixel(one.y)..pixel(one.y + one.h) {
            truth[row * side..][left.min(right)..right].fill(true);
        }
    }
    Ok(truth.contains(&true).then_some(truth))
}

/// A grid at the film's size: blended between cells, or smoothed and taken as squares.
fn warm(grid: Vec<f64>, cells: usize, side: usize, smooth: bool) -> Result<Grid, Undefined> {
    let grid = Grid::new(grid, cells, cells)?;
    if smooth { grid.smoothed(SIGMA).nearest(side, side) } else { grid.bilinear(side, side) }
}

/// A measure of a map.
type Measure<'a, T> = &'a dyn Fn(&Grounding) -> T;

/// What needs no threshold, and the mean over thresholds: of all that was asked, and of each class.
fn free(way: &str, classes: &[String], asked: &[Asked], maps: &[Grounding]) -> Vec<Figure> {
    let measures: [(&str, Measure<Option<f64>>); 3] = [
        ("pointing game", &|map| Some(f64::from(u8::from(map.pointing())))),
        ("CNR", &|map| map.cnr().ok()),
        ("mIoU", &|map| Some(map.mean_iou())),
    ];
    let mut figures = Vec::new();
    for (metric, measure) in measures {
        let values: Vec<Option<f64>> = maps.iter().map(measure).collect();
        let of = |class: Option<usize>| {
            let values = asked.iter().zip(&values).filter(|(asked, _)| class.is_none_or(|class| asked.class == class));
            Estimate::of_mean(&values.filter_map(|(_, &value)| value).collect::<Vec<_>>())
        };
        figures.extend(of(None).map(|it| figure(TASK, way, "all", metric, it)));
        for (class, name) in classes.iter().enumerate() {
            figures.extend(of(Some(class)).map(|it| figure(TASK, way, name, metric, it)));
        }
    }
    figures
}

/// The threshold, on maps from 0 to 1, of the best mean Dice.
fn best(maps: &[Grounding]) -> f64 {
    let normalised: Vec<Grounding> = maps.iter().map(Grounding::normalised).collect();
    let dice = |threshold: f64| normalised.iter().map(|map| map.overlap(threshold).dice()).sum::<f64>();
    let tried = (1..TRIED).map(|at| at as f64 / TRIED as f64).map(|threshold| (threshold, dice(threshold)));
    tried.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.5, |(threshold, _)| threshold)
}

/// Dice, IoU and recall of what is warmer than a threshold.
fn thresholded(setting: &str, class: &str, maps: &[Grounding], threshold: f64) -> Vec<Figure> {
    let normalised: Vec<Grounding> = maps.iter().map(Grounding::normalised).collect();
    let measures: [(&str, Measure<f64>); 3] = [
        ("Dice", &|map| map.overlap(threshold).dice()),
        ("IoU", &|map| map.overlap(threshold).iou()),
        ("recall", &|map| map.recall(threshold)),
    ];
    let of = |(metric, measure): (&str, Measure<f64>)| {
        let values: Vec<f64> = normalised.iter().map(measure).collect();
        Estimate::of_mean(&values).map(|it| figure(TASK, setting, class, metric, it))
    };
    measures.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of four pixels whose last two are the region.
    fn map(heat: [f64; 4]) -> Grounding {
        Grounding::new(&heat, &[false, false, true, true], None).unwrap()
    }

    #[test]
    fn the_threshold_is_that_of_the_films_it_is_found_on() {
        // Just above 0.7 what is warmer is the region; of two such maps only what holds for both.
        let (tuning, tested) = ([map([0.0, 0.7, 0.78, 1.0])], [map([0.0, 0.1, 0.3, 1.0])]);
        assert_eq!((best(&tuning), best(&tested)), (0.75, 0.25));
        assert_eq!(best(&[map([0.0, 0.7, 0.78, 1.0]), map([5.0, 6.0, 12.2, 15.0])]), 0.7);
        let value = |threshold: f64| {
            let figures = thresholded("way", "all", &tested, threshold);
            figures.iter().map(|figure| (figure.metric.clone(), figure.estimate.value)).collect::<Vec<_>>()
        };
        let [dice, iou, recall] = ["Dice", "IoU", "recall"].map(str::to_owned);
        assert_eq!(value(best(&tested)), [(dice.clone(), 1.0), (iou.clone(), 1.0), (recall.clone(), 1.0)]);
        assert_eq!(value(best(&tuning)), [(dice, 2.0 / 3.0), (iou, 0.5), (recall, 0.5)]);
    }
}
