//! A frame of a run, of any size: how far it is, the last validation, and as many charts as fit.

use std::convert::Infallible;
use std::time::Duration;

use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style as Look, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart as Drawn, Dataset, Gauge, GraphType};
use ratatui::{Frame, Terminal};

use crate::base::counted;
use crate::report::Table;
use crate::report::chart::{Axes, Series, Style, part};
use crate::report::charts::{self, Chart};
use crate::report::markup::number;
use crate::train::run::Manifest;

/// A run as it was looked at.
pub struct Seen<'a> {
    /// Its folder.
    pub name: String,
    /// Pairs a step.
    pub batch: usize,
    /// What it is.
    pub manifest: Manifest,
    /// The step after which it stops.
    pub stop: u64,
    /// A process is writing it.
    pub writing: bool,
    /// How long ago its last line was written.
    pub age: Option<Duration>,
    /// Its numbers.
    pub table: &'a Table,
}

/// Least width and height of a chart of which something can be read.
const WIDTH: u16 = 38;
const HEIGHT: u16 = 7;
/// Width of a frame that is printed.
const PRINTED: u16 = 80;
/// Lines above the charts.
const HEAD: u16 = 3;
/// Steps whose speed tells when it ends.
const RECENT: usize = 50;

/// Draws the run; `page` counts in both directions, round and round.
pub fn draw(frame: &mut Frame<'_>, seen: &Seen<'_>, page: isize) {
    let [whole, foot] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    if let Some((at, count)) = draw_run(frame, whole, seen, page) {
        let others = if count > 1 { " \u{b7} tab, arrows: others" } else { "" };
        let keys = format!("charts {at} of {count}{others} \u{b7} q: end");
        frame.render_widget(Line::from(keys).dim(), foot);
    }
}

/// All but the keys. Which page it shows, from 1, of how many; none where there is no chart yet.
fn draw_run(frame: &mut Frame<'_>, area: Rect, seen: &Seen<'_>, page: isize) -> Option<(usize, usize)> {
    let one = Constraint::Length(1);
    let [title, progress, validated, middle] = Layout::vertical([one, one, one, Constraint::Fill(1)]).areas(area);
    frame.render_widget(self::title(seen), title);
    frame.render_widget(self::progress(seen), progress);
    frame.render_widget(validation(seen.table), validated);
    let charts = charts::all(seen.table);
    let [columns, rows] = [middle.width / WIDTH, middle.height / HEIGHT].map(|fit| usize::from(fit.max(1)));
    let pages: Vec<&[Chart]> = charts.chunks(columns * rows).collect();
    if pages.is_empty() {
        frame.render_widget("no step has been taken yet", middle);
        return None;
    }
    let at = page.rem_euclid(pages.len() as isize) as usize;
    for (row, charts) in pages[at].chunks(columns).enumerate() {
        let line = cut(middle, row, pages[at].len().div_ceil(columns), Layout::vertical);
        for (column, chart) in charts.iter().enumerate() {
            draw_chart(frame, cut(line, column, columns, Layout::horizontal), chart, seen.table.last);
        }
    }
    Some((at + 1, pages.len()))
}

/// One of `count` equal parts of an area.
fn cut(area: Rect, at: usize, count: usize, layout: fn(Vec<Constraint>) -> Layout) -> Rect {
    layout(vec![Constraint::Fill(1); count]).split(area)[at]
}

/// All charts in one frame, as text.
pub fn text(seen: &Seen<'_>) -> String {
    let rows = charts::all(seen.table).len().div_ceil(usize::from(PRINTED / WIDTH)) as u16;
    let height = HEAD + if rows > 0 { rows * (HEIGHT + 2) } else { 1 };
    drawn([PRINTED, height], |frame| {
        let area = frame.area();
        draw_run(frame, area, seen, 0);
    })
}

