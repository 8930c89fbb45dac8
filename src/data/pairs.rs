//! The tables: `pairs.csv` (a film and its report a line) and `boxes.csv` (a rectangle a line).

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::error::Error;
use super::file;
use super::record::{BoundingBox, Split};

/// One line of `pairs.csv`.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Line in the file, the header being line 1; 0 where there is no table.
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

/// A row that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Line in the file, the header being line 1.
    pub line: u64,
    /// The reason without particulars, to count by.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub what: String,
}

/// Longest row, bytes. A quote that is never closed would else make one row of the rest of the file.
const ROW_BYTES: u64 = 1 << 20;

/// A file that ends with an error where a row is longer than [`ROW_BYTES`].
struct Rationed {
    file: File,
    /// Bytes read since the last row began.
    read: Rc<Cell<u64>>,
}

impl Read for Rationed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        if self.read.get() > ROW_BYTES {
            let why = format!("a row is longer than {} MiB: a quote is not closed", ROW_BYTES >> 20);
            return Err(std::io::Error::other(why));
        }
        Ok(count)
    }
}

/// Bytes of a file whose last byte ends no line. The file is left at its end.
fn without_end(file: &mut File) -> std::io::Result<Option<u64>> {
    let bytes = file.seek(SeekFrom::End(0))?;
    if bytes == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok((last != *b"\n" && last != *b"\r").then_some(bytes))
}

/// A csv file whose columns are found by name.
pub(super) struct Table {
    path: PathBuf,
    pub(super) columns: Vec<String>,
    reader: csv::Reader<Rationed>,
    read: Rc<Cell<u64>>,
    record: csv::StringRecord,
    /// Lines end with a carriage return and a line feed.
    returns: bool,
    /// Bytes of the file, if its last line does not end.
    endless: Option<u64>,
}

impl Table {
    pub(super) fn open(path: &Path, required: &[&str]) -> Result<Self, Error> {
        let (mut file, _) = file::open(path).map_err(Error::io("read", path))?;
        let fault = |what: String| Err(Error::Table { path: path.to_owned(), line: 1, what });
        let mut start = Vec::new();
        (&mut file).take(256).read_to_end(&mut start).map_err(Error::io("read", path))?;
        let endless = without_end(&mut file).map_err(Error::io("read", path))?;
        file.rewind().map_err(Error::io("read", path))?;
        if start.contains(&0) {
            return fault("this is UTF-16 or no text; save the table as UTF-8".into());
        }
        let read = Rc::new(Cell::new(0));
        let file = Rationed { file, read: read.clone() };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(file);
        let header = reader.headers().map_err(|error| csv_error(path, 1, &error))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        let missing: Vec<_> = required.iter().filter(|name| !columns.iter().any(|column| column == *name)).collect();
        if !missing.is_empty() {
            return fault(format!("the columns {missing:?} are missing; there are {columns:.300?}"));
        }
        if let Some(twice) = (1..columns.len()).find(|&at| columns[..at].contains(&columns[at])) {
            return fault(format!("the column {:?} occurs twice; rename one", columns[twice]));
        }
        let within = columns.iter().map(|column| column.matches('\n').count() as u64).sum::<u64>();
        let position = reader.position();
        let returns = Some(position.byte()) != endless && position.line() == 1 + within;
        Ok(Self { path: path.to_owned(), columns, reader, read, record: csv::StringRecord::new(), returns, endless })
    }

    /// The line that the row just read begins in. The reader's own number is that of the first empty line before the row,
    /// and where lines end with a carriage return and a line feed, that of the line before: it ends a row at the return.
    fn line(&self) -> u64 {
        let within = self.record.iter().map(|value| value.matches('\n').count() as u64).sum::<u64>();
        let position = self.reader.position();
        let ended = !self.returns && Some(position.byte()) != self.endless;
        position.line().saturating_sub(within + u64::from(ended))
    }

    /// The next row's line and values by column, a row with another number of values than the header, or the end.
    pub(super) fn next(&mut self) -> Result<Option<Result<Row<'_>, BadRow>>, Error> {
        self.read.set(0);
        let next = self.reader.position().line() + u64::from(self.returns);
        match self.reader.read_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                Ok(Some(Ok((self.line(), self.columns.iter().map(String::as_str).zip(&self.record).collect()))))
            }
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Ok(Some(Err(BadRow {
                    line: self.line(),
                    reason: "wrong number of values",
                    what: format!("{len} values where the header has {expected_len}; quote values that hold commas"),
                }))),
                _ => Err(csv_error(&self.path, next, &error)),
            },
        }
    }
}

/// A row's line, and its values by column.
pub(super) type Row<'a> = (u64, HashMap<&'a str, &'a str>);

/// `next` is the line that was to be read.
fn csv_error(path: &Path, next: u64, error: &csv::Error) -> Error {
    let line = error.position().map_or(next, csv::Position::line).max(next);
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "this is not UTF-8 text (Latin-1?); save the table as UTF-8".into(),
        csv::ErrorKind::Io(error) => format!("{error}; this should be a csv table"),
        _ => format!("{error}; this should be a csv table"),
    };
    Error::Table { path: path.to_owned(), line, what }
}

/// The rows of `pairs.csv`, read one by one: columns `id`, `image`, `text`, and optional `patient_id`, `split`, `view`,
/// `findings`, `mask`; others are carried along.
pub struct Pairs(Table);

