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
        let mut digest = SplitDigest::new(split);
        for index in self.select(Some(split), false) {
            digest.add(&self.record(index)?.id);
        }
        Ok(digest.finish())
    }
}

/// [`Dataset::split_digest`], film by film.
pub(super) struct SplitDigest(blake3::Hasher);

impl SplitDigest {
    pub(super) fn new(split: Split) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.add(split.name());
        digest
    }

    pub(super) fn add(&mut self, text: &str) {
        // With the length before it no two lists of ids look alike.
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    pub(super) fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::DatasetWriter;
    use crate::data::record::Record;

    /// A data set of films with these ids, splits and findings.
    fn packed(name: &str, films: &[(&str, Split, &str)], size: usize) -> Dataset {
        let folder = std::env::temp_dir().join(format!("g2d-labels-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let mut writer = DatasetWriter::create(&folder, size, false).unwrap();
        let pixels = vec![7; size * size];
        for &(id, split, findings) in films {
            let (id, findings) = (id.to_owned(), findings.to_owned());
            writer.push(&Record { id, split, findings, pixels: &pixels, ..Record::default() }).unwrap();
        }
        writer.finish("{}", 5, serde_json::Value::Null).unwrap();
        let dataset = Dataset::open(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        dataset
    }

    const FILMS: [(&str, Split, &str); 5] = [
        ("a", Split::Train, "Nodule;Edema"),
        ("b", Split::Train, ""),
        ("c", Split::Train, "Edema; Edema"),
        ("d", Split::Test, "No Finding"),
        ("e", Split::Test, "Edema"),
    ];

    #[test]
    fn a_label_that_is_absent_is_told_from_films_without_labels() {
        let counts = packed("counts", &FILMS, 8).label_counts().unwrap();
        assert_eq!((counts.films, counts.not_stated), ([3, 0, 2], [1, 0, 0]));
        let labels: Vec<_> = counts.labels.iter().map(|(label, films)| (label.as_str(), *films)).collect();
        assert_eq!(labels, [("Edema", [2, 0, 1]), ("No Finding", [0, 0, 1]), ("Nodule", [1, 0, 0])]);
        assert_eq!(counts.missing(Split::Test), ["Nodule"]);
        assert_eq!(counts.missing(Split::Val).len(), 3);
    }

    #[test]
    fn a_split_s_digest_is_of_its_films_in_order() {
        let digests = |name: &str, films: &[_], size: usize| {
            let dataset = packed(name, films, size);
            Split::ALL.map(|split| dataset.split_digest(split).unwrap())
        };
        let all = digests("all", &FILMS, 8);
        assert!(all[0] != all[1] && all[1] != all[2]);
        assert_eq!(digests("larger", &FILMS, 12), all);
        let mut turned = FILMS;
        turned.swap(0, 1);
        let turned = digests("turned", &turned, 8);
        assert!(turned[0] != all[0] && turned[1..] == all[1..]);
        let [joined, cut] = [["de", "f"], ["d", "ef"]].map(|ids| {
            let films = ids.map(|id| (id, Split::Test, ""));
            digests(ids[0], &films, 8)
        });
        assert_ne!(joined[2], cut[2]);
        // The empty split has one too, its name's.
        assert_eq!(joined[..2], cut[..2]);
    }
}
