//! The one tolerance of all tests.
//!
//! Truth is the reference in f64 on inputs rounded as they are stored. The plain result is the reference in f32 with
//! its outputs rounded as they are stored. A result is accepted if
//!
//! ```text
//! error ≤ 2 · plain error + one rounding of the output
//! ```
//!
//! where error, plain error and the rounding are maxima over a region: the whole tensor, and each tile of 8 x 8 of
//! the tensor seen as a matrix. A rounding is relative to the region's largest number, so a small tile is not judged
//! by a large neighbour.
//!
//! *A region of few numbers.* One plain error can be small, or zero, by luck, and then the rule would refuse a kernel as
//! accurate as the reference: if errors are normal, one error exceeds twice the largest of M others with probability
//! 0.30 for M = 1, 1.5e-5 for M = 64, 1.4e-6 for M = 128, and the suite compares some 1e4 regions. So the plain error
//! of a region is the largest of [`DRAWN`] independent errors. Numbers of a row, or of a column, may share a sum (a
//! mean, a denominator) and err together, so a region has as many as it has rows, or columns if these are fewer; it
//! takes the rest from the same region in further draws of the same shapes ([`Yardstick`]). Errors are relative to what
//! was summed: where the region's largest number is larger than it usually is in these draws, so may be its error, in
//! proportion.
//!
//! *f64.* The truth is no better than the result here: it is one plain error away from the exact value itself, and the
//! result may be two, so they may be three apart. The plain error is the one of f32 times the ratio of the roundings.
//!
//! Comparisons are written so that NaN fails.

/// Rows and columns of a tile.
pub const TILE: usize = 8;

/// How results are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// bfloat16, computed in f32.
    Bf16,
}

impl Storage {
    /// The largest relative error of one rounding.
    pub fn rounding(self) -> f64 {
        match self {
            Self::F64 => 2f64.powi(-53),
            Self::F32 => 2f64.powi(-24),
            Self::Bf16 => 2f64.powi(-8),
        }
    }

    /// How much of the plain error is allowed.
    fn share(self) -> f64 {
        match self {
            Self::F64 => 3.0 * 2f64.powi(24 - 53),
            Self::F32 | Self::Bf16 => 2.0,
        }
    }

    /// The number as it is stored. Inputs of f64 runs are rounded to f32, so that all runs share one truth.
    pub fn round(self, number: f64) -> f64 {
        match self {
            Self::F64 | Self::F32 => f64::from(number as f32),
            Self::Bf16 => half::bf16::from_f64(number).to_f64(),
        }
    }
}

/// How many independent errors stand behind the plain error of a region.
pub const DRAWN: usize = 128;

/// The plain errors of several draws of the same shapes, region by region.
#[derive(Clone, Default, Debug)]
pub struct Yardstick(Vec<Pooled>);

/// A region of all draws together.
#[derive(Clone, Copy, Default, Debug)]
struct Pooled {
    /// The largest plain error.
    plain: f64,
    /// Largest numbers, added up, and of how many draws.
    scales: f64,
    draws: f64,
    independent: usize,
}

impl Yardstick {
    /// Takes another draw into account, where a region has too few errors yet. Draws may have different extents.
    pub fn add(&mut self, truth: &[f64], plain: &[f64], columns: usize) {
        let drawn = regions(truth, plain, plain, columns);
        self.0.resize(self.0.len().max(drawn.len()), Pooled::default());
        for (pooled, region) in self.0.iter_mut().zip(drawn) {
            if pooled.independent < DRAWN {
                pooled.plain = worse(region.plain, pooled.plain);
                pooled.scales += region.scale;
                pooled.draws += 1.0;
                pooled.independent += region.independent;
            }
        }
    }

    /// Of a tensor of which there is no other draw: its tiles stand in for each other. A tile is granted the plain error of
    /// the worst of them by its own scale, but never more than the whole tensor has.
    pub fn of_tiles(truth: &[f64], plain: &[f64], columns: usize) -> Self {
        let regions = regions(truth, plain, plain, columns);
        let [whole, tiles @ ..] = &regions[..] else { return Self::default() };
        let share = |tile: &Region| if tile.scale > 0.0 { tile.plain / tile.scale } else { 0.0 };
        let worst = tiles.iter().map(share).fold(0.0, worse);
        let granted = |region: &Region| Pooled {
            plain: (worst * region.scale).min(whole.plain),
            scales: region.scale,
            draws: 1.0,
            independent: region.independent,
        };
        Self(regions.iter().map(granted).collect())
    }

    /// Whether every region has enough errors.
    pub fn complete(&self) -> bool {
        self.0.iter().all(|pooled| pooled.independent >= DRAWN)
    }

