//! [`MaxPool`](super::MaxPool), all channels of a window at once, in parallel over bands of rows.

use rayon::prelude::*;

use super::{MaxPool, Pass};
use crate::base::Number;
use crate::program::HostIo;

/// Rows of dx that one task fills. Windows that reach over the edge of a band are searched by both neighbours.
const BAND: usize = 32;

/// Dispatches on the pass.
pub fn run<N: Number>(op: &MaxPool, io: &mut HostIo<'_, N>) {
    match op.pass {
        Pass::Fwd => forward(op, io),
        Pass::Bwd => backward(op, io),
    }
}

fn forward<N: Number>(op: &MaxPool, io: &mut HostIo<'_, N>) {
    let (y, x) = (io.take(0), io.numbers(0));
    let ([_, height, width, channels], [_, rows, cols, _]): ([usize; 4], [usize; 4]) = (io.dims(0), io.output_dims(0));
    y.par_chunks_mut(cols * channels).enumerate().for_each(|(at, line)| {
        let (image, row) = (&x[at / rows * height * width * channels..], at % rows);
        for (col, best) in line.chunks_exact_mut(channels).enumerate() {
            let span = op.span(col, width);
            best.copy_from_slice(&image[(op.span(row, height).start * width + span.start) * channels..][..channels]);
            for row in op.span(row, height) {
                let taps = &image[(row * width + span.start) * channels..(row * width + span.end) * channels];
                for tap in taps.chunks_exact(channels) {
                    for (best, &number) in best.iter_mut().zip(tap) {
                        *best = if wins(number, *best) { number } else { *best };
                    }
                }
            }
        }
    });
}

/// Whether a later number of a window displaces the best so far.
fn wins<N: Number>(number: N, best: N) -> bool {
    number > best || number.to_f64().is_nan()
}

fn backward<N: Number>(op: &MaxPool, io: &mut HostIo<'_, N>) {
    let (dx, dy, x) = (io.take(0), io.numbers(0), io.numbers(1));
    let ([_, height, width, channels], [_, rows, cols, _]): ([usize; 4], [usize; 4]) = (io.dims(1), io.dims(0));
    let image = height * width * channels;
    dx.par_chunks_mut(image).enumerate().for_each(|(at, dx)| {
        let (x, dy) = (&x[at * image..][..image], &dy[at * rows * cols * channels..]);
        dx.par_chunks_mut(BAND * width * channels).enumerate().for_each(|(band, dx)| {
            dx.fill(N::ZERO);
            let first = band * BAND;
            let (mut best, mut winner) = (vec![N::ZERO; channels], vec![0u32; channels]);
            // Windows that reach below `first` from above start at most a kernel less a pixel higher.
            let windows = (first + op.padding + 1).saturating_sub(op.kernel).div_ceil(op.stride)..rows;
            for row in windows.take_while(|&row| op.span(row, height).start < (first + BAND).min(height)) {
                for col in 0..cols {
                    let spans = [op.span(row, height), op.span(col, width)];
                    search(x, spans, width, &mut best, &mut winner);
                    let gradient = &dy[(row * cols + col) * channels..][..channels];
                    for (channel, (&pixel, &gradient)) in winner.iter().zip(gradient).enumerate() {
                        // Winners in other bands are theirs.
                        let target = (pixel as usize * channels + channel).checked_sub(first * width * channels);
                        if let Some(target) = target.and_then(|target| dx.get_mut(target)) {
                            *target += gradient;
                        }
                    }
                }
            }
        });
    });
}

/// For each channel the pixel (row · width + column) of the first maximum of a window.
fn search<N: Number>(
    x: &[N],
    [rows, cols]: [std::ops::Range<usize>; 2],
    width: usize,
    best: &mut [N],
    winner: &mut [u32],
) {
    let channels = best.len();
    let start = rows.start * width + cols.start;
    best.copy_from_slice(&x[start * channels..][..channels]);
    winner.fill(start as u32);
    for pixel in rows.flat_map(|row| row * width + cols.start..row * width + cols.end) {
        let tap = &x[pixel * channels..][..channels];
        for ((best, winner), &number) in best.iter_mut().zip(winner.iter_mut()).zip(tap) {
            let won = wins(number, *best);
            *winner = if won { pixel as u32 } else { *winner };
            *best = if won { number } else { *best };
        }
    }
}
