//! Which charts a run has.

use std::fmt::Write;

use super::chart::{Point, Series, Style, exact, svg, trend};
use super::markup::{escape, number};
use super::metrics::Table;

/// A chart as it is asked for.
pub struct Chart {
    /// Its name.
    pub title: &'static str,
    /// What has to be known to read it.
    note: &'static str,
    /// What is drawn; a series may have no points.
    pub series: Vec<Series>,
    /// Upright, powers of ten are equally far apart, if all numbers have one.
    pub logarithmic: bool,
}

/// Steps of a run as a trend.
fn steps(table: &Table, name: &str, key: &str, colour: usize) -> Series {
    Series { name: name.into(), colour, style: Style::Trend, points: trend(table.of(key)) }
}

/// Estimates of validations, with their intervals.
fn estimates(table: &Table, name: &str, key: &str, colour: usize) -> Series {
    let key = format!("validation.{key}");
    let [low, high] = ["low", "high"].map(|end| table.of(&format!("{key}.{end}")));
    let end = |ends: &[(u64, f64)], at: usize, value| ends.get(at).map_or(value, |&(_, end)| end);
    let values = table.of(&format!("{key}.value")).iter().enumerate();
    let point = |(at, &(step, value)): (usize, &(u64, f64))| Point {
        step: step as f64,
        value,
        low: end(low, at, value),
        high: end(high, at, value),
    };
    Series { name: name.into(), colour, style: Style::Marks, points: values.map(point).collect() }
}

/// Numbers of validations that have no interval.
fn validated(table: &Table, name: &str, key: &str, colour: usize, style: Style) -> Series {
    Series { name: name.into(), colour, style, points: exact(table.of(&format!("validation.{key}"))) }
}

/// All charts for which there are numbers.
pub fn all(table: &Table) -> Vec<Chart> {
    let known = |series: &Series| series.style != Style::Level && !series.points.is_empty();
    every(table).into_iter().filter(|chart| chart.series.iter().any(known)).collect()
}

fn every(table: &Table) -> Vec<Chart> {
    let chart = |title, note, series| Chart { title, note, series, logarithmic: false };
    let part = |title, key: &str| {
        let series = vec![
            steps(table, "training", &format!("loss.{key}"), 1),
            validated(table, "held-out", &format!("loss.{key}"), 2, Style::Marks),
        ];
        chart(title, "", series)
    };
    vec![
        part("Loss", "total"),
        part("Contrastive loss", "contrastive"),
        part("Decoder\u{2019}s loss", "segmentation"),
        chart(
            "Retrieval, held-out films",
            "Part of the films whose own report is the most similar, or among the five most similar, of all reports; constant: found by the same \
             answer for every film, the most frequent reports.",
            vec![
                estimates(table, "top-1", "top1", 1),
                estimates(table, "top-5", "top5", 2),
                validated(table, "constant, top-1", "constant1", 0, Style::Level),
                validated(table, "constant, top-5", "constant5", 0, Style::Level),
            ],
        ),
        chart(
            "Retrieval within the batch",
            "The same in training, among the reports of the batch.",
            vec![steps(table, "top-1", "top1", 1), steps(table, "top-5", "top5", 2)],
        ),
        chart(
            "Masks, held-out films",
            "Dice with the true mask, over films that have one.",
            vec![
                estimates(table, "predicted", "dice", 2),
                estimates(table, "pseudo mask", "pseudo_dice", 1),
                validated(table, "best central square", "central_dice.value", 0, Style::Level),
            ],
        ),
        chart(
            "Pseudo mask",
            "Area: its mean over a film. Stability: intersection over union with the same film\u{2019}s last mask, from its second turn on.",
            vec![steps(table, "area", "mask.area", 1), steps(table, "stability", "mask.iou_previous", 3)],
        ),
        chart("Learning rate", "", vec![steps(table, "learning rate", "lr", 1)]),
        chart("Throughput", "", vec![steps(table, "pairs per second", "samples_per_s", 1)]),
        Chart { logarithmic: true, ..chart("Gradient", "", vec![steps(table, "length", "grad_norm", 1)]) },
        chart(
            "Interference of the losses",
            "Of both losses\u{2019} gradients by the image encoder; below 0 they work against each other.",
            vec![
                steps(table, "cosine", "interference.cosine", 1),
                steps(table, "ratio of lengths", "interference.norm_ratio", 2),
            ],
        ),
    ]
}

/// The same as figures.
pub fn figures(table: &Table) -> String {
    let mut html = String::new();
    for chart in all(table) {
        let Some(svg) = svg(chart.title, &chart.series, table.last, chart.logarithmic) else { continue };
        let _ = write!(html, "<figure><figcaption><h3>{}</h3><ul class=\"legend\">", escape(chart.title));
        for series in chart.series.iter().filter(|series| !series.points.is_empty()) {
            let class = if series.style == Style::Level { "dashed" } else { "solid" };
            let (name, colour) = (escape(&series.name), series.colour);
            let last = series.points.last().map_or_else(String::new, |point| number(point.value));
            let _ = write!(html, r#"<li><i class="{class} c{colour}"></i>{name} <b>{last}</b></li>"#);
        }
        let _ = write!(html, "</ul></figcaption>{svg}");
        if !chart.note.is_empty() {
            let _ = write!(html, "<p>{}</p>", escape(chart.note));
        }
        html.push_str("</figure>\n");
    }
    html
}
