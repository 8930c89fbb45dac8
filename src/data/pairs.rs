//! The tables: `pairs.csv` (a film and its report a line) and `boxes.csv` (a rectangle a line).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::record::{BoundingBox, Split};

/// One line of `pairs.csv`.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Line in the file, the header being line 1.
    pub line: u64,
    /// Unique name.
    pub id: String,
    /// The film's file as the table names it, relative to the table.
    pub image: String,
    /// The report, without blanks around it; may be empty.
    pub text: String,
    /// Whose film it is; empty if not given.
    pub patient_id: String,
    /// Part of the data, if given.
    pub split: Option<Split>,
    /// Projection, if given.
    pub view: String,
    /// Labels, if given.
    pub findings: String,
    /// The mask's file, relative to the table; empty if there is none.
    pub mask: String,
    /// Further columns that are not empty.
    pub columns: BTreeMap<String, String>,
}

/// A csv file whose columns are found by name.
struct Table {
    path: PathBuf,
    columns: Vec<String>,
    reader: csv::Reader<File>,
}

impl Table {
    fn open(path: &Path, required: &[&str]) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(file);
        let header = reader.headers().map_err(|error| csv_error(path, &error))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        let fault = |what: String| Err(Error::Table { path: path.to_owned(), line: 1, what });
        let missing: Vec<_> = required.iter().filter(|name| !columns.iter().any(|column| column == *name)).collect();
        if !missing.is_empty() {
            return fault(format!("the columns {missing:?} are missing; there are {columns:?}"));
        }
        if let Some(twice) = (1..columns.len()).find(|&at| columns[..at].contains(&columns[at])) {
            return fault(format!("the column {:?} occurs twice; rename one", columns[twice]));
        }
        Ok(Self { path: path.to_owned(), columns, reader })
    }

    /// Calls `take` with each line's number and its values by column.
    fn each(mut self, mut take: impl FnMut(u64, HashMap<&str, &str>) -> Result<(), String>) -> Result<(), Error> {
        let mut record = csv::StringRecord::new();
        while self.reader.read_record(&mut record).map_err(|error| csv_error(&self.path, &error))? {
            let line = record.position().map_or(0, csv::Position::line);
            let values = self.columns.iter().map(String::as_str).zip(&record).collect();
            take(line, values).map_err(|what| Error::Table { path: self.path.clone(), line, what })?;
        }
        Ok(())
    }
}

fn csv_error(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} values where the header has {expected_len}; quote values that hold commas")
        }
        csv::ErrorKind::Utf8 { .. } => "this is not UTF-8 text; save the table as UTF-8".into(),
        _ => format!("{error}; this should be a csv table"),
    };
    Error::Table { path: path.to_owned(), line, what }
}

/// Reads `pairs.csv`: columns `id`, `image`, `text`, and optional `patient_id`, `split`, `view`, `findings`, `mask`;
/// others are carried along.
///
/// # Errors
/// If it cannot be read, is no csv table, lacks a column, has no lines, an empty or repeated id, an unknown split.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    let mut lines: HashMap<String, u64> = HashMap::new();
    Table::open(path, &["id", "image", "text"])?.each(|line, mut values| {
        let mut take = |name: &str| values.remove(name).unwrap_or_default().trim().to_owned();
        let mut pair = Pair {
            line,
            id: take("id"),
            image: take("image"),
            text: take("text"),
            patient_id: take("patient_id"),
            view: take("view"),
            findings: take("findings"),
            mask: take("mask"),
            ..Pair::default()
        };
        let split = take("split");
        if pair.id.is_empty() || pair.image.is_empty() {
            return Err("id or image is empty; fill it in or remove the line".into());
        }
        if let Some(first) = lines.insert(pair.id.clone(), line) {
            return Err(format!("id {:?} is already at line {first}; ids must be unique", pair.id));
        }
        if !split.is_empty() {
            let unknown = || format!("split {split:?} is none of train, val, test (or empty)");
            pair.split = Some(Split::parse(&split).ok_or_else(unknown)?);
        }
        let others = values.into_iter().filter(|(_, value)| !value.is_empty());
        pair.columns = others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.push(pair);
        Ok(())
    })?;
    match pairs.is_empty() {
        true => {
            Err(Error::Table { path: path.to_owned(), line: 1, what: "there are no lines below the header".into() })
        }
        false => Ok(pairs),
    }
}

/// Reads `boxes.csv`: columns `id`, `label`, `x`, `y`, `w`, `h` in pixels of the image; others are ignored. The boxes
/// come by id, each list in the order of the file.
///
/// # Errors
/// If it cannot be read, is no csv table, lacks a column, or a number is missing or impossible.
pub fn read_boxes(path: &Path) -> Result<HashMap<String, Vec<BoundingBox>>, Error> {
    let mut boxes: HashMap<String, Vec<BoundingBox>> = HashMap::new();
    Table::open(path, &["id", "label", "x", "y", "w", "h"])?.each(|_, values| {
        let number = |name: &str| match values[name].trim().parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(format!("{name} is {:?}, not a number", values[name])),
        };
        let [x, y, w, h] = [number("x")?, number("y")?, number("w")?, number("h")?];
        if w <= 0.0 || h <= 0.0 {
            return Err(format!("a box of {w} by {h} pixels is empty; remove the line"));
        }
        let label = values["label"].trim().to_owned();
        boxes.entry(values["id"].trim().to_owned()).or_default().push(BoundingBox { label, x, y, w, h });
        Ok(())
    })?;
    Ok(boxes)
}
