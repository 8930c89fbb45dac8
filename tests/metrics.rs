//! The metrics of the downstream tasks against the libraries that define them: `tests/oracle/metrics.py` wrote what
//! scikit-learn, scipy, pycocotools, torchvision and torch give into `tests/fixtures/metrics/`.

#![cfg(feature = "data")]

use std::fs;
use std::path::Path;

use g2d::base::Estimate;
use g2d::downstream::metrics::Undefined;
use g2d::downstream::metrics::classification::{Confusion, auc, best_threshold, top1};
use g2d::downstream::metrics::detection::{
    COCO, Detection, Image, PUBLISHED, Rectangle, Truth, average_precisions, suppress,
};
use g2d::downstream::metrics::grid::Grid;
use g2d::downstream::metrics::grounding::Grounding;
use g2d::downstream::metrics::overlap::{Overlap, all, batch_means, positives};
use g2d::downstream::metrics::retrieval::{Cosines, both_directions, median, within};
use serde_json::Value;

/// All peers compute in double precision.
const TOLERANCE: f64 = 1e-9;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metrics").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count")) as usize
}

fn counts(value: &Value) -> Vec<usize> {
    list(value).iter().map(count).collect()
}

fn bits(value: &Value) -> Vec<bool> {
    value.as_str().unwrap_or_else(|| panic!("{value} are not bits")).chars().map(|bit| bit == '1').collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether two lists have the same length and agree; written so that NaN does not.
fn agree(ours: &[f64], theirs: &[f64]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0))
}

#[track_caller]
fn hold(what: &str, ours: &[f64], theirs: &[f64]) {
    assert!(agree(ours, theirs), "{what}: {ours:?}, expected {theirs:?}");
}

/// A figure against one that may be null, which says that it has no value.
#[track_caller]
fn hold_figure(what: &str, ours: Result<f64, Undefined>, theirs: &Value) {
    match (ours, theirs) {
        (Ok(ours), theirs) if theirs.is_number() => hold(what, &[ours], &[number(theirs)]),
        (Err(_), Value::Null) => {}
        (ours, theirs) => panic!("{what}: {ours:?}, expected {theirs}"),
    }
}

#[test]
fn what_is_wrong_is_noticed() {
    assert!(agree(&[0.5, 3000.0], &[0.5 + 0.9e-9, 3000.0 + 2e-6]));
    assert!(!agree(&[0.5], &[0.5 + 2e-9]));
    assert!(!agree(&[0.5], &[0.5, 0.5]));
    assert!(!agree(&[f64::NAN], &[0.5]));
    assert!(!agree(&[0.5], &[f64::NAN]));
    assert!(!agree(&[f64::NAN], &[f64::NAN]));
    let fails = |ours, theirs: Value| std::panic::catch_unwind(|| hold_figure("", ours, &theirs)).is_err();
    assert!(fails(Ok(f64::NAN), 0.5.into()) && fails(Ok(f64::NAN), Value::Null));
    assert!(fails(Ok(0.5), Value::Null) && fails(Err(Undefined::Empty), 0.5.into()) && fails(Ok(0.4), 0.5.into()));
}

#[test]
fn one_class_against_scikit_learn() {
    let file = read("classification.json");
    for (at, case) in list(&file["binary"]).iter().enumerate() {
        let (scores, positive) = (numbers(&case["scores"]), bits(&case["positive"]));
        let counts = Confusion::at(&scores, &positive, number(&case["threshold"])).unwrap();
        let figure = |name: &str, ours| hold_figure(&format!("case {at}, {name}"), ours, &case[name]);
        figure("auc", auc(&scores, &positive));
        figure("f1", counts.f1());
        figure("accuracy", counts.accuracy());
        figure("mcc", counts.mcc());
        let best = best_threshold(&scores, &positive);
        figure("best_f1_threshold", best);
        figure("best_f1", best.and_then(|best| Confusion::at(&scores, &positive, best)?.f1()));
    }
}

/// The mean of a figure over the classes of a case with several.
fn over_classes(case: &Value, figure: impl Fn(&[f64], &[bool]) -> Result<f64, Undefined>) -> Result<f64, Undefined> {
    let (classes, scores, positive) = (count(&case["classes"]), numbers(&case["scores"]), bits(&case["positive"]));
    let class = |class: usize| {
        let scores: Vec<f64> = scores.iter().skip(class).step_by(classes).copied().collect();
        let positive: Vec<bool> = positive.iter().skip(class).step_by(classes).copied().collect();
        figure(&scores, &positive)
    };
    Ok(mean(&(0..classes).map(class).collect::<Result<Vec<f64>, _>>()?))
}

