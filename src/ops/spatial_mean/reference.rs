//! The definition of [`SpatialMean`](super::SpatialMean).

use super::SpatialMean;
use crate::base::Number;
use crate::program::HostIo;

/// Number by number.
pub fn run<N: Number>(op: &SpatialMean, io: &mut HostIo<'_, N>) {
    let (out, input) = (io.take(0), io.numbers(0));
    let [_, height, width, channels]: [usize; 4] = match op {
        SpatialMean::Fwd => io.dims(0),
        SpatialMean::Bwd { .. } => io.output_dims(0),
    };
    let pixels = height * width;
    match op {
        SpatialMean::Fwd => {
            for (at, out) in out.iter_mut().enumerate() {
                let (image, channel) = (at / channels, at % channels);
                let sum: N = (0..pixels).map(|pixel| input[(image * pixels + pixel) * channels + channel]).sum();
                *out = sum / N::count(pixels);
            }
        }
        SpatialMean::Bwd { .. } => {
            for (at, out) in out.iter_mut().enumerate() {
                let (image, channel) = (at / channels / pixels, at % channels);
                *out = input[image * channels + channel] / N::count(pixels);
            }
        }
    }
}