/// What is drawn in a frame of this width and height, as text.
fn drawn([width, height]: [u16; 2], draw: impl FnOnce(&mut Frame<'_>)) -> String {
    let Ok(mut terminal): Result<_, Infallible> = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(draw);
    let cells = terminal.backend().buffer().content();
    let line = |row: &[Cell]| row.iter().map(Cell::symbol).collect::<String>();
    cells.chunks(usize::from(width)).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

fn title(seen: &Seen<'_>) -> Line<'static> {
    let Manifest { preset, recipe, .. } = &seen.manifest;
    let state = match seen.writing {
        true => "\u{25cf} training".green().bold(),
        false if seen.table.last >= seen.stop => "\u{25cf} finished".cyan().bold(),
        false => "\u{25cb} not running".yellow().bold(),
    };
    let device = seen.manifest.last_device();
    let about = format!(" \u{b7} preset {preset} \u{b7} recipe {recipe} \u{b7} {device}");
    Line::from(vec![state, "  ".into(), Span::from(seen.name.clone()).bold(), about.into()])
}

/// How far it is, and how long it takes from here.
fn progress(seen: &Seen<'_>) -> Gauge<'static> {
    let (last, stop) = (seen.table.last, seen.stop);
    let part = (last as f64 / stop.max(1) as f64).clamp(0.0, 1.0);
    let mut label = format!("step {last} of {stop}, {:.0} %", 100.0 * part);
    let left = stop.saturating_sub(last) as f64 * seconds_a_step(seen).unwrap_or(f64::NAN);
    if seen.writing && left > 0.0 {
        label += &format!(", {} left", duration(left));
    }
    if let Some(age) = seen.age {
        label += &format!(" \u{b7} written {} ago", duration(age.as_secs_f64()));
    }
    Gauge::default().ratio(part).label(label).gauge_style(Look::new().fg(Color::Blue).bg(Color::Black))
}

/// Median of the last steps. Validations come on top.
fn seconds_a_step(seen: &Seen<'_>) -> Option<f64> {
    let speeds = seen.table.of("samples_per_s").iter().rev().take(RECENT);
    let mut speeds: Vec<f64> = speeds.map(|&(_, speed)| speed).collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).filter(|speed| **speed > 0.0).map(|speed| seen.batch as f64 / speed)
}

/// Seconds in the two units that matter.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86400, whole / 3600 % 24),
    }
}

/// The last validation.
fn validation(table: &Table) -> Line<'static> {
    let Some(step) = table.validations.last() else { return "not validated yet".dim().into() };
    let told = [("loss", "loss.total"), ("top-1", "top1.value"), ("top-5", "top5.value"), ("Dice", "dice.value")];
    let told = told.into_iter().filter_map(|(name, key)| {
        let value = number(table.at(&format!("validation.{key}"), *step)?);
        Some(format!(" \u{b7} {name} {value}"))
    });
    let lost = match table.unreadable {
        0 => String::new(),
        lines => format!(" \u{b7} {} cannot be read", counted(lines, "line")),
    };
    format!("validated after step {step}{}{lost}", told.collect::<String>()).into()
}

