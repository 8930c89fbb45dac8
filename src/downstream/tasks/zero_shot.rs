//! Classification by prompts: is a film closer to the sentence that says a finding is there, or to the one that says it is
//! not? (CheXzero; the paper's table 2b.)
//!
//! Score = exp(cos⁺) / (exp(cos⁺) + exp(cos⁻)), each side the renormalised mean of its sentences' embeddings. F1, accuracy
//! and MCC need a threshold: the one of best F1 on the validation films, and, as published, on the test films themselves.

use super::Task;
use crate::base::Estimate;
use crate::data::Split;
use crate::downstream::classified::{Classified, mean};
use crate::downstream::encoder::Features;
use crate::downstream::evaluation::{Evaluation, figure};
use crate::downstream::metrics::Undefined;
use crate::downstream::metrics::classification::{Confusion, best_threshold};
use crate::downstream::prompts::{self, Sides, prompts};
use crate::downstream::report::Figure;
use crate::error::Error;

const TASK: Task = Task::ZeroShot;

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let cohort = evaluation.cohort;
    super::need_classes(evaluation, TASK)?;
    let prompts = prompts(&cohort.classes, &evaluation.choices.prompts)?;
    let encoder = evaluation.encoder()?;
    let sides = prompts.iter().map(|prompts| Sides::of(prompts, |sentences| encoder.prompts(sentences)));
    let sides = sides.collect::<Result<Vec<_>, _>>()?;
    let (known, tuning) = scored(evaluation, Split::Val, &sides)?;
    let (truth, scores) = scored(evaluation, Split::Test, &sides)?;
    let tested = Classified { classes: &cohort.classes, truth: &truth, scores: &[scores] };
    let tuned = Classified { classes: &cohort.classes, truth: &known, scores: &[tuning] };
    let mut figures = tested.aucs(TASK, "prompts");
    let absent: Vec<&str> = (0..cohort.classes.len())
        .filter(|class| !known.iter().skip(*class).step_by(cohort.classes.len()).any(|&has| has))
        .map(|class| cohort.classes[class].as_str())
        .collect();
    if tuned.films() > 0 && !absent.is_empty() {
        let what = "no validation film has it, so no threshold is found there and F1, accuracy and MCC leave it out";
        evaluation.note(format!("zero-shot: {}: {what}", absent.join(", ")));
    }
    if tuned.films() > 0 {
        figures.extend(thresholded(&tested, &tuned, "threshold from val"));
    } else {
        evaluation
            .note("zero-shot: no validation films, so no honest threshold: F1, accuracy and MCC are as published");
    }
    figures.extend(thresholded(&tested, &tested, "threshold from test, as published"));
    Ok(figures)
}

/// Truth and scores [films, classes] of the labelled films of a split.
fn scored(evaluation: &mut Evaluation<'_>, split: Split, sides: &[Sides]) -> Result<(Vec<bool>, Vec<f64>), Error> {
    let (films, truth) = evaluation.cohort.labelled(split);
    if films.is_empty() {
        return Ok((truth, Vec::new()));
    }
    let features = evaluation.features(split)?;
    Ok((truth, score(&features, &films, sides)))
}

/// Scores [films, classes] of the films at these places.
fn score(features: &Features, films: &[usize], sides: &[Sides]) -> Vec<f64> {
    let width = features.embedding.len() / features.films;
    films.iter().flat_map(|&film| prompts::scores(&features.embedding[film * width..][..width], sides)).collect()
}

/// A measure of a classification.
type Measure = fn(&Confusion) -> Result<f64, Undefined>;

/// F1, accuracy and MCC of each class and their means, at the threshold that is best for F1 in `tuned`.
fn thresholded(tested: &Classified<'_>, tuned: &Classified<'_>, setting: &str) -> Vec<Figure> {
    let all = |of: &Classified<'_>| (0..of.films()).collect::<Vec<usize>>();
    let threshold = |class: usize| {
        let (scores, truth) = tuned.class(class, 0, &all(tuned));
        best_threshold(&scores, &truth).ok().map(|threshold| (class, threshold))
    };
    let thresholds: Vec<(usize, f64)> = (0..tested.classes.len()).filter_map(threshold).collect();
    let measures: [(&str, Measure); 3] =
        [("F1", Confusion::f1), ("accuracy", Confusion::accuracy), ("MCC", Confusion::mcc)];
    let mut figures = Vec::new();
    for (metric, measure) in measures {
        let of = |(class, threshold): (usize, f64), films: &[usize]| {
            let (scores, truth) = tested.class(class, 0, films);
            measure(&Confusion::at(&scores, &truth, threshold).ok()?).ok()
        };
        let every = |films: &[usize]| mean(thresholds.iter().filter_map(|&at| of(at, films)).collect());
        let estimate = Estimate::of_statistic(tested.films(), every);
        figures.extend(estimate.map(|estimate| figure(TASK, setting, "macro", metric, estimate)));
        for &at in &thresholds {
            let estimate = Estimate::of_statistic(tested.films(), |films| of(at, films));
            figures.extend(estimate.map(|estimate| figure(TASK, setting, &tested.classes[at.0], metric, estimate)));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_that_of_the_films_it_is_tuned_on() {
        let classes = ["a".to_owned(), "absent where it is tuned".to_owned()];
        // Films of two classes; the first class has its best threshold at 0.8 and at 0.4.
        let truth = [false, true, false, true, true, false, true, true];
        let tuning = [vec![0.1, 0.5, 0.7, 0.5, 0.8, 0.5, 0.9, 0.5]];
        let scores = [vec![0.1, 0.2, 0.3, 0.9, 0.4, 0.1, 0.9, 0.8]];
        let nothing: Vec<bool> = truth.iter().enumerate().map(|(at, &has)| has && at.is_multiple_of(2)).collect();
        let tuned = Classified { classes: &classes, truth: &nothing, scores: &tuning };
        let tested = Classified { classes: &classes, truth: &truth, scores: &scores };
        let value = |tuned: &Classified<'_>, class: &str, metric: &str| {
            let figures = thresholded(&tested, tuned, "setting");
            let own = figures.into_iter().find(|figure| figure.class == class && figure.metric == metric);
            own.map(|figure| figure.estimate.value)
        };
        // At 0.8 one of two is called and nothing else: precision 1, recall 1/2.
        assert_eq!(value(&tuned, "a", "F1"), Some(2.0 / 3.0));
        assert_eq!(value(&tuned, "a", "accuracy"), Some(0.75));
        assert!((value(&tuned, "a", "MCC").unwrap() - 2.0 / 12f64.sqrt()).abs() < 1e-12);
        // A class without a threshold has no figure and no part in the mean.
        assert_eq!(value(&tuned, &classes[1], "F1"), None);
        assert_eq!(value(&tuned, "macro", "F1"), Some(2.0 / 3.0));
        assert_eq!(value(&tested, "a", "F1"), Some(1.0));
        // The second class is called at 0.2 and more: all three.
        assert_eq!(value(&tested, &classes[1], "F1"), Some(1.0));
    }
}
