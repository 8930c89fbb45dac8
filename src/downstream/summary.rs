//! Many reports side by side: a column for what was compared, a row for each figure: the mean over seeds, its interval, the
//! range of the seeds.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::report::Report;
use crate::base::Estimate;
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
    /// Whether it is of one class among several.
    pub single: bool,
    /// For each column the figures of its seeds; empty where it has none.
    pub values: Vec<Vec<Estimate>>,
}

impl Row {
    /// The mean over the seeds of a column; `None` where it has none.
    pub fn mean(&self, column: usize) -> Option<f64> {
        mean(&self.values[column], |estimate| estimate.value)
    }
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What was asked.
    pub title: String,
    /// What is known of it.
    pub about: String,
    /// Columns, in the order in which they were first met.
    pub columns: Vec<String>,
    /// Rows, in the order of the reports.
    pub rows: Vec<Row>,
    /// What keeps columns from being compared.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Sums up.
    pub fn of(title: &str, about: &str, cells: &[Cell]) -> Self {
        let mut found = Self {
            title: title.into(),
            about: about.trim().into(),
            columns: Vec::new(),
            rows: Vec::new(),
            warnings: Vec::new(),
        };
        for cell in cells {
            if !found.columns.contains(&cell.title) {
                found.columns.push(cell.title.clone());
            }
        }
        let mut splits = None;
        for cell in cells {
            let column = found.columns.iter().position(|title| *title == cell.title).unwrap_or_default();
            for report in &cell.reports {
                let mixed = !report.splits.is_empty() && *splits.get_or_insert(&report.splits) != &report.splits;
                if mixed && found.warnings.is_empty() {
                    found.warnings.push("the reports are not all of the same films: do not compare them".into());
                }
                for figure in &report.figures {
                    let what = format!("{}: {}", figure.task, figure.setting);
                    let metric = match figure.class.as_str() {
                        "macro" | "all" => figure.metric.clone(),
                        class => format!("{} ({class})", figure.metric),
                    };
                    found.add(what, metric, !figure.whole(), column, figure.estimate);
                }
            }
        }
        found
    }

    fn add(&mut self, what: String, metric: String, single: bool, column: usize, value: Estimate) {
        let columns = self.columns.len();
        let row = match self.rows.iter().position(|row| row.what == what && row.metric == metric) {
            Some(row) => &mut self.rows[row],
            None => {
                self.rows.push(Row { what, metric, single, values: vec![Vec::new(); columns] });
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

    /// As Markdown: first what is of all classes or films, then class by class.
    pub fn text(&self) -> String {
        let about = if self.about.is_empty() { String::new() } else { format!("{}\n\n", self.about) };
        let mut text = format!("# {}\n\n{about}{}", self.title, self.table(|row| !row.single));
        if self.rows.iter().any(|row| row.single) {
            let _ = write!(text, "\nClass by class, or recipe by recipe:\n\n{}", self.table(|row| row.single));
        }
        let seeds = self.rows.iter().flat_map(|row| row.values.iter().map(Vec::len)).max().unwrap_or(0);
        let of = match seeds {
            1 => "Of one seed, with the 95 % interval (bootstrap over films)".into(),
            count => format!(
                "Means over {count} seeds, in brackets the mean ends of their 95 % intervals (bootstrap over films), then the range \
                 of the seeds"
            ),
        };
        let _ = writeln!(text, "\n{of}. n: films, or what else was resampled.");
        for warning in &self.warnings {
            let _ = writeln!(text, "Warning: {warning}.");
        }
        text
    }

    /// The rows that are `wanted`, as a table in Markdown.
    pub fn table(&self, wanted: impl Fn(&Row) -> bool) -> String {
        let mut text = format!(
            "| | metric | {} | n |\n|---|---|{}---|\n",
            self.columns.join(" | "),
            "---|".repeat(self.columns.len())
        );
        for row in self.rows.iter().filter(|row| wanted(row)) {
            let cells: Vec<String> = row.values.iter().map(|values| told(values)).collect();
            let n = row.values.iter().flatten().map(|value| value.n).max().unwrap_or_default();
            let _ = writeln!(text, "| {} | {} | {} | {n} |", row.what, row.metric, cells.join(" | "));
        }
        text
    }
}

fn mean(values: &[Estimate], part: fn(&Estimate) -> f64) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().map(part).sum::<f64>() / values.len() as f64)
}

/// `0.512 [0.470, 0.551] (0.498 to 0.530)`.
fn told(values: &[Estimate]) -> String {
    let [Some(value), Some(low), Some(high)] = [
        mean(values, |estimate| estimate.value),
        mean(values, |estimate| estimate.low),
        mean(values, |estimate| estimate.high),
    ] else {
        return String::new();
    };
    let range = |pick: fn(f64, f64) -> f64| values.iter().map(|one| one.value).reduce(pick).unwrap_or(f64::NAN);
    match values.len() {
        1 => format!("{value:.3} [{low:.3}, {high:.3}]"),
        _ => format!("{value:.3} [{low:.3}, {high:.3}] ({:.3} to {:.3})", range(f64::min), range(f64::max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::report::Figure;

    /// A report of one figure on films with this digest, or that says nothing of its films.
    fn cell(title: &str, seed: u64, digest: Option<&str>, value: f64) -> Cell {
        let [task, setting, class, metric] = ["probe", "f5", "macro", "AUC"].map(str::to_owned);
        let estimate = Estimate { value, low: value - 0.25, high: value + 0.5, n: 8 };
        let report = Report {
            version: String::new(),
            protocol: 0,
            subject: String::new(),
            data: String::new(),
            data_digest: String::new(),
            splits: digest.map(|digest| ("test".into(), 8, digest.into())).into_iter().collect(),
            budget: String::new(),
            notes: Vec::new(),
            seconds: 0.0,
            figures: vec![Figure { task, setting, class, metric, estimate, seeds: Vec::new() }],
        };
        Cell { title: title.into(), seed, reports: vec![report] }
    }

    #[test]
    fn reports_of_other_films_are_warned_of() {
        let of = |cells: &[Cell]| Summary::of("title", "", cells);
        // What training itself wrote down is of no split.
        let same = of(&[cell("a", 0, None, 0.5), cell("a", 1, Some("x"), 0.5), cell("b", 0, Some("x"), 0.5)]);
        assert_eq!(same.warnings, Vec::<String>::new());
        assert!(!same.text().contains("Warning"));
        let mixed = of(&[cell("a", 0, Some("x"), 0.5), cell("b", 0, Some("y"), 0.5), cell("b", 1, Some("y"), 0.5)]);
        assert_eq!(mixed.warnings.len(), 1);
        assert!(mixed.text().contains("Warning: the reports are not all of the same films"), "{}", mixed.text());
    }

    #[test]
    fn seeds_are_summed_up_and_columns_stand_side_by_side() {
        let cells = [cell("a", 0, None, 0.5), cell("a", 1, None, 0.75), cell("b", 0, None, 0.25)];
        let summary = Summary::of("title", "", &cells);
        assert_eq!((summary.columns.as_slice(), summary.rows.len()), (&["a".to_owned(), "b".to_owned()][..], 1));
        assert_eq!([0, 1].map(|column| summary.rows[0].mean(column)), [Some(0.625), Some(0.25)]);
        let row = "| probe: f5 | AUC | 0.625 [0.375, 1.125] (0.500 to 0.750) | 0.250 [0.000, 0.750] | 8 |";
        assert!(summary.text().contains(row), "{}", summary.text());
    }
}
