//! The films of a data set as a task sees them: splits, labels, fractions, and digests that tell whether two results
//! are of the same films.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::Rng;
use crate::data::{Dataset, Split};
use crate::error::Error;

/// The label of a film on which nothing was found, as NIH ChestX-ray14 and others write it.
const NO_FINDING: &str = "no finding";
const STREAM: u32 = u32::from_be_bytes(*b"frac");

/// See the [module](self).
pub struct Cohort {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Labels that occur, in order of their names; films without any are not of a class.
    pub classes: Vec<String>,
    /// For each film whether it has each class; `None` where nothing was stated.
    labels: Vec<Option<Vec<bool>>>,
    /// Films of each split, in the order in which they were packed.
    splits: [Vec<usize>; 3],
}

impl Cohort {
    /// Reads the labels of all films.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn of(dataset: Arc<Dataset>) -> Result<Self, Error> {
        let (mut splits, mut found) = ([const { Vec::new() }; 3], Vec::new());
        for sample in 0..dataset.len() {
            let record = dataset.record(sample)?;
            splits[record.split as usize].push(sample);
            found.push(record.labels().map(str::to_owned).collect::<Vec<String>>());
        }
        let plain = |label: &String| label.eq_ignore_ascii_case(NO_FINDING);
        let names: BTreeMap<&String, ()> =
            found.iter().flatten().filter(|label| !plain(label)).map(|label| (label, ())).collect();
        let classes: Vec<String> = names.into_keys().cloned().collect();
        let of =
            |own: &Vec<String>| (!own.is_empty()).then(|| classes.iter().map(|class| own.contains(class)).collect());
        let labels = found.iter().map(of).collect();
        Ok(Self { dataset, classes, labels, splits })
    }

    /// Films of a split.
    pub fn split(&self, split: Split) -> &[usize] {
        &self.splits[split as usize]
    }

    /// The films of a split whose labels are known, as positions in [`Cohort::split`], and for each whether it has each
    /// class [films, classes].
    pub fn labelled(&self, split: Split) -> (Vec<usize>, Vec<bool>) {
        let known = self.split(split).iter().enumerate();
        let known = known.filter_map(|(at, &film)| Some((at, self.labels[film].as_ref()?)));
        let (films, labels): (Vec<usize>, Vec<&Vec<bool>>) = known.unzip();
        (films, labels.into_iter().flatten().copied().collect())
    }

    /// Whether every labelled film has exactly one of at least three classes: then classes exclude each other (COVIDx).
    pub fn exclusive(&self) -> bool {
        let one = |labels: &Vec<bool>| labels.iter().filter(|&&has| has).count() == 1;
        self.classes.len() > 2 && self.labels.iter().flatten().all(one)
    }

    /// Whether the film has each class; nothing where that is not known.
    pub fn labels(&self, film: usize) -> Option<&[bool]> {
        self.labels[film].as_deref()
    }
}

/// A fraction of `films`, at least one, drawn by `seed`; in their order. A larger fraction holds the smaller one of the
/// same seed.
pub fn fraction(films: &[usize], fraction: f64, seed: u64) -> Vec<usize> {
    let count = ((films.len() as f64 * fraction).round() as usize).clamp(1, films.len().max(1));
    let mut order: Vec<usize> = (0..films.len()).collect();
    Rng::new(seed, STREAM, 0).shuffle(&mut order);
    let mut chosen = order[..count.min(films.len())].to_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| films[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::fraction;

    #[test]
    fn fractions_are_nested_and_never_empty() {
        let films: Vec<usize> = (100..400).collect();
        let [few, more, all] = [0.01, 0.1, 1.0].map(|part| fraction(&films, part, 7));
        assert_eq!((few.len(), more.len(), all.len()), (3, 30, 300));
        assert!(few.iter().all(|film| more.contains(film)) && all == films);
        assert_ne!(few, fraction(&films, 0.01, 8));
        assert_eq!(fraction(&films[..4], 0.01, 7).len(), 1);
    }
}
