//! How films are varied while a downstream task is learned, as the 13 numbers that the op `ingest` reads.

use super::rand_augment::rand_augment;
use crate::base::Rng;
use crate::data::augment::{NUMBERS, affine};

const IDENTITY: [f64; 9] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
const STREAM: u32 = u32::from_be_bytes(*b"vary");
const RETOUCH: u32 = u32::from_be_bytes(*b"touc");

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varied {
    /// Not at all.
    Nothing,
    /// Half of the films by a scale of 0.9 to 1.1 and a rotation within 10 degrees; masks move along (MGCA's segmentation).
    ScaledRotated,
    /// RandAugment, then a part of 0.2 to 1 of the area, sides 3:4 to 4:3, and half of them mirrored (KAD's fine-tuning).
    Augmented,
}

impl Varied {
    /// The numbers of one film of side `image_size` pixels.
    pub fn draw(self, image_size: usize, seed: u64, step: usize, place: usize) -> [f32; NUMBERS] {
        let side = image_size as f64;
        let mut rng = Rng::new(seed, STREAM, (step as u64) << 20 ^ place as u64);
        let map = match self {
            Self::Nothing => IDENTITY,
            Self::ScaledRotated if rng.chance(0.5) => IDENTITY,
            Self::ScaledRotated => {
                let (angle, scale) = (rng.uniform(-10.0, 10.0), rng.uniform(0.9, 1.1));
                affine(side, angle, 0.0, scale, [0.0, 0.0])
            }
            Self::Augmented => {
                let (area, ratio) = (rng.uniform(0.2, 1.0), rng.uniform(0.75f64.ln(), 0.75f64.recip().ln()).exp());
                let [width, height] = [(area * ratio).sqrt().min(1.0), (area / ratio).sqrt().min(1.0)];
                let (left, top) = (rng.uniform(0.0, 1.0 - width) * side, rng.uniform(0.0, 1.0 - height) * side);
                let (across, left) = if rng.chance(0.5) { (-width, left + width * side) } else { (width, left) };
                [across, 0.0, left, 0.0, height, top, 0.0, 0.0, 1.0]
            }
        };
        numbers(map)
    }

    /// What is done to the pixels [side, side] of a film themselves, before it is moved by the numbers of [`Varied::draw`].
    pub fn retouch(self, pixels: &mut [u8], seed: u64, step: usize, place: usize) {
        if self == Self::Augmented {
            rand_augment(pixels, &mut Rng::new(seed, RETOUCH, (step as u64) << 20 ^ place as u64));
        }
    }
}

/// Only moved, and blended between pixels; brightness and contrast stay, so a mask may move along.
fn numbers(map: [f64; 9]) -> [f32; NUMBERS] {
    let mut numbers = [0.0; NUMBERS];
    numbers.iter_mut().zip(map).for_each(|(number, value)| *number = value as f32);
    numbers[9..].copy_from_slice(&[1.0, 1.0, 0.0, 1.0]);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_film_stay_within_it() {
        for step in 0..200 {
            let numbers = Varied::Augmented.draw(64, 3, step, 1);
            for (x, y) in [(0.0, 0.0), (64.0, 0.0), (0.0, 64.0), (64.0, 64.0)] {
                let at = [numbers[0] * x + numbers[1] * y + numbers[2], numbers[3] * x + numbers[4] * y + numbers[5]];
                assert!(at.iter().all(|&place| (-1e-3..=64.001).contains(&place)), "{step}: {numbers:?}");
            }
        }
    }

    #[test]
    fn draws_repeat_and_differ() {
        let draw = |step, place| Varied::ScaledRotated.draw(64, 1, step, place);
        assert_eq!(draw(4, 5), draw(4, 5));
        assert!((0..8).any(|place| draw(4, place) != draw(4, 0)));
    }
}
