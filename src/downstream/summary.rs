//! Many reports side by side: a column for what was compared, a row for each figure, the mean over seeds with their range.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::report::Report;
use crate::error::Error;

/// What one seed of one column gave.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The column.
    pub title: String,
    /// Its seed.
    pub seed: u64,
    /// Its reports.
    pub reports: Vec<Report>,
}

/// A figure of all columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `task: setting`.
    pub what: String,
    /// The metric, with its class where that is one of several.
    pub metric: String,
    /// For each column the figures of its seeds; empty where it has none.
    pub values: Vec<Vec<f64>>,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What was asked.
    pub title: String,
    /// Columns, in the order in which they were first met.
    pub columns: Vec<String>,
    /// Rows, in the order of the reports. Single classes are left to the reports.
    pub rows: Vec<Row>,
    /// What keeps columns from being compared.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Sums up.
    pub fn of(title: &str, cells: &[Cell]) -> Self {
        let mut found = Self { title: title.into(), columns: Vec::new(), rows: Vec::new(), warnings: Vec::new() };
        for cell in cells {
            if !found.columns.contains(&cell.title) {
                found.columns.push(cell.title.clone());
            }
        }
        let mut splits = None;
        for cell in cells {
            let column = found.columns.iter().position(|title| *title == cell.title).unwrap_or_default();
            for report in &cell.reports {
                let mixed = *splits.get_or_insert(&report.splits) != &report.splits;
                if mixed && found.warnings.is_empty() {
                    found.warnings.push("the reports are not all of the same films: do not compare them".into());
                }
                for figure in report.figures.iter().filter(|figure| figure.whole()) {
                    let what = format!("{}: {}", figure.task, figure.setting);
                    let metric = match figure.class.as_str() {
                        "macro" | "all" => figure.metric.clone(),
                        class => format!("{} ({class})", figure.metric),
                    };
                    found.add(what, metric, column, figure.estimate.value);
                }
            }
        }
        found
    }

    fn add(&mut self, what: String, metric: String, column: usize, value: f64) {
        let columns = self.columns.len();
        let row = match self.rows.iter().position(|row| row.what == what && row.metric == metric) {
            Some(row) => &mut self.rows[row],
            None => {
                self.rows.push(Row { what, metric, values: vec![Vec::new(); columns] });
                let last = self.rows.len() - 1;
                &mut self.rows[last]
            }
        };
        row.values[column].push(value);
    }

    /// Writes it as `PATH.json` and `PATH.md`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        for (extension, text) in [("json", json), ("md", self.text())] {
            let file = super::report::named(path, extension);
            crate::checkpoint::write_beside(&file, text.as_bytes()).map_err(Error::io(&file))?;
        }
        Ok(())
    }

    /// As Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# {}\n\n| | metric | {} |\n|---|---|{}\n",
            self.title,
            self.columns.join(" | "),
            "---|".repeat(self.columns.len())
        );
        for row in &self.rows {
            let cells: Vec<String> = row.values.iter().map(|values| told(values)).collect();
            let _ = writeln!(text, "| {} | {} | {} |", row.what, row.metric, cells.join(" | "));
        }
        let seeds = self.rows.iter().flat_map(|row| row.values.iter().map(Vec::len)).max().unwrap_or(0);
        let _ = writeln!(text, "\nMeans over {seeds} seeds, and their range.");
        for warning in &self.warnings {
            let _ = writeln!(text, "Warning: {warning}.");
        }
        text
    }
}

/// `0.512 (0.498 to 0.530)`.
fn told(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let range = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    match values.len() {
        0 => "".into(),
        1 => format!("{mean:.3}"),
        _ => format!("{mean:.3} ({:.3} to {:.3})", range(f64::min), range(f64::max)),
    }
}