impl Pairs {
    /// Opens the table and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is no csv table in UTF-8, or lacks a column.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(Table::open(path, &["id", "image", "text"])?))
    }
}

impl Iterator for Pairs {
    /// A row, or why it cannot be used; an error if the table cannot be read on.
    type Item = Result<Result<Pair, BadRow>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next() {
            Ok(Some(row)) => Some(Ok(row.and_then(pair))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn pair((line, mut values): Row) -> Result<Pair, BadRow> {
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
    let bad = |reason, what| Err(BadRow { line, reason, what });
    if pair.id.is_empty() || pair.image.is_empty() {
        return bad("id or image is empty", "id or image is empty; fill it in or remove the line".to_owned());
    }
    pair.split = Split::parse(&split);
    if pair.split.is_none() && !split.is_empty() {
        return bad("unknown split", format!("split {split:?} is none of train, val, test (or empty)"));
    }
    let others = values.into_iter().filter(|(_, value)| !value.is_empty());
    pair.columns = others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(pair)
}

/// Most memory that boxes may take, bytes: two to three million boxes.
const BOXES_BYTES: usize = 384 << 20;
/// What a box, or an id, takes beside its letters, with what growing tables hold in reserve.
const ENTRY_BYTES: usize = 128;

/// Reads `boxes.csv`: columns `id`, `label`, `x`, `y`, `w`, `h` in pixels of the image; others are ignored. The boxes
/// come by id, each list in the order of the file.
///
/// # Errors
/// If it cannot be read, is no csv table, lacks a column, a number is missing or impossible, or the boxes are more than
/// fit into 384 MiB.
pub fn read_boxes(path: &Path) -> Result<HashMap<String, Vec<BoundingBox>>, Error> {
    boxes_within(path, BOXES_BYTES)
}

fn boxes_within(path: &Path, most: usize) -> Result<HashMap<String, Vec<BoundingBox>>, Error> {
    let mut held = 0;
    let mut boxes: HashMap<String, Vec<BoundingBox>> = HashMap::new();
    let mut table = Table::open(path, &["id", "label", "x", "y", "w", "h"])?;
    while let Some(row) = table.next()? {
        let one = row.and_then(|(line, values)| {
            Ok((
                values["id"].trim().to_owned(),
                bounding_box(&values).map_err(|what| BadRow { line, reason: "", what })?,
            ))
        });
        let (id, one) = one.map_err(|bad| Error::Table { path: path.to_owned(), line: bad.line, what: bad.what })?;
        let line = table.line();
        held += ENTRY_BYTES + one.label.len();
        if !boxes.contains_key(&id) {
            held += ENTRY_BYTES + id.len();
        }
        if held > most {
            let what =
                format!("the boxes up to here take {} MiB of memory; pack the films in several parts", most >> 20);
            return Err(Error::Table { path: path.to_owned(), line, what });
        }
        boxes.entry(id).or_default().push(one);
    }
    Ok(boxes)
}

fn bounding_box(values: &HashMap<&str, &str>) -> Result<BoundingBox, String> {
    let number = |name: &str| match values[name].trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{name} is {:?}, not a number", values[name])),
    };
    let [x, y, w, h] = [number("x")?, number("y")?, number("w")?, number("h")?];
    if w <= 0.0 || h <= 0.0 {
        return Err(format!("a box of {w} by {h} pixels is empty; remove the line"));
    }
    Ok(BoundingBox { label: values["label"].trim().to_owned(), x, y, w, h })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows where an editor shows them, whatever ends the lines, with empty lines between and lines within values.
    #[test]
    fn rows_have_the_line_they_begin_in() {
        let path = std::env::temp_dir().join(format!("g2d-lines-{}.csv", std::process::id()));
        for end in ["\n", "\r\n"] {
            for last in [end, ""] {
                let lines =
                    ["id,image,text", "a,a.png,x", "", "", "b,b.png,\"one", "two", "three\"", "c,c.png", "d,d.png,z"];
                std::fs::write(&path, lines.join(end) + last).unwrap();
                let rows = Pairs::open(&path).unwrap().map(|row| match row.unwrap() {
                    Ok(pair) => (pair.line, pair.id),
                    Err(bad) => (bad.line, bad.reason.to_owned()),
                });
                let wanted = [(2, "a"), (5, "b"), (8, "wrong number of values"), (9, "d")];
                assert!(rows.eq(wanted.map(|(line, what)| (line, what.to_owned()))), "lines end with {end:?}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn boxes_beyond_the_memory_for_them_are_refused_with_the_line() {
        let path = std::env::temp_dir().join(format!("g2d-boxes-{}.csv", std::process::id()));
        let rows: String = (0..8).map(|at| format!("film-{at},nodule,1,2,3,4\n")).collect();
        std::fs::write(&path, format!("id,label,x,y,w,h\n{rows}")).unwrap();
        let entry = 2 * ENTRY_BYTES + "film-0".len() + "nodule".len();
        let (fits, over) = (boxes_within(&path, 8 * entry), boxes_within(&path, 8 * entry - 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(fits.unwrap().len(), 8);
        let error = over.unwrap_err().to_string();
        assert!(error.contains("line 9") && error.contains("in several parts"), "{error}");
    }
}
