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
                        reference::augment(film, width, numbers, plane);
                        reference::image(op.normalise, plane, image);
                    },
                );
            });
        }
    }
}
