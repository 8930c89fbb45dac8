//! Scores against labels: AUC, F1, accuracy, MCC and the thresholds they need.
//!
//! A film is called positive if its score is at least the threshold.

use super::{Undefined, finite, lengths};

/// Area under the ROC curve: how often a positive scores above a negative; equal scores count half. Exact, by ranks
/// (Mann and Whitney 1947).
///
/// `scores` and `positive` are `[films]`. Undefined with one class only.
pub fn auc(scores: &[f64], positive: &[bool]) -> Result<f64, Undefined> {
    let (positives, negatives) = both_classes(scores, positive)?;
    let (mut above, mut twice) = (0, 0); // positives that scored higher; twice the pairs won
    for tied in tied(&descending(scores), scores) {
        let found = count(tied, positive);
        twice += (tied.len() - found) * (2 * above + found);
        above += found;
    }
    Ok(twice as f64 / (2 * positives * negatives) as f64)
}

/// How many films were called what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Positive and called so.
    pub true_positives: usize,
    /// Negative, called positive.
    pub false_positives: usize,
    /// Negative and called so.
    pub true_negatives: usize,
    /// Positive, called negative.
    pub false_negatives: usize,
}

impl Confusion {
    /// Counts `scores` `[films]` of at least `threshold` against `positive` `[films]`.
    pub fn at(scores: &[f64], positive: &[bool], threshold: f64) -> Result<Self, Undefined> {
        check(scores, positive)?;
        let mut counts = Self::default();
        for (&score, &positive) in scores.iter().zip(positive) {
            *match (score >= threshold, positive) {
                (true, true) => &mut counts.true_positives,
                (true, false) => &mut counts.false_positives,
                (false, false) => &mut counts.true_negatives,
                (false, true) => &mut counts.false_negatives,
            } += 1;
        }
        Ok(counts)
    }

    fn positives(&self) -> usize {
        self.true_positives + self.false_negatives
    }

    fn negatives(&self) -> usize {
        self.true_negatives + self.false_positives
    }

    /// Harmonic mean of precision and recall. Undefined without positives.
    pub fn f1(&self) -> Result<f64, Undefined> {
        if self.positives() == 0 {
            return Err(Undefined::NoPositives);
        }
        let wrong = self.false_positives + self.false_negatives;
        Ok(2.0 * self.true_positives as f64 / (2 * self.true_positives + wrong) as f64)
    }

    /// Part of the films that were called what they are. Undefined without films.
    pub fn accuracy(&self) -> Result<f64, Undefined> {
        match self.positives() + self.negatives() {
            0 => Err(Undefined::Empty),
            all => Ok((self.true_positives + self.true_negatives) as f64 / all as f64),
        }
    }

    /// Matthews' correlation coefficient (1975). Zero if all films are called the same; undefined if all are the same.
    pub fn mcc(&self) -> Result<f64, Undefined> {
        let (positives, negatives) = (self.positives() as f64, self.negatives() as f64);
        if self.positives() == 0 {
            return Err(Undefined::NoPositives);
        } else if self.negatives() == 0 {
            return Err(Undefined::NoNegatives);
        }
        let called = (self.true_positives + self.false_positives) as f64;
        let others = (self.true_negatives + self.false_negatives) as f64;
        let agreement = self.true_positives as f64 * self.true_negatives as f64
            - self.false_positives as f64 * self.false_negatives as f64;
        let scale = (positives * negatives).sqrt() * (called * others).sqrt();
        Ok(if scale == 0.0 { 0.0 } else { agreement / scale })
    }
}

/// The score that, taken as threshold, has the best F1 (as MedKLIP chooses it): among equally good ones the lowest.
///
/// `scores` and `positive` are `[films]`. Undefined without positives.
pub fn best_threshold(scores: &[f64], positive: &[bool]) -> Result<f64, Undefined> {
    let positives = check(scores, positive)?;
    let mut counts =
        Confusion { false_negatives: positives, true_negatives: scores.len() - positives, ..Confusion::default() };
    let mut best = (f64::NEG_INFINITY, f64::INFINITY);
    for tied in tied(&descending(scores), scores) {
        let found = count(tied, positive);
        counts.true_positives += found;
        counts.false_negatives -= found;
        counts.false_positives += tied.len() - found;
        counts.true_negatives -= tied.len() - found;
        let f1 = counts.f1()?;
        if f1 >= best.0 {
            best = (f1, scores[tied[0]]);
        }
    }
    Ok(best.1)
}

/// For each film 1 if its highest score is that of its class, else 0; of equally high ones the first class counts.
///
/// `scores` is [films, classes], `labels` `[films]`.
pub fn top1(scores: &[f64], classes: usize, labels: &[usize]) -> Result<Vec<f64>, Undefined> {
    lengths(scores.len(), labels.len() * classes)?;
    finite(scores)?;
    if let Some(&label) = labels.iter().find(|&&label| label >= classes) {
        return Err(Undefined::Label { label, classes });
    }
    let hit = |(scores, &label): (&[f64], &usize)| {
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::from(u8::from(scores.iter().position(|&score| score == highest) == Some(label)))
    };
    Ok(scores.chunks_exact(classes).zip(labels).map(hit).collect())
}