    /// The plain error of a region whose largest number is `scale`.
    fn plain(&self, region: usize, scale: f64) -> f64 {
        let pooled = self.0.get(region).copied().unwrap_or_default();
        pooled.plain * (scale * pooled.draws / pooled.scales).max(1.0)
    }
}

/// Maxima over the whole tensor or one tile.
#[derive(Clone, Copy, Default, Debug)]
struct Region {
    /// Its rows or columns, whichever are fewer.
    independent: usize,
    error: f64,
    worst: usize,
    plain: f64,
    scale: f64,
}

/// The larger of two, and NaN if one of them is.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

/// The whole tensor first, then its tiles. A vector is one row, of which only a part may be given.
fn regions(truth: &[f64], plain: &[f64], got: &[f64], columns: usize) -> Vec<Region> {
    let across = columns.div_ceil(TILE);
    let rows = truth.len().div_ceil(columns);
    let mut regions = vec![Region { independent: rows.min(columns), ..Region::default() }];
    for (down, right) in (0..rows.div_ceil(TILE)).flat_map(|down| (0..across).map(move |right| (down, right))) {
        let independent = (rows - down * TILE).min(columns - right * TILE).min(TILE);
        regions.push(Region { independent, ..Region::default() });
    }
    for at in 0..truth.len() {
        let tile = 1 + at / columns / TILE * across + at % columns / TILE;
        for region in [0, tile] {
            let region = &mut regions[region];
            let error = (got[at] - truth[at]).abs();
            let largest = worse(error, region.error);
            if largest.to_bits() != region.error.to_bits() {
                *region = Region { error: largest, worst: at, ..*region };
            }
            region.plain = worse((plain[at] - truth[at]).abs(), region.plain);
            region.scale = worse(truth[at].abs(), region.scale);
        }
    }
    regions
}

/// How much of what the rule above allows `got` uses up at worst, at most 1; or where it is not good enough. `columns` is
/// the last extent.
pub fn compare(
    truth: &[f64],
    plain: &[f64],
    got: &[f64],
    columns: usize,
    storage: Storage,
    yardstick: &Yardstick,
) -> Result<f64, String> {
    if got.len() != truth.len() || plain.len() != truth.len() {
        return Err(format!("{} numbers instead of {}", got.len(), truth.len()));
    }
    let regions = regions(truth, plain, got, columns);
    let mut used: f64 = 0.0;
    let judged = if regions.len() == 2 { 1 } else { regions.len() };
    for (at, region) in regions[..judged].iter().enumerate() {
        let plain_error = worse(region.plain, yardstick.plain(at, region.scale));
        let bound = storage.share() * plain_error + storage.rounding() * region.scale;
        let ok = region.error <= bound;
        if !ok {
            let Region { error, worst, scale, .. } = region;
            let what = if at == 0 { "tensor" } else { "tile" };
            return Err(format!(
                "error {error:.3e} > {bound:.3e} over a {what} whose largest number is {scale:.3e}; worst at {worst} \
                 (row {}, column {}): {:e} instead of {:e}",
                worst / columns,
                worst % columns,
                got[*worst],
                truth[*worst],
            ));
        }
        if region.error > 0.0 {
            used = used.max(region.error / bound);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 128 x 128 numbers of size 1, in the upper left tile of size 2^-10, and what plain arithmetic made of them.
    fn tensor() -> (Vec<f64>, Vec<f64>) {
        let small = |at: usize| at / 128 < TILE && at % 128 < TILE;
        let number = |at: usize| (0.5 + (at % 97) as f64 / 200.0) * if small(at) { f64::exp2(-10.0) } else { 1.0 };
        let truth: Vec<f64> = (0..128 * 128).map(number).collect();
        let plain = truth.iter().enumerate().map(|(at, number)| number * (1.0 + (at % 7) as f64 * 1e-8)).collect();
        (truth, plain)
    }

    #[test]
    fn tiles_stand_in_for_other_draws() {
        let (truth, plain) = tensor();
        let judge = |change: &dyn Fn(&mut Vec<f64>)| {
            let mut got = truth.clone();
            change(&mut got);
            compare(&truth, &plain, &got, 128, Storage::F32, &Yardstick::of_tiles(&truth, &plain, 128))
        };
        assert!(judge(&|_| {}).is_ok());
        assert!(judge(&|got| got.copy_from_slice(&plain)).is_ok());
        assert!(judge(&|got| got[0] = f64::NAN).is_err());
        assert!(judge(&|got| got[127] *= 1.0 + 1e-6).is_err());
        // An error that the whole tensor would hide.
        assert!(judge(&|got| got[0] += 3e-8).is_err());
    }
}
