//! What an evaluation found: figures with their intervals, stored with what they are figures of, and printed.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{Estimate, counted};
use crate::error::Error;

/// In figures of which there are others: found as publications find them.
pub const PUBLISHED: &str = "as published";

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The task, as on the command line.
    pub task: String,
    /// Under which choices: what was trained on how much, how a threshold was found.
    pub setting: String,
    /// The class; `macro` for the mean over classes, `all` where there are none.
    pub class: String,
    /// What is measured.
    pub metric: String,
    /// It, with the 95 % interval of a bootstrap over films.
    pub estimate: Estimate,
    /// The figure of each seed, where training was repeated; the estimate is of their mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<f64>,
}

impl Figure {
    /// Whether it is of all classes, or of films whatever their classes.
    pub fn whole(&self) -> bool {
        const WHOLE: [&str; 7] = [
            "macro",
            "all",
            "films with a finding",
            "all films, empty truth = 1",
            "mean of batches, as published",
            "all labels as one",
            "a finding shared",
        ];
        WHOLE.contains(&self.class.as_str())
    }
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this crate.
    pub version: String,
    /// [`PROTOCOL`](super::evaluation::PROTOCOL) of its time; 0 in reports from before there were numbers.
    #[serde(default)]
    pub protocol: u32,
    /// What was evaluated.
    pub subject: String,
    /// Folder of the data.
    pub data: String,
    /// Digest of the data set.
    pub data_digest: String,
    /// Name, films and digest of each split: equal digests mean the same films.
    pub splits: Vec<(String, usize, String)>,
    /// What was asked for.
    pub budget: String,
    /// What a reader should know: what was left out and why.
    pub notes: Vec<String>,
    /// Wall time, seconds.
    pub seconds: f64,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Reads a stored report.
    ///
    /// # Errors
    /// If it cannot be read or is no report.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Usage(format!("{}: {error}; it is no report of g2d eval", path.display())))
    }

    /// Writes it as `PATH.json` and `PATH.md`, each whole or not at all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        for (extension, text) in [("json", json), ("md", self.markdown())] {
            let file = named(path, extension);
            crate::checkpoint::write_beside(&file, text.as_bytes()).map_err(Error::io(&file))?;
        }
        Ok(())
    }

    /// The whole as Markdown: what it is of, the figures by task, the notes.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.subject, self.head());
        for task in self.tasks() {
            let _ = writeln!(
                text,
                "## {task}\n\n| setting | class | metric | value [95 % interval] | n |\n|---|---|---|---|---|"
            );
            for figure in self.figures.iter().filter(|figure| figure.task == task) {
                let Figure { setting, class, metric, estimate, .. } = figure;
                let _ = writeln!(text, "| {setting} | {class} | {metric} | {estimate} | {} |", estimate.n);
            }
            text.push('\n');
        }
        for note in self.notes.iter().map(String::as_str).chain(few(self.figures.iter())) {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    /// Of a metric that was found in several ways leaves only the publications': thresholds from the test films, means of
    /// batches, mAP by their overlaps.
    pub fn as_published(&mut self) {
        let published =
            |figure: &Figure| [&figure.setting, &figure.class, &figure.metric].iter().any(|of| of.contains(PUBLISHED));
        let metric = |figure: &Figure| (figure.task.clone(), figure.metric.replace(PUBLISHED, "").trim().to_owned());
        let twice: Vec<_> = self.figures.iter().filter(|figure| published(figure)).map(metric).collect();
        // Overlaps above several thresholds are the publications' own.
        let several = |figure: &Figure| figure.class.starts_with("above ");
        self.figures.retain(|figure| published(figure) || several(figure) || !twice.contains(&metric(figure)));
    }

    /// The same for a terminal, columns aligned; without single classes unless they are `every` one asked for.
    pub fn text(&self, every: bool) -> String {
        let mut rows = Vec::new();
        let shown = |figure: &&Figure| every || figure.whole();
        for task in self.tasks() {
            for figure in self.figures.iter().filter(|figure| figure.task == task).filter(shown) {
                let Figure { setting, class, metric, estimate, .. } = figure;
                let cells = [task, setting, class, metric, &estimate.to_string(), &estimate.n.to_string()];
                rows.push(cells.map(str::to_owned));
            }
        }
        let mut text = self.head() + "\n\n";
        text += &aligned(["task", "setting", "class", "metric", "value [95 % interval]", "n"], &rows);
        for note in self.notes.iter().map(String::as_str).chain(few(self.figures.iter().filter(shown))) {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    fn head(&self) -> String {
        let split =
            |(name, films, digest): &(String, usize, String)| format!("{name} {} ({digest})", counted(*films, "film"));
        let splits: Vec<String> = self.splits.iter().map(split).collect();
        format!(
            "{} on {}: {}; {} budget, {:.0} s",
            self.subject,
            self.data,
            splits.join(", "),
            self.budget,
            self.seconds
        )
    }

    /// Tasks in the order in which they were done.
    fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !tasks.contains(&figure.task.as_str()) {
                tasks.push(&figure.task);
            }
        }
        tasks
    }
}