/// Fails unless there is one finite score to each label. Returns how many are positive.
fn check(scores: &[f64], positive: &[bool]) -> Result<usize, Undefined> {
    lengths(scores.len(), positive.len())?;
    finite(scores)?;
    Ok(positive.iter().filter(|&&positive| positive).count())
}

/// How many positives and negatives there are; both at least one.
fn both_classes(scores: &[f64], positive: &[bool]) -> Result<(usize, usize), Undefined> {
    match check(scores, positive)? {
        0 => Err(Undefined::NoPositives),
        all if all == scores.len() => Err(Undefined::NoNegatives),
        positives => Ok((positives, scores.len() - positives)),
    }
}

/// The films from the highest score to the lowest.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Ordered films in groups of equal scores.
fn tied<'a>(order: &'a [usize], scores: &'a [f64]) -> impl Iterator<Item = &'a [usize]> {
    order.chunk_by(|&a, &b| scores[a] == scores[b])
}

fn count(films: &[usize], positive: &[bool]) -> usize {
    films.iter().filter(|&&film| positive[film]).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 5] = [0.1, 0.4, 0.4, 0.8, 0.9];
    const POSITIVE: [bool; 5] = [false, true, false, true, false];

    #[test]
    fn auc_by_hand() {
        // 0.8 wins two of three pairs, 0.4 one and a half.
        assert_eq!(auc(&SCORES, &POSITIVE), Ok(3.5 / 6.0));
        assert_eq!(auc(&[0.3; 5], &POSITIVE), Ok(0.5));
        assert_eq!(auc(&[0.0, -0.0], &[true, false]), Ok(0.5));
        assert_eq!(auc(&[1.0, 2.0], &[false, true]), Ok(1.0));
        assert_eq!(auc(&[1.0, 2.0], &[true, false]), Ok(0.0));
    }

    #[test]
    fn thresholds_by_hand() {
        let at = Confusion::at(&SCORES, &POSITIVE, 0.4).unwrap();
        let expected = Confusion { true_positives: 2, false_positives: 2, true_negatives: 1, false_negatives: 0 };
        assert_eq!(at, expected);
        assert_eq!((at.f1(), at.accuracy()), (Ok(4.0 / 6.0), Ok(0.6)));
        assert!((at.mcc().unwrap() - 2.0 / 24f64.sqrt()).abs() < 1e-15);
        assert_eq!(best_threshold(&SCORES, &POSITIVE), Ok(0.4));
        // In the second case 0.9 and 0.6 are equally good: the lower one.
        let positive = [true, false, true, false, false, false];
        assert_eq!(best_threshold(&[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], &positive), Ok(0.7));
        assert_eq!(best_threshold(&[0.9, 0.8, 0.7, 0.6], &[true, false, false, true]), Ok(0.6));
        // Called all the same way.
        assert_eq!(Confusion::at(&SCORES, &POSITIVE, 2.0).unwrap().mcc(), Ok(0.0));
        assert_eq!(Confusion::at(&SCORES, &POSITIVE, 2.0).unwrap().f1(), Ok(0.0));
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(auc(&[], &[]), Err(Undefined::Empty));
        assert_eq!(auc(&[0.1, f64::NAN], &[true, false]), Err(Undefined::NotFinite(1)));
        assert_eq!(auc(&[0.1], &[true, false]), Err(Undefined::Length { found: 1, expected: 2 }));
        assert_eq!(top1(&[0.1, 0.2], 2, &[2]), Err(Undefined::Label { label: 2, classes: 2 }));
        assert_eq!(top1(&[0.1, f64::INFINITY], 2, &[1]), Err(Undefined::NotFinite(1)));
        assert_eq!(top1(&[], 0, &[1]), Err(Undefined::Empty));
    }

    #[test]
    fn top1_by_hand() {
        assert_eq!(top1(&[0.1, 0.9, 0.5, 0.5, 0.5, 0.5], 2, &[1, 0, 1]), Ok(vec![1.0, 1.0, 0.0]));
    }

    #[test]
    fn one_class_has_no_value_but_accuracy() {
        let counts = |positive| Confusion::at(&[0.2, 0.7], &[positive; 2], 0.5).unwrap();
        let none = Err(Undefined::NoNegatives);
        assert_eq!((auc(&[0.2, 0.7], &[true; 2]), counts(true).mcc()), (none, none));
        assert_eq!((counts(true).f1(), counts(true).accuracy()), (Ok(2.0 / 3.0), Ok(0.5)));
        let none: Result<f64, Undefined> = Err(Undefined::NoPositives);
        let found = [auc(&[0.2, 0.7], &[false; 2]), counts(false).mcc(), counts(false).f1()];
        assert_eq!(found, [none; 3]);
        assert_eq!(counts(false).accuracy(), Ok(0.5));
        assert_eq!(best_threshold(&[0.2], &[false]), Err(Undefined::NoPositives));
    }
}
