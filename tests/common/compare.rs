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
//! by a large neighbour. The plain error of a region with few numbers can be small by luck. Therefore several draws of
//! the same shapes make a [`Yardstick`], and the larger of the two counts: the worst plain error of the draws' tensors
//! for the tensor; for a tile, twice the worst error of the draws' tiles relative to their largest number. A tensor of
//! one tile is judged as a tensor.
//! Comparisons are written so that NaN fails.

/// Rows and columns of a tile.
pub const TILE: usize = 8;

/// How results are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// 64-bit floating point. The truth is no better than the result here: the plain error is the one of f32, scaled
    /// by the ratio of the roundings, and both may err twice as much.
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
            Self::F64 => 4.0 * 2f64.powi(24 - 53),
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

/// Plain errors of several draws of the same shapes, at their worst.
#[derive(Clone, Copy, Default, Debug)]
pub struct Yardstick {
    /// Over a whole tensor.
    tensor: f64,
    /// Over a tile, relative to its largest number.
    tile: f64,
}

impl Yardstick {
    /// Takes another draw into account. What cancels to almost nothing, or jumps because a threshold is met in one
    /// precision and missed in the other, says nothing about other draws, hence the caps.
    pub fn add(&mut self, truth: &[f64], plain: &[f64], columns: usize, storage: Storage) {
        let stored = if storage == Storage::Bf16 { 2.0 * storage.rounding() } else { 0.0 };
        let cap = 256.0 * Storage::F32.rounding() + stored;
        let regions = regions(truth, plain, plain, columns);
        self.tensor = worse(regions[0].plain.min(1e-3 * regions[0].scale), self.tensor);
        for tile in regions[1..].iter().filter(|tile| tile.scale > 0.0) {
            self.tile = worse((tile.plain / tile.scale).min(cap), self.tile);
        }
    }
}

/// Maxima over the whole tensor or one tile.
#[derive(Clone, Copy, Default)]
struct Region {
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
    let mut regions = vec![Region::default(); 1 + across * rows.div_ceil(TILE)];
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

/// Whether `got` is as good as the rule above demands; or where it is not. `columns` is the last extent.
pub fn compare(
    truth: &[f64],
    plain: &[f64],
    got: &[f64],
    columns: usize,
    storage: Storage,
    yardstick: Yardstick,
) -> Result<(), String> {
    if got.len() != truth.len() || plain.len() != truth.len() {
        return Err(format!("{} numbers instead of {}", got.len(), truth.len()));
    }
    let regions = regions(truth, plain, got, columns);
    let judged = if regions.len() == 2 { 1 } else { regions.len() };
    for (at, region) in regions[..judged].iter().enumerate() {
        let usual = if at == 0 { yardstick.tensor } else { 2.0 * yardstick.tile * region.scale };
        let plain_error = worse(region.plain, usual);
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
    }
    Ok(())
}
