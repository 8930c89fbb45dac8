//! Tables (csv, also gzipped) whose columns are found by name and whose rows know the line they begin in.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Cursor, Error as IoError, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

use super::error::Error;
use super::file;
use super::pairs::BadRow;

/// Longest row, bytes. A quote that is never closed would else make one row of the rest of the file.
const ROW_BYTES: u64 = 1 << 20;
/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// What was read of a table so far.
#[derive(Default)]
struct Consumed {
    /// Bytes since the last row began.
    row: Cell<u64>,
    /// Bytes in all.
    all: Cell<u64>,
    /// The last byte.
    last: Cell<u8>,
    /// Bytes in all, once the end was met and the last line does not end.
    endless: Cell<Option<u64>>,
    /// An odd number of quotes so far.
    odd: Cell<bool>,
}

/// A table's text, which ends with an error where a row is longer than [`ROW_BYTES`].
struct Rationed {
    text: Box<dyn Read>,
    consumed: Rc<Consumed>,
}

impl Read for Rationed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.text.read(buffer)?;
        let consumed = &self.consumed;
        consumed.row.set(consumed.row.get() + count as u64);
        consumed.all.set(consumed.all.get() + count as u64);
        let quotes = buffer[..count].iter().filter(|&&byte| byte == b'"').count();
        consumed.odd.set(consumed.odd.get() ^ (quotes % 2 == 1));
        match count.checked_sub(1) {
            Some(last) => consumed.last.set(buffer[last]),
            None if matches!(consumed.last.get(), b'\n' | b'\r') => {}
            None => consumed.endless.set(Some(consumed.all.get())),
        }
        if consumed.row.get() > ROW_BYTES {
            let why = format!("a row is longer than {} MiB: a quote is not closed", ROW_BYTES >> 20);
            return Err(IoError::other(why));
        }
        Ok(count)
    }
}

/// What a gzip file holds; damage is told as such.
struct Unpacked(Box<dyn Read>);

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let why = format!("the gzip file is damaged or cut short ({error}); fetch it again");
            IoError::new(ErrorKind::UnexpectedEof, why)
        })
    }
}