#[test]
fn several_classes_against_scikit_learn() {
    let file = read("classification.json");
    let case = &file["macro"];
    let f1 = |scores: &[f64], positive: &[bool]| Confusion::at(scores, positive, 0.5)?.f1();
    hold_figure("AUC", over_classes(case, auc), &case["macro_auc"]);
    hold_figure("F1", over_classes(case, f1), &case["macro_f1"]);
    let case = &file["top1"];
    let hits = top1(&numbers(&case["scores"]), count(&case["classes"]), &counts(&case["labels"])).unwrap();
    hold("top-1 accuracy", &[mean(&hits)], &[number(&case["accuracy"])]);
}

#[test]
fn masks_against_scikit_learn() {
    let file = read("overlap.json");
    let mut images = Vec::new();
    for case in list(&file["images"]) {
        let image = Overlap::of(&bits(&case["predicted"]), &bits(&case["truth"])).unwrap();
        hold("Dice", &[image.dice()], &[number(&case["dice"])]);
        hold("IoU", &[image.iou()], &[number(&case["iou"])]);
        images.push(image);
    }
    let batch = count(&file["batch"]);
    for (name, measure) in [("dice", Overlap::dice as fn(&Overlap) -> f64), ("iou", Overlap::iou)] {
        let (expected, values) = (&file[name], all(&images, measure));
        hold("mean", &[mean(&values)], &[number(&expected["mean"])]);
        hold("positives", &[mean(&positives(&images, measure))], &[number(&expected["positives"])]);
        hold("published", &[mean(&batch_means(&values, batch))], &[number(&expected["published"])]);
    }
}

#[test]
fn grids_against_scipy_and_torch() {
    let file = read("grid.json");
    for case in list(&file["planes"]) {
        let [size, to] = ["size", "to"].map(|name| counts(&case[name]));
        let grid = Grid::new(numbers(&case["values"]), size[0], size[1]).unwrap();
        hold("smoothed", grid.smoothed(number(&case["sigma"])).values(), &numbers(&case["smoothed"]));
        hold("bilinear", grid.bilinear(to[0], to[1]).unwrap().values(), &numbers(&case["bilinear"]));
    }
    for case in list(&file["nearest"]) {
        let [cells, pixels] = ["cells", "pixels"].map(|name| count(&case[name]));
        let numbered: Vec<f64> = (0..cells).map(|cell| cell as f64).collect();
        let row = Grid::new(numbered.clone(), 1, cells).unwrap().nearest(1, pixels).unwrap();
        let column = Grid::new(numbered, cells, 1).unwrap().nearest(pixels, 1).unwrap();
        hold(&format!("{cells} to {pixels}"), row.values(), &numbers(&case["taken"]));
        assert_eq!(row.values(), column.values());
    }
}

#[test]
fn groundings_against_scikit_learn_and_numpy() {
    for (at, case) in list(&read("grounding.json")).iter().enumerate() {
        let (heat, truth, counted) = (numbers(&case["heat"]), bits(&case["truth"]), bits(&case["counted"]));
        let map = Grounding::new(&heat, &truth, Some(&counted)).unwrap();
        let threshold = number(&case["threshold"]);
        assert_eq!(map.pointing(), case["pointing"].as_bool().unwrap(), "case {at}");
        let figure = |name: &str, ours| hold_figure(&format!("case {at}, {name}"), ours, &case[name]);
        figure("cnr", map.cnr());
        figure("iou", Ok(map.overlap(threshold).iou()));
        figure("dice", Ok(map.overlap(threshold).dice()));
        figure("recall", Ok(map.recall(threshold)));
        figure("mean_iou", Ok(map.mean_iou()));
    }
}

fn rectangle(edges: &[f64]) -> Rectangle {
    Rectangle::new(edges[0], edges[1], edges[2], edges[3]).unwrap()
}

fn detections(value: &Value) -> Vec<Detection> {
    let detection = |one: Vec<f64>| Detection { place: rectangle(&one), score: one[4], class: one[5] as usize };
    list(value).iter().map(numbers).map(detection).collect()
}

fn truths(value: &Value) -> Vec<Truth> {
    let truth = |one: Vec<f64>| Truth { place: rectangle(&one), class: one[4] as usize };
    list(value).iter().map(numbers).map(truth).collect()
}

