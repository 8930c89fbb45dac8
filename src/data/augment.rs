//! Augmentation: what is drawn per film, as the 13 numbers the op `ingest` reads. Pixels are not touched here.
//!
//! | number | meaning |
//! | --- | --- |
//! | 0..9 | row-major homography from an output pixel's centre (x + 0.5, y + 0.5, 1) to the input, divided by its third component; outside the film is 0 |
//! | 9 | brightness: values in [0, 1] are multiplied by it and clamped |
//! | 10 | contrast: then moved away from the film's mean by it and clamped |
//! | 11 | 1: the film is first stretched from its darkest to its brightest value (auto-contrast) |
//! | 12 | 0 nearest (the input pixel that holds the point), 1 bilinear |
//!
//! A recipe is a pure function of (seed, epoch, sample), so neither threads nor resuming change what is drawn.

use serde::{Deserialize, Serialize};

use crate::base::random::Rng;

/// Numbers per film.
pub const NUMBERS: usize = 13;

const STREAM: u32 = u32::from_be_bytes(*b"augm");

/// How films are varied while training. No recipe mirrors a film: the side of a finding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// Ours, mild: rotation within 7 degrees, scale 0.9 to 1.1, shift within 4 % of the side, brightness and
    /// contrast 0.85 to 1.15, bilinear.
    #[default]
    Default,
    /// The paper's: random perspective (distortion 0.5) and auto-contrast, bilinear. Its probabilities are not
    /// published; torchvision's 0.5 is taken. Its random grayscale does nothing to a gray film; its 224-pixel crop
    /// is left to the image size.
    Paper,
    /// The released code's: always a rotation within 15 degrees and a shear along x within 15 degrees, nearest,
    /// then brightness and contrast 0.8 to 1.2.
    Official,
    /// Nothing: films as packed.
    None,
}

impl Recipe {
    /// The numbers of one film [NUMBERS] of side `image_size` pixels.
    pub fn draw(self, image_size: usize, seed: u64, epoch: u64, sample: usize) -> [f32; NUMBERS] {
        let side = image_size as f64;
        let mut rng = Rng::new(seed, STREAM, epoch << 32 ^ sample as u64);
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let (map, brightness, contrast, stretch, bilinear) = match self {
            Self::None => (identity, 1.0, 1.0, false, false),
            Self::Default => {
                let angle = rng.uniform(-7.0, 7.0);
                let scale = rng.uniform(0.9, 1.1);
                let shift = [rng.uniform(-0.04, 0.04) * side, rng.uniform(-0.04, 0.04) * side];
                let map = affine(side, angle, 0.0, scale, shift);
                (map, rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15), false, true)
            }
            Self::Paper => {
                let corners = draw_corners(&mut rng, side, 0.5);
                let map = if rng.chance(0.5) { perspective(corners, side) } else { identity };
                (map, 1.0, 1.0, rng.chance(0.5), true)
            }
            Self::Official => {
                let map = affine(side, rng.uniform(-15.0, 15.0), rng.uniform(-15.0, 15.0), 1.0, [0.0, 0.0]);
                (map, rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2), false, false)
            }
        };
        let mut numbers = [0.0; NUMBERS];
        for (number, value) in numbers.iter_mut().zip(map) {
            *number = value as f32;
        }
        numbers[9..].copy_from_slice(&[brightness as f32, contrast as f32, f32::from(stretch), f32::from(bilinear)]);
        numbers
    }
}

/// Inverse of: shear along x, rotate, scale about the centre, then shift (as torchvision composes `RandomAffine`).
/// Angles in degrees, shift in pixels.
pub(crate) fn affine(side: f64, angle: f64, shear: f64, scale: f64, shift: [f64; 2]) -> [f64; 9] {
    let (sin, cos) = angle.to_radians().sin_cos();
    let tan = shear.to_radians().tan();
    // Forward [[cos, -cos tan - sin], [sin, cos - sin tan]] has determinant 1.
    let [a, b, c, d] = [cos - sin * tan, cos * tan + sin, -sin, cos].map(|value| value / scale);
    let centre = side / 2.0;
    let [x, y] = shift.map(|value| centre + value);
    [a, b, centre - a * x - b * y, c, d, centre - c * x - d * y, 0.0, 0.0, 1.0]
}

/// Where the film's corners go (upper left, upper right, lower right, lower left): each inwards by up to
/// `distortion` of half the side.
fn draw_corners(rng: &mut Rng, side: f64, distortion: f64) -> [[f64; 2]; 4] {
    let mut inwards = || rng.uniform(0.0, distortion * side / 2.0);
    [[false, false], [true, false], [true, true], [false, true]]
        .map(|far| far.map(|far| if far { side - inwards() } else { inwards() }))
}

/// The homography that takes the four corners back to those of the square [0, side] (Heckbert 1989, section 2.2.3:
/// unit square to quadrilateral, inverted by its adjugate).
fn perspective(corners: [[f64; 2]; 4], side: f64) -> [f64; 9] {
    let [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = corners;
    let (dx1, dx2, sx) = (x1 - x2, x3 - x2, x0 - x1 + x2 - x3);
    let (dy1, dy2, sy) = (y1 - y2, y3 - y2, y0 - y1 + y2 - y3);
    let across = dx1 * dy2 - dx2 * dy1;
    let (g, h) = ((sx * dy2 - dx2 * sy) / across, (dx1 * sy - sx * dy1) / across);
    let (a, b, c) = (x1 - x0 + g * x1, x3 - x0 + h * x3, x0);
    let (d, e, f) = (y1 - y0 + g * y1, y3 - y0 + h * y3, y0);
    let adjugate = [
        e - f * h,
        c * h - b,
        b * f - c * e, //
        f * g - d,
        a - c * g,
        c * d - a * f, //
        d * h - e * g,
        b * g - a * h,
        a * e - b * d,
    ];
    let last = adjugate[8];
    std::array::from_fn(|index| adjugate[index] / last * if index < 6 { side } else { 1.0 })
}
