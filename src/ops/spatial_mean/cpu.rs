//! [`SpatialMean`](super::SpatialMean), one image a task.

use rayon::prelude::*;

use super::SpatialMean;
use crate::base::Number;
use crate::program::HostIo;

/// Pixel by pixel, all channels at once.
pub fn run<N: Number>(op: &SpatialMean, io: &mut HostIo<'_, N>) {
    let (out, input) = (io.take(0), io.numbers(0));
    let [_, height, width, channels]: [usize; 4] = match op {
        SpatialMean::Fwd => io.dims(0),
        SpatialMean::Bwd { .. } => io.output_dims(0),
    };
    let (pixels, share) = (height * width, N::ONE / N::count(height * width));
    match op {
        SpatialMean::Fwd => {
            let images = out.par_chunks_mut(channels).zip(input.par_chunks(pixels * channels));
            images.for_each(|(mean, image)| {
                mean.fill(N::ZERO);
                for pixel in image.chunks_exact(channels) {
                    mean.iter_mut().zip(pixel).for_each(|(mean, &number)| *mean += number);
                }
                mean.iter_mut().for_each(|mean| *mean *= share);
            });
        }
        SpatialMean::Bwd { .. } => {
            let images = out.par_chunks_mut(pixels * channels).zip(input.par_chunks(channels));
            images.for_each(|(image, gradient)| {
                for pixel in image.chunks_exact_mut(channels) {
                    pixel.iter_mut().zip(gradient).for_each(|(out, &number)| *out = number * share);
                }
            });
        }
    }
}