fn colour(series: &Series) -> Color {
    [Color::DarkGray, Color::Cyan, Color::Yellow, Color::Green][series.colour.min(3)]
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, chart: &Chart, last: u64) {
    let axes = Axes::of(&chart.series, last, chart.logarithmic);
    let scale = |value: f64| if axes.logarithmic { value.log10() } else { value };
    let (low, high) = (axes.ticks[0], axes.ticks[axes.ticks.len() - 1]);
    // Parts of the axes: a line between points that lie anywhere is followed dot by dot, whether they are in the frame or not.
    let place = |step: f64, value: f64| (part(step, 0.0, axes.last), part(scale(value), scale(low), scale(high)));
    let series: Vec<&Series> = chart.series.iter().filter(|series| !series.points.is_empty()).collect();
    let points = |series: &Series| {
        let points = series.points.iter().map(|point| place(point.step, point.value));
        // A level holds until the end.
        let end = series.points.last().filter(|_| series.style == Style::Level);
        points.chain(end.map(|point| place(axes.last, point.value))).collect::<Vec<(f64, f64)>>()
    };
    let points: Vec<Vec<(f64, f64)>> = series.iter().map(|series| points(series)).collect();
    // Levels come last among the series, and lie behind the others.
    let datasets = series.iter().zip(&points).rev().map(|(series, points)| {
        // A line of one point is invisible.
        let (marker, kind) = match series.style == Style::Marks || points.len() == 1 {
            true => (Marker::Dot, GraphType::Scatter),
            false => (Marker::Braille, GraphType::Line),
        };
        Dataset::default().data(points).marker(marker).graph_type(kind).style(Look::new().fg(colour(series)))
    });
    // Between the frame and the axis of steps there is a line for each label at most.
    let labels: Vec<String> = match axes.ticks.len() {
        fit if fit <= usize::from(area.height.saturating_sub(4)) => axes.ticks.iter().copied().map(number).collect(),
        _ => [low, high].map(number).to_vec(),
    };
    let (steps, values) = (
        Axis::default().bounds([0.0, 1.0]).labels(["0".into(), number(axes.last)]),
        Axis::default().bounds([0.0, 1.0]).labels(labels),
    );
    let legend = series.iter().map(|series| {
        let value = series.points.last().map_or_else(String::new, |point| number(point.value));
        Span::from(format!(" {} {value} ", series.name)).fg(colour(series))
    });
    let title = Span::from(format!(" {} ", chart.title)).bold();
    let block = Block::bordered().title(title).title_bottom(Line::from_iter(legend));
    let drawn = Drawn::new(datasets.collect()).block(block);
    frame.render_widget(drawn.x_axis(steps.dim()).y_axis(values.dim()).legend_position(None), area);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::num::f64::ANY;
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        serde_json::from_value(serde_json::json!({
            "version": "0", "preset": "tiny", "recipe": "default", "seed": 1, "schedule.steps": 200, "data": "shards",
            "data_digest": "", "held_out": null, "weights": null, "device": "cpu"
        }))
        .unwrap()
    }

    /// A run of so many steps, validated every 40.
    fn table(steps: u32) -> Table {
        let mut lines = String::new();
        for step in 0..=steps {
            let part = f64::from(step) / 200.0;
            if step > 0 {
                lines += &format!(
                    "{{\"step\":{step},\"loss.total\":{},\"loss.contrastive\":{},\"loss.segmentation\":{},\"top1\":{part},\
                     \"top5\":{},\"mask.area\":0.2,\"mask.iou_previous\":null,\"lr\":{},\"grad_norm\":{},\"samples_per_s\":4}}\n",
                    4.0 - 2.0 * part,
                    3.0 - 1.5 * part,
                    1.0 - 0.5 * part,
                    0.5 + part / 2.0,
                    1e-3 * (1.0 - part * part),
                    10f64.powf(1.0 - 3.0 * part)
                );
            }
            if step % 40 == 0 {
                let estimate =
                    |value: f64| format!("{{\"value\":{value},\"low\":{},\"high\":{}}}", value / 2.0, value * 2.0);
                lines += &format!(
                    "{{\"step\":{step},\"validation\":{{\"constant1\":0.01,\"constant5\":0.05,\"loss\":{{\"total\":{}}},\"top1\":{},\
                     \"top5\":{},\"dice\":{}}}}}\n",
                    4.1 - 1.5 * part,
                    estimate(0.01 + 0.2 * part),
                    estimate(0.05 + 0.4 * part),
                    estimate(0.1 + 0.3 * part)
                );
            }
        }
        Table::of_lines(lines.as_bytes())
    }

    fn seen(table: &Table, writing: bool) -> Seen<'_> {
        let age = Some(Duration::from_secs(3));
        Seen { name: "runs/1".into(), batch: 8, manifest: manifest(), stop: 200, writing, age, table }
    }

    /// `G2D_BLESS=1 cargo test --release --lib watch` writes the file anew.
    #[track_caller]
    fn golden(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("G2D_BLESS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(wanted == text, "the frame is not that of {}:\n{text}", path.display());
    }

    #[test]
    fn a_frame_of_80_by_24_has_four_charts_and_one_of_40_by_10_has_one() {
        let (long, short) = (table(120), table(0));
        let frame = |size, seen: &Seen<'_>, page| drawn(size, |frame| draw(frame, seen, page));
        golden("watch-80x24.txt", &frame([80, 24], &seen(&long, true), 0));
        golden("watch-40x10.txt", &frame([40, 10], &seen(&long, true), -1));
        let begun = frame([80, 24], &seen(&short, true), 0);
        assert!(begun.contains("step 0 of 200, 0 %") && begun.contains("validated after step 0"), "{begun}");
        assert!(begun.contains("held-out 4.1") && begun.contains("charts 1 of 1"), "{begun}");
    }

    #[test]
    fn what_is_said_of_a_run_is_what_it_does() {
        let (table, ended, none) = (table(120), self::table(200), Table::default());
        // 80 steps of 8 pairs, 4 a second.
        let training = text(&seen(&table, true));
        assert!(
            training.contains("training") && training.contains("step 120 of 200, 60 %, 2 min 40 s left"),
            "{training}"
        );
        let stopped = text(&seen(&table, false));
        assert!(
            stopped.contains("not running") && !stopped.contains(" left") && stopped.contains("3 s ago"),
            "{stopped}"
        );
        assert!(text(&seen(&ended, false)).contains("finished"));
        let empty = text(&seen(&none, true));
        assert!(empty.contains("no step has been taken yet") && empty.contains("not validated yet"), "{empty}");
        assert_eq!([59.6, 3601.0, 90000.0].map(duration), ["1 min 0 s", "1 h 0 min", "1 d 1 h"]);
    }

    #[test]
    fn all_charts_that_have_numbers_are_printed() {
        let table = table(120);
        let text = text(&seen(&table, true));
        for chart in charts::all(&table) {
            assert!(text.contains(&format!("{} ", chart.title)), "{} is missing:\n{text}", chart.title);
        }
        assert!(charts::all(&table).len() == 10 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        let (table, none) = (table(120), Table::default());
        for (width, height) in (1..90).flat_map(|width| (1..30).map(move |height| (width, height))) {
            for table in [&table, &none] {
                let text = drawn([width, height], |frame| draw(frame, &seen(table, true), 3));
                assert_eq!(text.lines().count(), usize::from(height));
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_a_run_wrote_is_drawn(
            lines in vec((any::<u64>(), any::<bool>(), vec(ANY, 6)), 0..8),
            width in 1..100u16,
            height in 1..40u16,
            page in any::<isize>(),
        ) {
            let line = |(step, validates, of): &(u64, bool, Vec<f64>)| {
                let numbers = serde_json::json!({
                    "step": step, "loss.total": of[0], "top1": of[1], "mask.area": of[2], "lr": of[3], "samples_per_s": of[4]
                });
                let validation = serde_json::json!({ "step": step, "validation": { "top1": of[5], "loss": { "total": of[0] } } });
                format!("{}\n", if *validates { validation } else { numbers })
            };
            let written: String = lines.iter().map(line).collect();
            let table = Table::of_lines(written.as_bytes());
            let seen = seen(&table, true);
            let frame = drawn([width, height], |frame| draw(frame, &seen, page));
            prop_assert_eq!(frame.lines().count(), usize::from(height));
            prop_assert!(!text(&seen).is_empty());
        }
    }
}