/// A table's text, unpacked if it is gzipped (told by content), and its first bytes.
fn text(path: &Path) -> std::io::Result<(Vec<u8>, Box<dyn Read>)> {
    let (mut file, _) = file::open(path)?;
    let mut start = Vec::new();
    (&mut file).take(GZIP.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    let mut text: Box<dyn Read> =
        if start == GZIP { Box::new(Unpacked(Box::new(MultiGzDecoder::new(file)))) } else { Box::new(file) };
    start.clear();
    (&mut text).take(256).read_to_end(&mut start)?;
    Ok((start.clone(), Box::new(Cursor::new(start).chain(text))))
}

/// A csv file whose columns are found by name.
pub(super) struct Table {
    path: PathBuf,
    columns: Vec<String>,
    reader: csv::Reader<Rationed>,
    consumed: Rc<Consumed>,
    record: csv::StringRecord,
    /// Lines end with a carriage return and a line feed.
    returns: bool,
    /// Lines that end within the row just read, if its last value goes over lines, as one does whose quote is not closed.
    open: Option<u64>,
}

/// A row's line, and its values by column.
pub(super) type Row<'a> = (u64, HashMap<&'a str, &'a str>);

impl Table {
    /// Opens a table and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is no csv table in UTF-8, lacks a column of `required`, or has one twice.
    pub(super) fn open(path: &Path, required: &[&str]) -> Result<Self, Error> {
        let mut table = Self::headed(path, csv::ReaderBuilder::new().trim(csv::Trim::Headers))?;
        let columns = &table.columns;
        let missing: Vec<_> = required.iter().filter(|name| !columns.iter().any(|column| column == *name)).collect();
        let what = if !missing.is_empty() {
            let other = [';', '\t'].iter().find(|&&other| columns.iter().any(|name| name.contains(other)));
            let hint =
                other.map_or(String::new(), |other| format!("; values are separated by commas here, not by {other:?}"));
            format!("the columns {missing:?} are missing; there are {columns:.300?}{hint}")
        } else if let Some(twice) =
            (1..columns.len()).find(|&at| !columns[at].is_empty() && columns[..at].contains(&columns[at]))
        {
            format!("the column {:?} occurs twice; rename one", columns[twice])
        } else {
            let within = columns.iter().map(|column| column.matches('\n').count() as u64).sum::<u64>();
            let position = table.reader.position();
            table.returns = Some(position.byte()) != table.consumed.endless.get() && position.line() == 1 + within;
            return Ok(table);
        };
        Err(Error::Table { path: path.to_owned(), line: 1, what })
    }

    fn headed(path: &Path, builder: &csv::ReaderBuilder) -> Result<Self, Error> {
        let (start, text) = text(path).map_err(Error::io("read", path))?;
        if start.contains(&0) {
            let what = "this is UTF-16 or no text; save the table as UTF-8".into();
            return Err(Error::Table { path: path.to_owned(), line: 1, what });
        }
        let consumed = Rc::new(Consumed::default());
        let mut reader = builder.from_reader(Rationed { text, consumed: consumed.clone() });
        let header = reader.headers().map_err(|error| csv_error(path, 1, &error))?;
        let columns = header.iter().map(str::to_owned).collect();
        let record = csv::StringRecord::new();
        Ok(Self { path: path.to_owned(), columns, reader, consumed, record, returns: false, open: None })
    }

    /// Where a column stands, if there is one of this name.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// The line that the row just read begins in. The reader's own number is that of the first empty line before the row,
    /// and where lines end with a carriage return and a line feed, that of the line before: it ends a row at the return.
    pub(super) fn line(&self) -> u64 {
        let within = self.record.iter().map(|value| value.matches('\n').count() as u64).sum::<u64>();
        let position = self.reader.position();
        let ended = !self.returns && Some(position.byte()) != self.consumed.endless.get();
        position.line().saturating_sub(within + u64::from(ended))
    }

    /// The next row's line and values by column, a row with another number of values than the header, or the end.
    pub(super) fn next(&mut self) -> Result<Option<Result<Row<'_>, BadRow>>, Error> {
        let found = self.values()?.map(|row| row.map(|_| ()));
        let row = || (self.line(), self.columns.iter().map(String::as_str).zip(&self.record).collect());
        Ok(found.map(|found| found.map(|()| row())))
    }

    /// The next row's values in the order of the columns, a row with another number of values, or the end.
    pub(super) fn values(&mut self) -> Result<Option<Result<&csv::StringRecord, BadRow>>, Error> {
        self.consumed.row.set(0);
        let next = self.reader.position().line() + u64::from(self.returns);
        let read = self.reader.read_record(&mut self.record);
        if let (Ok(false), Some(within), true) = (&read, self.open, self.consumed.odd.get()) {
            let line = self.reader.position().line().saturating_sub(within);
            let what = "a quote is not closed, and what follows it is no row of its own; close it".into();
            return Err(Error::Table { path: self.path.clone(), line, what });
        }
        let over_lines = self.record.iter().next_back().is_some_and(|value| value.contains('\n'));
        let within = self.record.iter().map(|value| value.matches('\n').count() as u64).sum();
        self.open = over_lines.then_some(within);
        match read {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Ok(&self.record))),
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

/// `next` is the line that was to be read.
fn csv_error(path: &Path, next: u64, error: &csv::Error) -> Error {
    let line = error.position().map_or(next, csv::Position::line).max(next);
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "this is not UTF-8 text (Latin-1?); save the table as UTF-8".into(),
        csv::ErrorKind::Io(error) if error.kind() == ErrorKind::UnexpectedEof => error.to_string(),
        csv::ErrorKind::Io(error) => format!("{error}; this should be a csv table"),
        _ => format!("{error}; this should be a csv table"),
    };
    Error::Table { path: path.to_owned(), line, what }
}
