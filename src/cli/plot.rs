//! Plots of what was compared.

use plotters::prelude::*;

use crate::downstream::summary::{Row, Summary};
use crate::error::Error;

/// Width of the part with dots, height of each row and of a line of the legend, and width of a letter, about; pixels.
const WIDTH: usize = 480;
const ROW: usize = 28;
const LINE: usize = 20;
const LETTER: usize = 6;

/// Colours that people who see few colours can tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Rows below each other, a dot for each seed with its interval and a larger one at their mean, a colour for each column. Rows
/// are those whose name is one of `show` (see [`fits`]), or all that are of no single class.
pub fn dots(summary: &Summary, show: &[String]) -> Result<String, Error> {
    let shown = |row: &&Row| show.is_empty() || show.iter().any(|pattern| fits(&name(row), pattern));
    let plotted = |row: &&Row| row.metric != "median rank" && !row.single;
    let rows: Vec<&Row> = summary.rows.iter().filter(shown).filter(plotted).collect();
    let mut svg = String::new();
    draw(&mut svg, summary, &rows).map_err(|error| Error::Usage(format!("the plot cannot be drawn: {error}")))?;
    Ok(svg)
}

fn name(row: &Row) -> String {
    format!("{}, {}", row.what, row.metric)
}

/// Whether a name begins with a pattern, of which each `*` stands for anything.
fn fits(name: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('*');
    let begun = pieces.next().and_then(|first| name.strip_prefix(first));
    pieces.try_fold(begun, |rest, piece| rest?.split_once(piece).map(|(_, rest)| Some(rest))).flatten().is_some()
}

fn draw(svg: &mut String, summary: &Summary, rows: &[&Row]) -> Result<(), Box<dyn std::error::Error>> {
    let values = rows.iter().flat_map(|row| row.values.iter().flatten());
    let (low, high) = values.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value.low), high.max(value.high)));
    let names: Vec<String> = rows.iter().map(|row| name(row)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let labels = longest * LETTER + 20;
    // The legend has room of its own below the rows.
    let legend = (summary.columns.len() + 1) * LINE;
    let size = ((labels + WIDTH) as u32, (rows.len() * ROW + legend + 100) as u32);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let count = rows.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(&summary.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(labels as u32)
        .build_cartesian_2d(low..high * 1.05 + 1e-9, -0.6 - (legend as f64 / ROW as f64)..count - 0.4)?;
    let label = |at: &f64| {
        let whole = (at.round() - at).abs() < 0.01;
        names.get((count - 1.0 - at).round().max(0.0) as usize).filter(|_| whole).cloned().unwrap_or_default()
    };
    chart.configure_mesh().disable_y_mesh().y_labels(rows.len() * 2).y_label_formatter(&label).draw()?;
    for (column, title) in summary.columns.iter().enumerate() {
        let colour = COLOURS[column % COLOURS.len()];
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
        let lines = intervals.into_iter().map(|ends| PathElement::new(ends, colour.mix(0.4).stroke_width(2)));
        chart.draw_series(lines)?;
        let marks = marks.into_iter().map(|(x, y, size)| Circle::new((x, y), size, colour.mix(0.8).filled()));
        let legend = move |(x, y)| Circle::new((x + 8, y), 5, colour.filled());
        chart.draw_series(marks)?.label(title.clone()).legend(legend);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_begin_names() {
        let name = "segment: encoder, 10 % of training, Dice (films with a finding)";
        for pattern in ["segment: encoder", "segment:*Dice (films", "segment*10 %*Dice", ""] {
            assert!(fits(name, pattern), "{pattern}");
        }
        for pattern in ["encoder", "segment*Dice*10 %", "segment:*IoU"] {
            assert!(!fits(name, pattern), "{pattern}");
        }
    }
}
