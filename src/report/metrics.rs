//! `metrics.jsonl` as series of numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::train::run::METRICS;

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Steps taken.
    pub step: u64,
    /// It holds a validation, not a step.
    pub validation: bool,
    /// Every number by its name; what lies within another value has the names of both, joined by a dot.
    pub numbers: Vec<(String, f64)>,
}

impl Line {
    /// Reads a line; `None` if it is not one that a run wrote.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(line).ok()?;
        let fields = value.as_object()?;
        let mut found = Self {
            step: fields.get("step")?.as_u64()?,
            validation: fields.contains_key("validation"),
            numbers: Vec::new(),
        };
        let others = fields.iter().filter(|(name, _)| *name != "step");
        others.for_each(|(name, value)| found.add(name, value));
        Some(found)
    }

    fn add(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(field, value)| self.add(&format!("{name}.{}", current(field)), value));
            }
            other => self.numbers.extend(other.as_f64().map(|number| (name.to_owned(), number))),
        }
    }
}

/// Runs from before wrote the value of an estimate as its mean.
fn current(field: &str) -> &str {
    if field == "mean" { "value" } else { field }
}

/// All that `metrics.jsonl` holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    series: BTreeMap<String, Vec<(u64, f64)>>,
    /// Lines of steps.
    pub steps: usize,
    /// The last step.
    pub last: u64,
    /// Steps of the validations.
    pub validations: Vec<u64>,
    /// Lines that no run wrote.
    pub unreadable: usize,
}

impl Table {
    /// Reads what the run in `folder` wrote; of a run that wrote nothing yet it is empty.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(METRICS);
        let mut reader = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let (mut table, mut line) = (Self::default(), Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(Error::io(&path))? > 0 {
            // A line without an end is still being written, or was cut off; the event file leaves it out too.
            match Line::parse(&line).filter(|_| line.ends_with(b"\n")) {
                Some(line) => table.add(line),
                None => table.unreadable += 1,
            }
            line.clear();
        }
        Ok(table)
    }

    fn add(&mut self, line: Line) {
        self.last = self.last.max(line.step);
        match line.validation {
            true => self.validations.push(line.step),
            false => self.steps += 1,
        }
        for (name, number) in line.numbers {
            match self.series.get_mut(&name) {
                Some(series) => series.push((line.step, number)),
                None => drop(self.series.insert(name, vec![(line.step, number)])),
            }
        }
    }

    /// A series, step by step; nothing where there is none.
    pub fn of(&self, name: &str) -> &[(u64, f64)] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// A number at one step.
    pub fn at(&self, name: &str, step: u64) -> Option<f64> {
        self.of(name).iter().rev().find(|(at, _)| *at == step).map(|&(_, number)| number)
    }

    /// The last number of a series.
    pub fn latest(&self, name: &str) -> Option<f64> {
        self.of(name).last().map(|&(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_names_and_numbers() {
        let line = Line::parse(br#"{"step":3,"loss.total":2.5,"mask.iou_previous":null,"lr":1e-3}"#).unwrap();
        assert_eq!((line.step, line.validation), (3, false));
        assert_eq!(line.numbers, [("loss.total".to_owned(), 2.5), ("lr".to_owned(), 1e-3)]);
        let line = Line::parse(br#"{"step":0,"validation":{"films":4,"top1":{"mean":0.5,"low":0.1},"dice":null}}"#);
        let names: Vec<String> = line.unwrap().numbers.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["validation.films", "validation.top1.low", "validation.top1.value"]);
    }

    #[test]
    fn what_no_run_wrote_is_no_line() {
        for line in [&b""[..], b"{", br#"{"step":1,"lo"#, b"[1]", br#"{"step":-1}"#, br#"{"lr":1}"#, b"\xff\xfe"] {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
    }
}
