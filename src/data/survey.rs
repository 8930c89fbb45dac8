//! The first reading of a table: what must be known of all rows before any is packed. Keeps some dozens of bytes a row.

use std::collections::HashMap;

use super::error::Error;
use super::pairs::{BadRow, Mask, Pair};
use super::record::Split;
use super::rows::{Row, Rows};
use super::split::Splits;

/// A name of any length, as its digest.
pub(super) type Key = [u8; 16];

pub(super) fn key(name: &str) -> Key {
    let digest = blake3::hash(name.as_bytes());
    std::array::from_fn(|byte| digest.as_bytes()[byte])
}

/// What a table holds.
pub struct Survey<'a> {
    table: &'a dyn Rows,
    strict: bool,
    splits: Splits,
    /// Rows in the table, bad ones too.
    pub rows: usize,
    /// Whether any row has a mask.
    pub masks: bool,
    /// Rows with neither split nor patient.
    pub alone: usize,
    /// The line of each id.
    ids: HashMap<Key, u64>,
}

impl<'a> Survey<'a> {
    /// Reads the whole table once. With `strict` the first bad row is an error, else bad rows are passed over.
    ///
    /// # Errors
    /// If it cannot be read, is no csv table, lacks a column, has no rows, an id twice, or a patient in two splits.
    pub fn of(table: &'a dyn Rows, seed: u64, strict: bool) -> Result<Self, Error> {
        let (path, splits, ids) = (table.path(), Splits::new(seed), HashMap::new());
        let mut survey = Self { table, strict, splits, rows: 0, masks: false, alone: 0, ids };
        for row in survey.rows()? {
            survey.rows += 1;
            let Ok(pair) = row? else { continue };
            if let Some(first) = survey.ids.insert(key(&pair.id), pair.line) {
                let what = format!("id {:?} is already at line {first}; ids must be unique", pair.id);
                return Err(Error::Table { path: path.to_owned(), line: pair.line, what });
            }
            if !table.by_film() {
                survey.splits.note(&pair, path)?;
            }
            survey.masks |= pair.mask != Mask::None;
            survey.alone += usize::from(pair.split.is_none() && pair.patient_id.is_empty());
        }
        match survey.rows {
            0 => {
                Err(Error::Table { path: path.to_owned(), line: 1, what: "there are no lines below the header".into() })
            }
            _ => Ok(survey),
        }
    }

    /// The rows from the beginning; in strict mode a bad one is an error.
    ///
    /// # Errors
    /// If the table cannot be opened.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Row, Error>> + use<'a>, Error> {
        let (table, strict) = (self.table, self.strict);
        let refuse = move |row: Row| match row {
            Err(BadRow { line, what, .. }) if strict => Err(Error::Table { path: table.path().to_owned(), line, what }),
            row => Ok(row),
        };
        Ok(table.read()?.map(move |row| row.and_then(&refuse)))
    }

    /// Which part of the data a row belongs to.
    pub fn split(&self, pair: &Pair) -> Split {
        self.splits.of(pair)
    }

    /// Whether a row has this id.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains_key(&key(id))
    }
}
