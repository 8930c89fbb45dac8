//! A plane of numbers: smoothing a map over the encoder's cells, and bringing it to the image's size.

use super::{Undefined, finite, lengths};

/// A plane of finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    values: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Grid {
    /// A plane [rows, columns].
    pub fn new(values: Vec<f64>, rows: usize, columns: usize) -> Result<Self, Undefined> {
        lengths(values.len(), rows * columns)?;
        finite(&values)?;
        Ok(Self { values, rows, columns })
    }

    /// The numbers [rows, columns].
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Smoothed by a Gaussian of standard deviation `sigma` cells (BioViL takes 1.5), cut off at four of them and
    /// mirrored at the border with the outermost cell repeated: what `scipy.ndimage.gaussian_filter` does unasked.
    /// A `sigma` that is not above zero smooths nothing.
    pub fn smoothed(&self, sigma: f64) -> Self {
        if !sigma.is_finite() || sigma <= 0.0 {
            return self.clone();
        }
        let radius = (4.0 * sigma + 0.5) as isize;
        let weights: Vec<f64> = (-radius..=radius).map(|at| (-0.5 * (at as f64 / sigma).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        self.by_axis(self.size(), |at, from, _| {
            let near = (-radius..=radius).map(|step| mirrored(at as isize + step, from));
            near.zip(&weights).map(|(at, weight)| (at, weight / sum)).collect()
        })
    }

    /// Brought to [rows, columns]; each pixel takes the cell it lies in, as `torch.nn.functional.interpolate` chooses
    /// it in mode `nearest`: the ratio of the sizes is a float32 there.
    pub fn nearest(&self, rows: usize, columns: usize) -> Result<Self, Undefined> {
        self.resized([rows, columns], |at, from, to| {
            vec![(((at as f32 * (from as f32 / to as f32)) as usize).min(from - 1), 1.0)]
        })
    }

    /// Brought to [rows, columns] by linear interpolation between the centres of cells, as
    /// `torch.nn.functional.interpolate` does in mode `bilinear` without `align_corners`.
    pub fn bilinear(&self, rows: usize, columns: usize) -> Result<Self, Undefined> {
        self.resized([rows, columns], |at, from, to| {
            let place = ((at as f64 + 0.5) * (from as f64 / to as f64) - 0.5).max(0.0);
            let cell = (place as usize).min(from - 1);
            let part = place - cell as f64;
            vec![(cell, 1.0 - part), ((cell + 1).min(from - 1), part)]
        })
    }

    fn resized(&self, to: [usize; 2], taps: impl Fn(usize, usize, usize) -> Taps) -> Result<Self, Undefined> {
        if to.contains(&0) { Err(Undefined::Empty) } else { Ok(self.by_axis(to, taps)) }
    }

    /// A plane of size `to`, rows first, then columns. `taps` (place, old size, new size) are those of one axis.
    fn by_axis(&self, to: [usize; 2], taps: impl Fn(usize, usize, usize) -> Taps) -> Self {
        let axis = |axis: usize| (0..to[axis]).map(move |at| (at, self.size()[axis], to[axis]));
        let mut tall = Vec::with_capacity(to[0] * self.columns);
        for (at, old, new) in axis(0) {
            let taps = taps(at, old, new);
            let sum =
                |x: usize| taps.iter().map(|&(y, weight)| weight * self.values[y * self.columns + x]).sum::<f64>();
            tall.extend((0..self.columns).map(sum));
        }
        let across: Vec<Taps> = axis(1).map(|(at, old, new)| taps(at, old, new)).collect();
        let mut values = Vec::with_capacity(to[0] * to[1]);
        for row in tall.chunks_exact(self.columns) {
            let sum = |taps: &Taps| taps.iter().map(|&(x, weight)| weight * row[x]).sum::<f64>();
            values.extend(across.iter().map(sum));
        }
        Self { values, rows: to[0], columns: to[1] }
    }
}

/// The cells whose weighted sum a new cell is, along one axis.
type Taps = Vec<(usize, f64)>;

/// The cell that stands at `at` when 0..size is mirrored at both ends again and again: c b a | a b c | c b a.
fn mirrored(at: isize, size: usize) -> usize {
    let at = at.rem_euclid(2 * size as isize) as usize;
    at.min(2 * size - 1 - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Grid {
        Grid::new(values.to_vec(), 1, values.len()).unwrap()
    }

    #[test]
    fn mirrored_by_hand() {
        let at: Vec<usize> = (-5..8).map(|at| mirrored(at, 3)).collect();
        assert_eq!(at, [1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]);
        assert_eq!(mirrored(-6, 1), 0);
    }

    #[test]
    fn smoothing_keeps_the_sum_and_a_constant() {
        let smooth = row(&[0.0, 0.0, 7.0, 0.0]).smoothed(1.5);
        assert!((smooth.values().iter().sum::<f64>() - 7.0).abs() < 1e-12);
        assert!(smooth.values()[2] < 3.0 && smooth.values()[0] > 0.5);
        assert!(row(&[2.0; 5]).smoothed(1.5).values().iter().all(|value| (value - 2.0).abs() < 1e-12));
        assert_eq!(row(&[0.0, 3.0]).smoothed(0.0), row(&[0.0, 3.0]));
    }

    #[test]
    fn sizes_by_hand() {
        let two = row(&[0.0, 4.0]);
        assert_eq!(two.nearest(2, 4).unwrap().values(), [0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 4.0, 4.0]);
        assert_eq!(two.bilinear(1, 4).unwrap().values(), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(row(&[0.0, 2.0, 4.0, 6.0]).bilinear(1, 2).unwrap().values(), [1.0, 5.0]);
        assert_eq!(two.bilinear(3, 2).unwrap().size(), [3, 2]);
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(Grid::new(vec![0.0; 3], 2, 2), Err(Undefined::Length { found: 3, expected: 4 }));
        assert_eq!(Grid::new(vec![], 0, 2), Err(Undefined::Empty));
        assert_eq!(Grid::new(vec![0.0, f64::NAN], 1, 2), Err(Undefined::NotFinite(1)));
        assert_eq!(row(&[1.0]).nearest(0, 2), Err(Undefined::Empty));
        assert_eq!(row(&[1.0]).bilinear(2, 0), Err(Undefined::Empty));
    }
}
