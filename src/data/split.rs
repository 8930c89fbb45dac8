//! Splitting by patient.

use std::collections::HashMap;
use std::path::Path;

use super::error::Error;
use super::pairs::Pair;
use super::record::Split;
use super::survey::{Key, key};
use crate::base::random::Rng;

const STREAM: u32 = u32::from_be_bytes(*b"splt");

/// The splits of a table, by patient.
///
/// Where the table gives none, the patient's other films decide, else the patient is drawn: 80 % train, 10 % val, 10 %
/// test, a function of the seed and the patient's name alone. A film without a patient is a patient of its own.
#[derive(Default)]
pub struct Splits {
    seed: u64,
    /// What the table says, and in which line first.
    given: HashMap<Key, (Split, u64)>,
}

impl Splits {
    /// Nothing is given yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes note of a row; all rows must be noted before the first split is asked for.
    ///
    /// # Errors
    /// If the patient is in two splits; `path` is the table to name.
    pub fn note(&mut self, pair: &Pair, path: &Path) -> Result<(), Error> {
        let Some(split) = pair.split.filter(|_| !pair.patient_id.is_empty()) else { return Ok(()) };
        let (first, first_line) = *self.given.entry(key(&pair.patient_id)).or_insert((split, pair.line));
        if first == split {
            return Ok(());
        }
        Err(Error::PatientInTwoSplits {
            path: path.to_owned(),
            patient: pair.patient_id.clone(),
            first: first.name(),
            first_line,
            second: split.name(),
            second_line: pair.line,
        })
    }

    /// The split of a row.
    pub fn of(&self, pair: &Pair) -> Split {
        let patient = key(if pair.patient_id.is_empty() { &pair.id } else { &pair.patient_id });
        pair.split.or_else(|| self.given.get(&patient).map(|(split, _)| *split)).unwrap_or_else(|| self.draw(patient))
    }

    fn draw(&self, patient: Key) -> Split {
        match drawn(self.seed, patient) {
            draw if draw < 0.8 => Split::Train,
            draw if draw < 0.9 => Split::Val,
            _ => Split::Test,
        }
    }
}

/// A number in [0, 1), a function of the seed and the patient's name alone.
pub(super) fn unit(seed: u64, patient: &str) -> f64 {
    drawn(seed, key(patient))
}

fn drawn(seed: u64, patient: Key) -> f64 {
    let name = u64::from_le_bytes(std::array::from_fn(|byte| patient[byte]));
    Rng::new(seed, STREAM, name).unit()
}
