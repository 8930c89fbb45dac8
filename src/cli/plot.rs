//! Plots of what was compared.

use plotters::prelude::*;

use crate::downstream::summary::{Row, Summary};
use crate::error::Error;

/// A picture's width, and its height for each row, pixels.
const WIDTH: u32 = 900;
const ROW: u32 = 28;

/// Rows below each other, a dot for each seed with its interval and a larger one at their mean, a colour for each column. Rows
/// are those that begin with one of `show`, or all that are of no single class.
pub fn dots(summary: &Summary, show: &[String]) -> Result<String, Error> {
    let shown = |row: &&Row| show.is_empty() || show.iter().any(|start| row.what.starts_with(start.as_str()));
    let plotted = |row: &&Row| row.metric != "median rank" && !row.single;
    let rows: Vec<&Row> = summary.rows.iter().filter(shown).filter(plotted).collect();
    let mut svg = String::new();
    draw(&mut svg, summary, &rows).map_err(|error| Error::Usage(format!("the plot cannot be drawn: {error}")))?;
    Ok(svg)
}

fn draw(svg: &mut String, summary: &Summary, rows: &[&Row]) -> Result<(), Box<dyn std::error::Error>> {
    let values = rows.iter().flat_map(|row| row.values.iter().flatten());
    let (low, high) = values.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value.low), high.max(value.high)));
    let height = ROW * rows.len() as u32 + 120 + 18 * summary.columns.len() as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let count = rows.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(&summary.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(420)
        .build_cartesian_2d(low..high * 1.05 + 1e-9, -0.6..count - 0.4)?;
    let name = |at: &f64| {
        let row = rows.get((count - 1.0 - at).round().max(0.0) as usize);
        row.map_or(String::new(), |row| format!("{}, {}", row.what, row.metric))
    };
    chart.configure_mesh().disable_y_mesh().y_labels(rows.len() * 2).y_label_formatter(&name).draw()?;
    for (column, title) in summary.columns.iter().enumerate() {
        let colour = Palette99::pick(column).to_rgba();
        let apart = (column as f64 - (summary.columns.len() as f64 - 1.0) / 2.0) * 0.6 / summary.columns.len() as f64;
        let place = |row: usize| count - 1.0 - row as f64 - apart;
        let (mut marks, mut intervals) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            for value in &row.values[column] {
                marks.push((value.value, place(at), 3));
                intervals.push([(value.low, place(at)), (value.high, place(at))]);
            }
            marks.extend(row.mean(column).map(|mean| (mean, place(at), 6)));
        }
        let lines = intervals.into_iter().map(|ends| PathElement::new(ends, colour.mix(0.3).stroke_width(2)));
        chart.draw_series(lines)?;
        let marks = marks.into_iter().map(|(x, y, size)| Circle::new((x, y), size, colour.mix(0.7).filled()));
        let legend = move |(x, y)| Circle::new((x + 8, y), 5, colour.filled());
        chart.draw_series(marks)?.label(title.clone()).legend(legend);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
