//! Reports for films and films for reports, among the test films that have a report (CXR-CLIP; not in the paper). Films
//! with the same report are equally right; P@k counts films that share a finding with the query (ConVIRT, GLoRIA).

use super::Task;
use crate::base::{Estimate, counted};
use crate::data::Split;
use crate::downstream::evaluation::{Evaluation, figure};
use crate::downstream::metrics::Undefined;
use crate::downstream::metrics::retrieval::{self, Cosines};
use crate::downstream::report::Figure;
use crate::error::Error;
use crate::train::validate::constant;

const TASK: Task = Task::Retrieve;
const RECALLS: [usize; 3] = [1, 5, 10];
const PRECISIONS: [usize; 2] = [5, 10];

pub(super) fn run(evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
    let cohort = evaluation.cohort;
    let films = cohort.split(Split::Test);
    let (mut places, mut reports) = (Vec::new(), Vec::new());
    for (place, &film) in films.iter().enumerate() {
        let text = cohort.dataset.record(film)?.text;
        if !text.trim().is_empty() {
            places.push(place);
            reports.push(text);
        }
    }
    if places.len() < 2 {
        let folder = cohort.dataset.folder().display();
        return Err(Error::Usage(format!(
            "{folder} has {} test films with a report; retrieval needs two",
            places.len()
        )));
    }
    let features = evaluation.features(Split::Test)?;
    let width = evaluation.encoder()?.config().projection_dim;
    let texts = evaluation.encoder()?.reports(&reports)?;
    let rows = places.iter().flat_map(|&place| &features.embedding[place * width..][..width]);
    let images: Vec<f64> = rows.map(|&number| f64::from(number)).collect();
    let texts: Vec<f64> = texts.into_iter().map(f64::from).collect();
    let found = retrieval::both_directions(&images, &texts, width, &reports).map_err(undefined)?;
    let mut figures = Vec::new();
    for (setting, ranks) in [("report of a film", &found.film_to_report), ("film of a report", &found.report_to_film)] {
        for k in RECALLS {
            let estimate = Estimate::of_mean(&retrieval::within(ranks, k));
            figures.extend(estimate.map(|it| figure(TASK, setting, "all", &format!("R@{k}"), it)));
        }
        let median = |at: &[usize]| retrieval::median(&at.iter().map(|&at| ranks[at]).collect::<Vec<_>>());
        let estimate = Estimate::of_statistic(ranks.len(), median);
        figures.extend(estimate.map(|it| figure(TASK, setting, "all", "median rank", it)));
    }
    figures.extend(precisions(evaluation, &places, &images, &texts, &reports)?);
    let [one, five] = [1, 5].map(|most| constant(&reports, most));
    let (films, reports) = (counted(places.len(), "film"), counted(found.report_to_film.len(), "distinct report"));
    evaluation.note(format!(
        "retrieve: {films}, {reports}; the best constant answer, the most frequent reports, has R@1 {one:.3} and R@5 {five:.3}"
    ));
    Ok(figures)
}

/// P@k in both directions among films whose labels are known: the part of what is found first that shares a label with the
/// query. A film's own report, in the same words, is not asked for.
fn precisions(
    evaluation: &mut Evaluation<'_>,
    places: &[usize],
    images: &[f64],
    texts: &[f64],
    reports: &[String],
) -> Result<Vec<Figure>, Error> {
    let (cohort, width) = (evaluation.cohort, evaluation.subject.config.projection_dim);
    let films = cohort.split(Split::Test);
    let known: Vec<(usize, &[bool])> = (places.iter().enumerate())
        .filter_map(|(at, &place)| Some((at, cohort.labels(films[place]).filter(|labels| !labels.is_empty())?)))
        .collect();
    let rows =
        |of: &[f64]| -> Vec<f64> { known.iter().flat_map(|(at, _)| &of[at * width..][..width]).copied().collect() };
    let (images, texts) = (rows(images), rows(texts));
    let mut figures = Vec::new();
    for (setting, queries, found) in [("report of a film", &images, &texts), ("film of a report", &texts, &images)] {
        if known.is_empty() {
            break;
        }
        let alike = Cosines::new(queries, found, width).map_err(undefined)?;
        for k in PRECISIONS {
            let asked = |a: usize, b: usize| reports[known[a].0] != reports[known[b].0];
            let right = |a: usize, b: usize| shares(known[a].1, known[b].1);
            // With too few other reports there is nothing to find.
            let Ok(precisions) = alike.precisions(k, asked, right) else {
                evaluation
                    .note(format!("retrieve: {setting}: there are fewer than {k} other reports, so there is no P@{k}"));
                continue;
            };
            let estimate = Estimate::of_mean(&precisions);
            figures.extend(estimate.map(|it| figure(TASK, setting, "a finding shared", &format!("P@{k}"), it)));
        }
    }
    Ok(figures)
}

fn undefined(why: Undefined) -> Error {
    Error::Usage(format!("retrieve: {why}"))
}

/// Whether two films have a label in common, or neither has any.
fn shares(a: &[bool], b: &[bool]) -> bool {
    let none = |labels: &[bool]| !labels.contains(&true);
    a.iter().zip(b).any(|(&a, &b)| a && b) || (none(a) && none(b))
}
