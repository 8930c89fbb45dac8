//! Overlap of binary masks, by both conventions in use: every image, where an empty truth has a score of its own, and
//! images with something to find only.

use super::{Undefined, lengths};

/// What two masks of one image have in common, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Pixels in both.
    pub both: usize,
    /// Pixels of the predicted mask.
    pub predicted: usize,
    /// Pixels of the true mask.
    pub truth: usize,
}

impl Overlap {
    /// Counts two masks `[pixels]` of one image.
    pub fn of(predicted: &[bool], truth: &[bool]) -> Result<Self, Undefined> {
        lengths(predicted.len(), truth.len())?;
        Ok(Self::count(predicted.iter().copied().zip(truth.iter().copied())))
    }

    /// Counts pixels: predicted, true.
    pub(super) fn count(pixels: impl Iterator<Item = (bool, bool)>) -> Self {
        pixels.fold(Self { both: 0, predicted: 0, truth: 0 }, |counts, (predicted, truth)| Self {
            both: counts.both + usize::from(predicted && truth),
            predicted: counts.predicted + usize::from(predicted),
            truth: counts.truth + usize::from(truth),
        })
    }

    /// Whether there is something to find.
    pub fn is_positive(&self) -> bool {
        self.truth > 0
    }

    /// Twice the common part over the sum. With an empty truth 1 if nothing is predicted and 0 otherwise, as MGCA and
    /// GLoRIA count it.
    pub fn dice(&self) -> f64 {
        self.part(2 * self.both, self.predicted + self.truth)
    }

    /// The common part over the union. With an empty truth as [`dice`](Self::dice).
    pub fn iou(&self) -> f64 {
        self.part(self.both, self.predicted + self.truth - self.both)
    }

    fn part(&self, of: usize, whole: usize) -> f64 {
        if whole == 0 { 1.0 } else { of as f64 / whole as f64 }
    }
}

/// A measure of every image ([`Overlap::dice`], [`Overlap::iou`]).
pub fn all(images: &[Overlap], measure: fn(&Overlap) -> f64) -> Vec<f64> {
    images.iter().map(measure).collect()
}

/// A measure of the images with something to find; empty if there are none.
pub fn positives(images: &[Overlap], measure: fn(&Overlap) -> f64) -> Vec<f64> {
    images.iter().filter(|image| image.is_positive()).map(measure).collect()
}

/// The mean of each batch of `batch` values in turn. The published figure is the mean of these means: the last batch,
/// which may be smaller, weighs as much as the others. With `batch` 0, one batch of all.
pub fn batch_means(values: &[f64], batch: usize) -> Vec<f64> {
    let size = if batch == 0 { values.len().max(1) } else { batch };
    values.chunks(size).map(|part| part.iter().sum::<f64>() / part.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_by_hand() {
        let both = Overlap::of(&[true, true, false, false], &[true, false, true, true]).unwrap();
        assert_eq!(both, Overlap { both: 1, predicted: 2, truth: 3 });
        assert_eq!((both.dice(), both.iou()), (2.0 / 5.0, 1.0 / 4.0));
        let same = Overlap::of(&[true; 3], &[true; 3]).unwrap();
        assert_eq!((same.dice(), same.iou()), (1.0, 1.0));
        let missed = Overlap::of(&[false; 3], &[true; 3]).unwrap();
        assert_eq!((missed.dice(), missed.iou()), (0.0, 0.0));
    }

    #[test]
    fn an_empty_truth_scores_one_only_if_nothing_is_predicted() {
        let empty = Overlap::of(&[false; 2], &[false; 2]).unwrap();
        assert_eq!((empty.dice(), empty.iou(), empty.is_positive()), (1.0, 1.0, false));
        let wrong = Overlap::of(&[false, true], &[false; 2]).unwrap();
        assert_eq!((wrong.dice(), wrong.iou(), wrong.is_positive()), (0.0, 0.0, false));
    }

    #[test]
    fn conventions_differ() {
        let images = [
            Overlap { both: 0, predicted: 0, truth: 0 },
            Overlap { both: 2, predicted: 4, truth: 4 },
            Overlap { both: 0, predicted: 3, truth: 0 },
        ];
        assert_eq!(all(&images, Overlap::dice), [1.0, 0.5, 0.0]);
        assert_eq!(positives(&images, Overlap::dice), [0.5]);
        assert_eq!(positives(&images[..1], Overlap::iou), [0.0; 0]);
        assert_eq!(batch_means(&[1.0, 0.5, 0.0], 2), [0.75, 0.0]);
        assert_eq!(batch_means(&[1.0, 0.5, 0.0], 0), [0.5]);
        assert_eq!(batch_means(&[], 0), [0.0; 0]);
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(Overlap::of(&[], &[]), Err(Undefined::Empty));
        assert_eq!(Overlap::of(&[true], &[true; 2]), Err(Undefined::Length { found: 1, expected: 2 }));
    }
}
