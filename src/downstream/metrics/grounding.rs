//! A heat map against the place that a phrase names: pointing game, contrast, overlap over thresholds.

use super::overlap::Overlap;
use super::{Undefined, lengths};

/// Thresholds of [`Grounding::mean_iou`], as BioViL takes them.
pub const THRESHOLDS: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];

/// A heat map with its true region.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounding {
    /// The map's values where it counts, row by row.
    heat: Vec<f64>,
    /// Whether they lie in the region.
    truth: Vec<bool>,
}

impl Grounding {
    /// `heat`, `truth` and `counted` are `[pixels]`. Pixels that do not count (margins outside the crop the model saw)
    /// are left out of everything; without `counted` all count. What `heat` holds there may be anything.
    ///
    /// Undefined if no pixel that counts lies in the region.
    pub fn new(heat: &[f64], truth: &[bool], counted: Option<&[bool]>) -> Result<Self, Undefined> {
        lengths(heat.len(), truth.len())?;
        lengths(counted.map_or(truth.len(), <[bool]>::len), truth.len())?;
        let counts = |at: &usize| counted.is_none_or(|counted| counted[*at]);
        let pixels: Vec<usize> = (0..heat.len()).filter(counts).collect();
        if let Some(&at) = pixels.iter().find(|&&at| !heat[at].is_finite()) {
            return Err(Undefined::NotFinite(at));
        }
        let truth: Vec<bool> = pixels.iter().map(|&at| truth[at]).collect();
        if !truth.contains(&true) {
            return Err(if truth.is_empty() { Undefined::Empty } else { Undefined::NoPositives });
        }
        Ok(Self { heat: pixels.iter().map(|&at| heat[at]).collect(), truth })
    }

    /// Pointing game (Zhang et al., ECCV 2016): whether the hottest pixel lies in the region. Of equally hot ones the
    /// first, row by row, is taken.
    pub fn pointing(&self) -> bool {
        let hottest = self.heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.heat.iter().position(|&heat| heat == hottest).is_some_and(|at| self.truth[at])
    }

    /// Contrast to noise: (mean inside - mean outside) / sqrt(variance inside + variance outside), with the variances
    /// of all pixels (divided by n). Negative where the map is colder inside; MS-CXR's paper prints its magnitude.
    ///
    /// The same for a map scaled by any positive number. Undefined if nothing lies outside or nothing varies.
    pub fn cnr(&self) -> Result<f64, Undefined> {
        let moments = |within: bool| {
            let heat =
                || self.heat.iter().zip(&self.truth).filter(move |&(_, &truth)| truth == within).map(|(&heat, _)| heat);
            let n = heat().count() as f64;
            let mean = heat().sum::<f64>() / n;
            (n, mean, heat().map(|heat| (heat - mean).powi(2)).sum::<f64>() / n)
        };
        let ((_, inside, spread), (others, outside, noise)) = (moments(true), moments(false));
        match (spread + noise).sqrt() {
            _ if others == 0.0 => Err(Undefined::NoNegatives),
            0.0 => Err(Undefined::Constant),
            scale => Ok((inside - outside) / scale),
        }
    }

    /// The map brought to 0..1 by its smallest and largest value where it counts. A constant map becomes zero.
    pub fn normalised(&self) -> Self {
        let low = self.heat.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scale = if high > low { high - low } else { 1.0 };
        Self { heat: self.heat.iter().map(|heat| (heat - low) / scale).collect(), truth: self.truth.clone() }
    }

    /// What lies above `threshold` against the region: IoU and Dice.
    pub fn overlap(&self, threshold: f64) -> Overlap {
        Overlap::count(self.heat.iter().map(|&heat| heat > threshold).zip(self.truth.iter().copied()))
    }

    /// Part of the region that lies above `threshold`.
    pub fn recall(&self, threshold: f64) -> f64 {
        let overlap = self.overlap(threshold);
        overlap.both as f64 / overlap.truth as f64
    }

    /// Mean IoU of the [normalised](Self::normalised) map over [`THRESHOLDS`].
    pub fn mean_iou(&self) -> f64 {
        let normalised = self.normalised();
        THRESHOLDS.iter().map(|&threshold| normalised.overlap(threshold).iou()).sum::<f64>() / THRESHOLDS.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: [bool; 4] = [false, true, true, false];

    #[test]
    fn pointing_takes_the_first_of_equal_maxima() {
        let points = |heat: [f64; 4]| Grounding::new(&heat, &TRUTH, None).unwrap().pointing();
        assert!(points([0.0, 0.1, 0.9, 0.2]));
        assert!(!points([0.9, 0.9, 0.1, 0.2]));
        assert!(points([0.1, 0.9, 0.9, 0.9]));
        assert!(!points([0.5; 4]));
        assert!(!points([-0.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn contrast_by_hand() {
        let map = Grounding::new(&[0.0, 3.0, 5.0, 2.0], &TRUTH, None).unwrap();
        assert!((map.cnr().unwrap() - 3.0 / 2f64.sqrt()).abs() < 1e-15);
        assert!((map.normalised().cnr().unwrap() - 3.0 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(Grounding::new(&[1.0; 4], &TRUTH, None).unwrap().cnr(), Err(Undefined::Constant));
        assert_eq!(Grounding::new(&[1.0, 2.0], &[true; 2], None).unwrap().cnr(), Err(Undefined::NoNegatives));
    }

    #[test]
    fn overlap_over_thresholds_by_hand() {
        let map = Grounding::new(&[0.0, 0.5, 1.0, 0.25], &TRUTH, None).unwrap();
        assert_eq!((map.overlap(0.25).iou(), map.overlap(0.2).iou(), map.recall(0.5)), (1.0, 2.0 / 3.0, 0.5));
        assert_eq!(map.recall(1.0), 0.0);
        // Above 0.1 and 0.2 two of three, above 0.3 and 0.4 all, above 0.5 one of two.
        assert!((map.mean_iou() - (2.0 / 3.0 * 2.0 + 2.0 + 0.5) / 5.0).abs() < 1e-15);
        assert_eq!(Grounding::new(&[7.0; 4], &TRUTH, None).unwrap().mean_iou(), 0.0);
    }

    #[test]
    fn margins_do_not_count() {
        let counted = [false, true, true, true];
        let map = Grounding::new(&[f64::NAN, 0.5, 1.0, 0.25], &TRUTH, Some(&counted)).unwrap();
        let inner = Grounding::new(&[0.5, 1.0, 0.25], &TRUTH[1..], None).unwrap();
        assert_eq!(map, inner);
        let new = |counted: &[bool]| Grounding::new(&[f64::NAN, 0.5, 1.0, 0.25], &TRUTH, Some(counted));
        assert_eq!(new(&[false, false, false, true]), Err(Undefined::NoPositives));
        assert_eq!(new(&[false; 4]), Err(Undefined::Empty));
        assert_eq!(new(&[true; 4]), Err(Undefined::NotFinite(0)));
        assert_eq!(new(&[true; 3]), Err(Undefined::Length { found: 3, expected: 4 }));
    }
}