/// Units below which a bootstrap's interval says too little.
pub const FEW: usize = 10;

/// What to know of intervals over few units, where there are any.
fn few<'a>(mut figures: impl Iterator<Item = &'a Figure>) -> Option<&'static str> {
    figures
        .any(|figure| figure.estimate.n < FEW)
        .then_some("where n is below 10 do not rely on the interval: a bootstrap over so few tends to be too narrow")
}

/// `PATH.EXTENSION`; a path that ends so already is that file, and the other lies beside it.
pub fn named(path: &Path, extension: &str) -> PathBuf {
    let own = path.extension().is_some_and(|own| own == "json" || own == "md");
    let mut name = if own { path.with_extension("") } else { path.to_owned() }.into_os_string();
    name.push(format!(".{extension}"));
    name.into()
}

/// Two reports side by side, figure by figure, and what keeps them from being compared.
///
/// # Errors
/// If they have no figure in common.
pub fn compare(a: &Report, b: &Report) -> Result<String, Error> {
    let mut text = format!("A: {}\nB: {}\n", a.head(), b.head());
    if a.splits != b.splits {
        text += "warning: the splits differ, so these figures are not of the same films and must not be compared\n";
    }
    if a.data_digest != b.data_digest && a.splits == b.splits {
        text += "warning: the same films were packed in different ways\n";
    }
    if a.protocol != b.protocol {
        text += "warning: the reports were made by different protocols; evaluate the older one again\n";
    }
    if a.budget != b.budget {
        text += "warning: the budgets differ\n";
    }
    let key =
        |figure: &Figure| (figure.task.clone(), figure.setting.clone(), figure.class.clone(), figure.metric.clone());
    let mut rows = Vec::new();
    for figure in &a.figures {
        let Some(other) = b.figures.iter().find(|other| key(other) == key(figure)) else { continue };
        let (one, two) = (figure.estimate, other.estimate);
        let apart = one.high < two.low || two.high < one.low;
        let difference = format!("{:+.3}{}", two.value - one.value, if apart { " *" } else { "" });
        let Figure { task, setting, class, metric, .. } = figure;
        let cells = [task, setting, class, metric, &one.to_string(), &two.to_string(), &difference];
        rows.push(cells.map(|cell| cell.to_owned()));
    }
    if rows.is_empty() {
        let tasks = [a, b].map(|report| report.tasks().join(", "));
        let what = "have no figure in common; compare reports of the same task";
        return Err(Error::Usage(format!("these reports, of {} and of {}, {what}", tasks[0], tasks[1])));
    }
    let only = |of: &Report, other: &Report| {
        of.figures.iter().filter(|figure| !other.figures.iter().any(|other| key(other) == key(figure))).count()
    };
    text += &aligned(["task", "setting", "class", "metric", "A", "B", "B - A"], &rows);
    Ok(text + &format!("* the intervals do not overlap; {} figures only in A, {} only in B\n", only(a, b), only(b, a)))
}

/// A table with columns as wide as their widest cell.
fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).chain([head[at].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    line(head.to_vec()) + &body.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_over_few_are_marked_once() {
        let figure = |class: &str, n| Figure {
            task: "probe".into(),
            setting: "f4".into(),
            class: class.into(),
            metric: "AUROC".into(),
            estimate: Estimate { value: 0.5, low: 0.4, high: 0.6, n },
            seeds: Vec::new(),
        };
        let report = |few| Report {
            version: String::new(),
            subject: "a run".into(),
            data: "shards".into(),
            data_digest: String::new(),
            splits: vec![("test".into(), 1, "0".into())],
            budget: "quick".into(),
            protocol: 0,
            notes: Vec::new(),
            seconds: 0.0,
            figures: vec![figure("macro", 10), figure("Edema", few), figure("Effusion", few)],
        };
        let marks = |text: String| text.matches("where n is below 10").count();
        assert_eq!((marks(report(9).markdown()), marks(report(9).text(true))), (1, 1));
        assert_eq!((marks(report(10).markdown()), marks(report(10).text(true))), (0, 0));
        assert_eq!(marks(report(9).text(false)), 0, "a class that is not shown is not spoken of");
        assert!(report(9).head().contains("test 1 film (0)"), "{}", report(9).head());
    }
}
