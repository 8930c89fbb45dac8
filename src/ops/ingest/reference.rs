//! The definition of [`Ingest`](super::Ingest).

use super::{AUGMENTATION, Ingest, Normalise, Source};
use crate::base::Number;
use crate::program::HostIo;

/// Image by image.
pub fn run<N: Number>(op: &Ingest, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(0);
    let pixels = height * width;
    match op.source {
        Source::Numbers => image(op.normalise, io.numbers(0), io.take(0)),
        Source::Bytes => {
            let planes = io.take(0).chunks_mut(pixels).zip(io.take(1).chunks_mut(3 * pixels));
            let films = io.bytes(0).chunks(pixels).zip(io.numbers(1).chunks(AUGMENTATION));
            for ((film, numbers), (plane, three)) in films.zip(planes) {
                augment(film, width, numbers, plane);
                image(op.normalise, plane, three);
            }
        }
    }
}

/// Gray to three normalised channels.
#[inline(always)]
pub fn image<N: Number>(normalise: Normalise, plane: &[N], image: &mut [N]) {
    let channels = normalise.channels().map(|(mean, deviation)| (N::of(mean), N::of(deviation)));
    for (&gray, pixel) in plane.iter().zip(image.chunks_exact_mut(3)) {
        for (out, (mean, deviation)) in pixel.iter_mut().zip(channels) {
            *out = (gray - mean) / deviation;
        }
    }
}

/// One film, sampled, stretched, brightened and contrasted as its 13 numbers say.
#[inline(always)]
pub fn augment<N: Number>(film: &[u8], width: usize, numbers: &[N], plane: &mut [N]) {
    let grays: Vec<N> = (0..256).map(|byte| N::count(byte) / N::of(255.0)).collect();
    let half = N::of(0.5);
    for (at, out) in plane.iter_mut().enumerate() {
        let (x, y) = (N::count(at % width) + half, N::count(at / width) + half);
        let row = |row: usize| numbers[3 * row] * x + numbers[3 * row + 1] * y + numbers[3 * row + 2];
        let (u, v) = (row(0) / row(2), row(1) / row(2));
        *out = if numbers[12] == N::ZERO {
            gray(film, width, u.floor(), v.floor(), &grays)
        } else {
            let (left, top) = ((u - half).floor(), (v - half).floor());
            let (right, bottom) = (u - half - left, v - half - top);
            let along = |y: N| {
                let values = [left, left + N::ONE].map(|x| gray(film, width, x, y, &grays));
                values[0] * (N::ONE - right) + values[1] * right
            };
            along(top) * (N::ONE - bottom) + along(top + N::ONE) * bottom
        };
        // A homography that sends a pixel to infinity leaves it outside of the film.
        if !out.is_finite() {
            *out = N::ZERO;
        }
    }
    let (darkest, brightest) = plane.iter().fold((N::ONE, N::ZERO), |(low, high), &x| (low.min(x), high.max(x)));
    let clamp = |x: N| x.max(N::ZERO).min(N::ONE);
    let mut sum = N::ZERO;
    for x in plane.iter_mut() {
        if numbers[11] != N::ZERO && darkest < brightest {
            *x = (*x - darkest) / (brightest - darkest);
        }
        *x = clamp(numbers[9] * *x);
        sum += *x;
    }
    let mean = sum / N::count(plane.len());
    for x in plane {
        *x = clamp(numbers[10] * *x + (N::ONE - numbers[10]) * mean);
    }
}

/// The gray of the pixel in column `x` and row `y`; 0 outside of the film.
#[inline(always)]
fn gray<N: Number>(film: &[u8], width: usize, x: N, y: N, grays: &[N]) -> N {
    let (x, y) = (x.to_f64(), y.to_f64());
    let inside = (0.0..width as f64).contains(&x) && (0.0..(film.len() / width) as f64).contains(&y);
    if inside { grays[usize::from(film[y as usize * width + x as usize])] } else { N::ZERO }
}
