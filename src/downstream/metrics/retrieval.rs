//! Retrieval between films and reports, and among films and texts of the same class.
//!
//! Whatever is as similar to a query as what belongs to it stands before it: a model that finds everything alike
//! finds nothing.

use std::collections::HashMap;

use super::{Undefined, finite, lengths};

/// Queries and candidates, to be compared by cosine.
#[derive(Clone, Debug)]
pub struct Cosines {
    queries: Vec<Vec<f64>>,
    candidates: Vec<Vec<f64>>,
}

impl Cosines {
    /// `queries` is [queries, dim], `candidates` [candidates, dim]; they need no unit length. A row of zeros is equally
    /// unlike everything.
    pub fn new(queries: &[f64], candidates: &[f64], dim: usize) -> Result<Self, Undefined> {
        let rows = |numbers: &[f64]| {
            lengths(numbers.len(), numbers.len() / dim.max(1) * dim)?;
            finite(numbers)?;
            Ok(numbers.chunks_exact(dim).map(unit).collect())
        };
        Ok(Self { queries: rows(queries)?, candidates: rows(candidates)? })
    }

    fn row(&self, query: usize) -> Vec<f64> {
        let query = &self.queries[query];
        self.candidates.iter().map(|candidate| candidate.iter().zip(query).map(|(a, b)| a * b).sum()).collect()
    }

    /// For each query the rank, from 1, of the first candidate that belongs to it by `belongs` (query, candidate).
    /// Undefined if nothing belongs to a query.
    pub fn ranks(&self, belongs: impl Fn(usize, usize) -> bool) -> Result<Vec<usize>, Undefined> {
        let rank = |query: usize| {
            let row = self.row(query);
            let (own, others): (Vec<usize>, Vec<usize>) = (0..row.len()).partition(|&at| belongs(query, at));
            let best = own.iter().map(|&at| row[at]).reduce(f64::max).ok_or(Undefined::NoMatch(query))?;
            Ok(1 + others.iter().filter(|&&at| row[at] >= best).count())
        };
        (0..self.queries.len()).map(rank).collect()
    }

    /// For each query the part of its `k` most similar candidates, of those that are `asked` for it (query, candidate), that
    /// belong to it by `belongs`: P@k, as ConVIRT and GLoRIA report it for classes. Where equally similar ones compete for the
    /// last places, what drawing among them gives on average.
    pub fn precisions(
        &self,
        k: usize,
        asked: impl Fn(usize, usize) -> bool,
        belongs: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<f64>, Undefined> {
        let precision = |query: usize| {
            let row = self.row(query);
            let candidates: Vec<usize> = (0..row.len()).filter(|&at| asked(query, at)).collect();
            if k == 0 || k > candidates.len() {
                return Err(Undefined::TooFew { candidates: candidates.len(), k });
            }
            let mut sorted: Vec<f64> = candidates.iter().map(|&at| row[at]).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let last = sorted[k - 1];
            let found = |of: &dyn Fn(f64) -> bool| {
                let chosen: Vec<usize> = candidates.iter().copied().filter(|&at| of(row[at])).collect();
                (chosen.len() as f64, chosen.iter().filter(|&&at| belongs(query, at)).count() as f64)
            };
            let ((before, sure), (equal, drawn)) = (found(&|one| one > last), found(&|one| one == last));
            Ok((sure + drawn * (k as f64 - before) / equal) / k as f64)
        };
        (0..self.queries.len()).map(precision).collect()
    }
}

/// A vector's direction.
fn unit(row: &[f64]) -> Vec<f64> {
    let length = row.iter().map(|number| number * number).sum::<f64>().sqrt().max(1e-12);
    row.iter().map(|number| number / length).collect()
}

/// Ranks in both directions; see [`both_directions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieval {
    /// For each film the rank of its report among the distinct ones.
    pub film_to_report: Vec<usize>,
    /// For each distinct report, in order of its first film, the rank of the first film that has it among all films.
    pub report_to_film: Vec<usize>,
}

/// Films against reports and back. Reports of the same words are one item: each is a hit for every film that has it.
///
/// `images` and `texts` are [films, dim], `reports` the words of each film's report. Of equal reports the first one's
/// vector is taken.
pub fn both_directions(
    images: &[f64],
    texts: &[f64],
    dim: usize,
    reports: &[impl AsRef<str>],
) -> Result<Retrieval, Undefined> {
    lengths(images.len(), reports.len() * dim)?;
    lengths(texts.len(), reports.len() * dim)?;
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let (mut items, mut distinct) = (Vec::new(), Vec::new());
    for (film, report) in reports.iter().enumerate() {
        let next = numbers.len();
        let item = *numbers.entry(report.as_ref()).or_insert(next);
        if item == next {
            distinct.extend(&texts[film * dim..(film + 1) * dim]);
        }
        items.push(item);
    }
    Ok(Retrieval {
        film_to_report: Cosines::new(images, &distinct, dim)?.ranks(|film, item| items[film] == item)?,
        report_to_film: Cosines::new(&distinct, images, dim)?.ranks(|item, film| items[film] == item)?,
    })
}

