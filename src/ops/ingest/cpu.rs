//! [`Ingest`](super::Ingest), images side by side.

use rayon::prelude::*;

use super::{AUGMENTATION, Ingest, Source, reference};
use crate::base::Number;
use crate::cpu::simd;
use crate::program::HostIo;

/// Images do not depend on each other.
pub fn run<N: Number>(op: &Ingest, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(0);
    let pixels = height * width;
    match op.source {
        Source::Numbers => {
            let images = io.take(0).par_chunks_mut(3 * pixels);
            let planes = io.numbers(0).par_chunks(pixels);
            planes.zip(images).for_each(|(plane, image)| reference::image(op.normalise, plane, image));
        }
        Source::Bytes => {
            let outputs = io.take(0).par_chunks_mut(pixels).zip(io.take(1).par_chunks_mut(3 * pixels));
            let films = io.bytes(0).par_chunks(pixels).zip(io.numbers(1).par_chunks(AUGMENTATION));
            films.zip(outputs).for_each(|((film, numbers), (plane, image))| {
                simd::vectorised(
                    #[inline(always)]
                    || {
                        if unchanged(numbers) {
                            let grays: Vec<N> = (0..256).map(|byte| N::count(byte) / N::of(255.0)).collect();
                            plane.iter_mut().zip(film).for_each(|(out, &byte)| *out = grays[usize::from(byte)]);
                        } else {
                            reference::augment(film, width, numbers, plane);
                        }
                        reference::image(op.normalise, plane, image);
                    },
                );
            });
        }
    }
}

/// Whether a film is to be taken as it is: then sampling and stretching give every pixel back, to the bit.
fn unchanged<N: Number>(numbers: &[N]) -> bool {
    const IDENTITY: [f64; 12] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
    numbers.iter().zip(IDENTITY).all(|(&number, same)| number == N::of(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_without_change_are_what_the_definition_gives() {
        let film: Vec<u8> = (0..255).collect();
        for bilinear in [0.0, 1.0] {
            let numbers = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, bilinear];
            assert!(unchanged(&numbers));
            let mut plane = vec![0.0; film.len()];
            reference::augment(&film, 17, &numbers, &mut plane);
            let same = plane.iter().zip(&film).all(|(&gray, &byte)| gray == f32::from(byte) / 255.0);
            assert!(same, "bilinear {bilinear}");
        }
        assert!(!unchanged(&[1.0f32, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]));
    }
}
