//! `metrics.jsonl` as series of numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

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
        let mut growing = Growing::new(folder);
        growing.read()?;
        // A line without an end was cut off, or is still being written; the event file leaves it out too.
        growing.table.unreadable += usize::from(growing.unended);
        Ok(growing.table)
    }

    /// Of lines as a run writes them.
    #[cfg(test)]
    pub fn of_lines(lines: &[u8]) -> Self {
        let mut growing = Growing::new(Path::new(""));
        growing.take(std::io::Cursor::new(lines)).expect("memory can be read");
        growing.table
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

/// `metrics.jsonl` of a run that may be writing it: each reading takes in what was added since the one before.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    table: Table,
    /// Bytes taken in: whole lines.
    taken: u64,
    /// The last of these lines, by which it is known again.
    last: Vec<u8>,
    /// There is more, without an end.
    unended: bool,
}

impl Growing {
    /// Of the run in `folder`; nothing is read yet.
    pub fn new(folder: &Path) -> Self {
        let (table, path) = (Table::default(), folder.join(METRICS));
        Self { path, table, taken: 0, last: Vec::new(), unended: false }
    }

    /// Takes in whole lines that were added. A file that is no longer the one it was (a run that was cut off and goes on drops
    /// the lines behind its checkpoint) is read from its start; of a run that wrote nothing yet the table is empty.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn read(&mut self) -> Result<&Table, Error> {
        match File::open(&self.path) {
            Ok(file) => self.take(BufReader::new(file)).map_err(Error::io(&self.path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => self.forget(),
            Err(error) => return Err(Error::io(&self.path)(error)),
        }
        Ok(&self.table)
    }

    fn forget(&mut self) {
        (self.table, self.taken, self.unended) = (Table::default(), 0, false);
        self.last.clear();
    }

    fn take(&mut self, mut file: impl BufRead + Seek) -> std::io::Result<()> {
        let mut line = Vec::new();
        file.seek(SeekFrom::Start(self.taken - self.last.len() as u64))?;
        file.by_ref().take(self.last.len() as u64).read_to_end(&mut line)?;
        if line != self.last {
            self.forget();
            file.rewind()?;
        }
        line.clear();
        self.unended = false;
        while file.read_until(b'\n', &mut line)? > 0 {
            if !line.ends_with(b"\n") {
                self.unended = true;
                break;
            }
            match Line::parse(&line) {
                Some(line) => self.table.add(line),
                None => self.table.unreadable += 1,
            }
            self.taken += line.len() as u64;
            std::mem::swap(&mut self.last, &mut line);
            line.clear();
        }
        Ok(())
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
    #[test]
    fn what_is_added_is_taken_in_and_what_is_dropped_forgotten() {
        let step = |step: u64, loss: f64| format!("{{\"step\":{step},\"loss.total\":{loss}}}\n");
        let mut growing = Growing::new(Path::new("nowhere"));
        assert_eq!(growing.read().unwrap(), &Table::default());
        let mut takes = |text: &str, losses: &[f64]| {
            growing.take(std::io::Cursor::new(text)).unwrap();
            let found: Vec<f64> = growing.table.of("loss.total").iter().map(|&(_, loss)| loss).collect();
            assert_eq!((found.as_slice(), growing.table.unreadable), (losses, 0), "{text:?}");
        };
        let two = step(1, 3.0) + &step(2, 2.0);
        takes("", &[]);
        takes(&two[..two.len() - 4], &[3.0]);
        takes(&two, &[3.0, 2.0]);
        takes(&two, &[3.0, 2.0]);
        takes(&(two.clone() + &step(3, 1.0)), &[3.0, 2.0, 1.0]);
        takes(&step(1, 3.0), &[3.0]);
        // Cut off and written on, to more than it was.
        takes(&(step(1, 3.0) + &step(2, 2.5) + &step(3, 1.5)), &[3.0, 2.5, 1.5]);
        takes(&(step(1, 3.0) + &step(2, 2.25) + &step(3, 1.25) + &step(4, 1.0)), &[3.0, 2.25, 1.25, 1.0]);
    }
}