/// For each query 1 if its rank is at most `k`, else 0: their mean is R@k.
pub fn within(ranks: &[usize], k: usize) -> Vec<f64> {
    ranks.iter().map(|&rank| f64::from(u8::from(rank <= k))).collect()
}

/// The median rank; of an even number the mean of the middle two. `None` without ranks.
pub fn median(ranks: &[usize]) -> Option<f64> {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_reports_are_one_item() {
        let images = [1.0, 0.0, 0.0, 1.0, 1.0, 0.1];
        let found = both_directions(&images, &[2.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2, &["a", "b", "a"]).unwrap();
        assert_eq!(found, Retrieval { film_to_report: vec![1, 1, 1], report_to_film: vec![1, 1] });
        let swapped = both_directions(&images, &[0.0, 1.0, 1.0, 0.0, 0.0, 1.0], 2, &["a", "b", "a"]).unwrap();
        assert_eq!(swapped, Retrieval { film_to_report: vec![2, 2, 2], report_to_film: vec![2, 3] });
    }

    #[test]
    fn a_model_that_finds_all_alike_finds_nothing() {
        let found = both_directions(&[1.0; 6], &[1.0; 6], 2, &["a", "b", "c"]).unwrap();
        assert_eq!(found, Retrieval { film_to_report: vec![3; 3], report_to_film: vec![3; 3] });
        let zeros = both_directions(&[0.0; 6], &[1.0; 6], 2, &["a", "b", "c"]).unwrap();
        assert_eq!(zeros.film_to_report, [3; 3]);
    }

    #[test]
    fn ranks_by_hand() {
        assert_eq!(within(&[1, 2, 6], 5), [1.0, 1.0, 0.0]);
        assert_eq!((median(&[5, 1, 2]), median(&[4, 1, 2, 9]), median(&[])), (Some(2.0), Some(3.0), None));
    }

    #[test]
    fn precision_by_hand() {
        // One query; similarities fall with the angle, the last two are equal.
        let candidates = [1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 0.0, 2.0];
        let cosines = Cosines::new(&[3.0, 0.0], &candidates, 2).unwrap();
        let precision =
            |k| cosines.precisions(k, |_, _| true, |_, candidate| candidate == 1 || candidate == 3).unwrap();
        assert_eq!([precision(1), precision(2), precision(4)], [[0.0], [0.5], [0.5]]);
        assert_eq!(precision(3), [0.5]);
        assert_eq!(cosines.precisions(2, |_, _| true, |_, _| false), Ok(vec![0.0]));
        assert_eq!(cosines.precisions(4, |_, _| true, |_, _| true), Ok(vec![1.0]));
    }

    #[test]
    fn bad_input_is_refused() {
        let cosines = Cosines::new(&[1.0], &[1.0, 2.0], 1).unwrap();
        assert_eq!(cosines.ranks(|_, _| false), Err(Undefined::NoMatch(0)));
        assert_eq!(cosines.precisions(3, |_, _| true, |_, _| true), Err(Undefined::TooFew { candidates: 2, k: 3 }));
        assert_eq!(cosines.precisions(0, |_, _| true, |_, _| true), Err(Undefined::TooFew { candidates: 2, k: 0 }));
        let new = |queries: &[f64], dim| Cosines::new(queries, &[1.0, 2.0], dim).err();
        assert_eq!(new(&[], 1), Some(Undefined::Empty));
        assert_eq!(new(&[1.0], 0), Some(Undefined::Length { found: 1, expected: 0 }));
        assert_eq!(new(&[1.0, 2.0, 3.0], 2), Some(Undefined::Length { found: 3, expected: 2 }));
        assert_eq!(new(&[f64::NAN], 1), Some(Undefined::NotFinite(0)));
        let none: [&str; 0] = [];
        assert_eq!(both_directions(&[], &[], 2, &none), Err(Undefined::Empty));
        assert_eq!(both_directions(&[1.0], &[1.0], 2, &["a"]), Err(Undefined::Length { found: 1, expected: 2 }));
    }
}