#[test]
fn average_precision_of_boxes_against_pycocotools() {
    for (at, set) in list(&read("detection.json")["sets"]).iter().enumerate() {
        let images = |thresholds: &[f64]| -> Vec<Image> {
            let image = |one: &Value| Image::new(&detections(&one["found"]), &truths(&one["truths"]), thresholds);
            list(&set["images"]).iter().map(|one| image(one).unwrap()).collect()
        };
        let all = images(&COCO);
        let ours = average_precisions(&all.iter().collect::<Vec<_>>()).unwrap();
        hold(&format!("set {at}, COCO"), &ours, &numbers(&set["coco"]));
        let all = images(&PUBLISHED);
        let counted: Vec<&Image> = all.iter().filter(|image| image.is_published()).collect();
        hold(&format!("set {at}, published"), &average_precisions(&counted).unwrap(), &numbers(&set["published"]));
    }
}

#[test]
fn boxes_against_torchvision() {
    let file = read("detection.json");
    for (at, case) in list(&file["suppressed"]).iter().enumerate() {
        let kept = suppress(&detections(&case["found"]), number(&case["most"]));
        assert_eq!(kept, counts(&case["kept"]), "case {at}");
    }
    let boxes = |at: usize| list(&file["boxes"][at]).iter().map(|one| rectangle(&numbers(one))).collect::<Vec<_>>();
    let (left, right) = (boxes(0), boxes(1));
    let ious: Vec<f64> = left.iter().flat_map(|one| right.iter().map(|other| one.iou(other))).collect();
    hold("IoU", &ious, &numbers(&file["iou"]));
}

#[test]
fn retrieval_against_scikit_learn_and_scipy() {
    let file = read("retrieval.json");
    let reports: Vec<&str> = list(&file["reports"]).iter().map(|report| report.as_str().unwrap()).collect();
    let (images, texts) = (numbers(&file["images"]), numbers(&file["texts"]));
    let found = both_directions(&images, &texts, count(&file["dim"]), &reports).unwrap();
    assert_eq!(found.film_to_report, counts(&file["film_to_report"]));
    assert_eq!(found.report_to_film, counts(&file["report_to_film"]));
    for k in [1, 5, 10] {
        let recall = mean(&within(&found.film_to_report, k));
        hold(&format!("R@{k}"), &[recall], &[number(&file["recall"][k.to_string()])]);
    }
    hold("median rank", &[median(&found.film_to_report).unwrap()], &[number(&file["median"])]);
    let ranks: Vec<f64> = found.film_to_report.iter().map(|&rank| rank as f64).collect();
    hold("mean rank", &[mean(&ranks)], &[number(&file["mean"])]);
    for name in ["distinct", "tied"] {
        let case = &file[name];
        let [queries, candidates] = ["queries", "candidates"].map(|name| numbers(&case[name]));
        let [asked, given] = ["asked", "given"].map(|name| counts(&case[name]));
        let cosines = Cosines::new(&queries, &candidates, count(&case["dim"])).unwrap();
        let belongs = |query: usize, candidate: usize| asked[query] == given[candidate];
        assert_eq!(cosines.ranks(belongs).unwrap(), counts(&case["ranks"]), "{name}");
        for k in [1, 5, 10] {
            let ours = cosines.precisions(k, |_, _| true, belongs).unwrap();
            hold(&format!("{name}, P@{k}"), &ours, &numbers(&case["precisions"][k.to_string()]));
        }
    }
}

/// The same figure, and ends of the interval within a tenth of its width: both draw at random, and scipy drew 20000
/// times.
#[track_caller]
fn hold_interval(ours: Estimate, theirs: &Value) {
    let [value, low, high] = ["value", "low", "high"].map(|name| number(&theirs[name]));
    hold("figure", &[ours.value], &[value]);
    let near = |ours: f64, theirs: f64| (ours - theirs).abs() <= 0.1 * (high - low);
    assert!(near(ours.low, low) && near(ours.high, high), "{ours:?}, expected {low} to {high}");
}

#[test]
fn intervals_against_scipy() {
    let file = read("estimate.json");
    hold_interval(Estimate::of_mean(&numbers(&file["mean"]["values"])).unwrap(), &file["mean"]);
    let (scores, positive) = (numbers(&file["auc"]["scores"]), bits(&file["auc"]["positive"]));
    let drawn = |films: &[usize]| {
        let scores: Vec<f64> = films.iter().map(|&film| scores[film]).collect();
        let positive: Vec<bool> = films.iter().map(|&film| positive[film]).collect();
        auc(&scores, &positive).ok()
    };
    hold_interval(Estimate::of_statistic(scores.len(), drawn).unwrap(), &file["auc"]);
}
