//! Splitting by patient.

use std::collections::HashMap;
use std::path::Path;

use super::error::Error;
use super::pairs::Pair;
use super::record::Split;
use crate::base::random::Rng;

const STREAM: u32 = u32::from_be_bytes(*b"splt");

/// The split of each pair, in order. Where the table gives none, the patient's other films decide, else the patient
/// is drawn: 80 % train, 10 % val, 10 % test, a function of `seed` and the patient's name alone. A film without a
/// patient is a patient of its own.
///
/// # Errors
/// If a patient is in two splits; `path` is the table to name.
pub fn assign(pairs: &[Pair], seed: u64, path: &Path) -> Result<Vec<Split>, Error> {
    let mut given: HashMap<&str, (Split, u64)> = HashMap::new();
    for pair in pairs {
        let Some(split) = pair.split.filter(|_| !pair.patient_id.is_empty()) else { continue };
        let (first, first_line) = *given.entry(&pair.patient_id).or_insert((split, pair.line));
        if first != split {
            return Err(Error::PatientInTwoSplits {
                path: path.to_owned(),
                patient: pair.patient_id.clone(),
                first: first.name(),
                first_line,
                second: split.name(),
                second_line: pair.line,
            });
        }
    }
    let decide = |pair: &Pair| {
        let patient = if pair.patient_id.is_empty() { &pair.id } else { &pair.patient_id };
        pair.split
            .or_else(|| given.get(patient.as_str()).map(|(split, _)| *split))
            .unwrap_or_else(|| draw(seed, patient))
    };
    Ok(pairs.iter().map(decide).collect())
}

fn draw(seed: u64, patient: &str) -> Split {
    let digest = blake3::hash(patient.as_bytes());
    let name = u64::from_le_bytes(std::array::from_fn(|byte| digest.as_bytes()[byte]));
    match Rng::new(seed, STREAM, name).unit() {
        draw if draw < 0.8 => Split::Train,
        draw if draw < 0.9 => Split::Val,
        _ => Split::Test,
    }
}
