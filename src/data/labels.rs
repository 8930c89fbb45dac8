//! What is known of a data set's splits before anything is measured on them: their labels, and a digest of their films.

use std::collections::{BTreeMap, BTreeSet};

use super::dataset::Dataset;
use super::error::Error;
use super::record::Split;

/// How many films have which label, by split in the order of [`Split::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// All films.
    pub films: [usize; 3],
    /// Films of which no label is stated. They are no negatives: a normal film has a label that says so.
    pub not_stated: [usize; 3],
    /// Films with each label of the data set, by name; 0 where a split lacks it.
    pub labels: BTreeMap<String, [usize; 3]>,
}

impl LabelCounts {
    /// Labels that `split` lacks although others have them, by name.
    pub fn missing(&self, split: Split) -> Vec<&str> {
        let absent = self.labels.iter().filter(|(_, counts)| counts[split as usize] == 0);
        absent.map(|(label, _)| label.as_str()).collect()
    }
}

impl Dataset {
    /// Counts the labels of every film; a label that is written twice for one film counts once.
    ///
    /// # Errors
    /// If a film's description is damaged.
    pub fn label_counts(&self) -> Result<LabelCounts, Error> {
        let mut counts = LabelCounts::default();
        for index in 0..self.len() {
            let record = self.record(index)?;
            let split = record.split as usize;
            let labels: BTreeSet<&str> = record.labels().collect();
            counts.films[split] += 1;
            counts.not_stated[split] += usize::from(labels.is_empty());
            for label in labels {
                counts.labels.entry(label.to_owned()).or_default()[split] += 1;
            }
        }
        Ok(counts)
    }

    /// BLAKE3 (hexadecimal) of the split's name and of the ids of its films in order: equal digests mean the same films in
    /// the same split, whatever their size and tokenizer. Figures of different digests are not to be compared.
    ///
    /// # Errors
    /// If a film's description is damaged.
    pub fn split_digest(&self, split: Split) -> Result<String, Error> {
        let mut digest = blake3::Hasher::new();
        let mut add = |text: &str| {
            // With the length before it no two lists of ids look alike.
            digest.update(&(text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        };
        add(split.name());
        for index in self.select(Some(split), false) {
            add(&self.record(index)?.id);
        }
        Ok(digest.finalize().to_hex().to_string())
    }
}
