//! A 3 x 3 convolution of an image doubled along both sides (nearest neighbour) without computing on the doubled image:
//! pixels of the doubled image that are copies of one pixel of x meet the sum of their weights. Exact algebra, with 16
//! products for four pixels of y in the place of 36. The skip connection, which is not doubled, is a plain convolution.
//!
//! A pixel i of x, along one side, reaches the pixels 2i − 1 + u of y, u in 0..4, by the weight Σ w\[k\] over the k of
//! [`TAPS`]\[u\]. Seen from x this is a convolution of dy of 4 x 4 and stride 2, which gives d_x and, with the roles of x
//! and dy exchanged, d_w. Seen from y, pixels of parity p see two pixels of x.

use rayon::prelude::*;

use super::cpu::{self, Begin};
use super::geometry::Geometry;
use super::image::{Image, Rows};
use crate::base::Number;
use crate::cpu::matmul::{Matrix, MatrixMut, multiply_parallel};
use crate::cpu::tile::{self, LANES, Product};

/// For each u the weights of a side that meet copies of one pixel.
const TAPS: [&[usize]; 4] = [&[2], &[1, 2], &[0, 1], &[0]];

/// Channels whose weights, of nine taps, stay in a core's first cache beside their sums.
const NEAR: usize = 256;

/// What a pixel of x is to dy: a convolution of dy whose result is d_x.
fn seen_from_x(g: &Geometry) -> Geometry {
    Geometry {
        height: g.out_height,
        width: g.out_width,
        channels: g.outputs,
        skip: 0,
        out_height: g.height / 2,
        out_width: g.width / 2,
        outputs: g.channels,
        kernel: 4,
        stride: 2,
        padding: 1,
        scale: 1,
        ..*g
    }
}

/// The convolution of the skip connection alone.
fn of_skip(g: &Geometry) -> Geometry {
    Geometry { channels: g.skip, skip: 0, scale: 1, ..*g }
}

/// x as it lies, in windows of 3 x 3, of which each parity uses 2 x 2.
fn low(g: &Geometry) -> Geometry {
    let (height, width) = (g.height / 2, g.width / 2);
    Geometry { height, width, out_height: height, out_width: width, skip: 0, scale: 1, ..*g }
}

/// The weights \[outputs, 3, 3, skip\] of the skip connection.
fn of_skips<N: Number>(g: &Geometry, weight: &[N]) -> Vec<N> {
    let mut own = Vec::with_capacity(9 * g.outputs * g.skip);
    weight.chunks_exact(g.depth()).for_each(|tap| own.extend_from_slice(&tap[g.channels..]));
    own
}

/// Sums of the weights \[outputs, 3, 3, depth\] of the channels of x, \[16, outputs, channels\] in any order of tap and
/// output: `place` says which of them (tap, output) a position has.
fn summed<N: Number>(g: &Geometry, weight: &[N], place: impl Fn(usize) -> (usize, usize) + Sync) -> Vec<N> {
    let mut sums = vec![N::ZERO; 16 * g.outputs * g.channels];
    let mut by_output: Vec<Vec<(usize, &mut [N])>> = (0..g.outputs).map(|_| Vec::with_capacity(16)).collect();
    for (at, sums) in sums.chunks_exact_mut(g.channels).enumerate() {
        let (tap, output) = place(at);
        by_output[output].push((tap, sums));
    }
    // Some channels of an output at a time: their weights are read from memory once.
    by_output.into_par_iter().enumerate().for_each(|(output, mut sums)| {
        for first in (0..g.channels).step_by(NEAR) {
            let some = first..(first + NEAR).min(g.channels);
            for (tap, sums) in &mut sums {
                // The first is copied: to read memory that was never written would map each of its pages twice.
                for (at, (ky, kx)) in pairs(*tap).enumerate() {
                    let weight = &weight[((output * 3 + ky) * 3 + kx) * g.depth()..][some.clone()];
                    match at {
                        0 => sums[some.clone()].copy_from_slice(weight),
                        _ => sums[some.clone()].iter_mut().zip(weight).for_each(|(sum, &number)| *sum += number),
                    }
                }
            }
        }
    });
    sums
}

/// The taps of the 3 x 3 kernel behind number `at` of the 4 x 4.
fn pairs(at: usize) -> impl Iterator<Item = (usize, usize)> {
    TAPS[at / 4].iter().flat_map(move |&ky| TAPS[at % 4].iter().map(move |&kx| (ky, kx)))
}

/// y. `many` says whether the weights are too many to be read once per row.
pub fn forward<N: Number>(
    g: &Geometry,
    [x, skip, weight]: [&[N]; 3],
    bias: Option<&[N]>,
    out: &mut [N],
    many: bool,
) {
    let begin = bias.map_or(Begin::Zero, Begin::Bias);
    let mut keep = bias.is_some();
    if g.skip > 0 {
        let weight = of_skips(g, weight);
        let weight = Matrix::new(&weight, g.outputs, 9 * g.skip).transposed();
        let image = Image { geometry: of_skip(g), x: skip, skip: &[] };
        cpu::convolve(&image, weight, begin, Rows::plain(out, g.batch * g.out_height), many);
        keep = true;
    } else if let Some(bias) = bias {
        out.par_chunks_exact_mut(g.outputs).for_each(|pixel| pixel.copy_from_slice(bias));
    }
    // By parity (p, q) of a pixel of y; its window of 2 x 2 pixels (r, s) of x.
    let sums = summed(g, weight, |at| {
        let (p, q, output, r, s) = (at / (8 * g.outputs), at / (4 * g.outputs) % 2, at / 4 % g.outputs, at / 2 % 2, at % 2);
        ((3 - p - 2 * r) * 4 + 3 - q - 2 * s, output)
    });
    let image = Image { geometry: low(g), x, skip: &[] };
    if many { forward_columns(&image, &sums, keep, out) } else { forward_windows(&image, &sums, keep, out) }
}

/// Weights of the pixels of number `at` of the four parities, \[2, 2, channels, outputs\].
fn parity<'a, N: Number>(g: &Geometry, sums: &'a [N], at: usize) -> Matrix<'a, N> {
    let window = 4 * g.channels;
    Matrix::new(&sums[at * g.outputs * window..], g.outputs, window).transposed()
}

/// Each row of y from two padded rows of x, its even and its odd pixels.
fn forward_windows<N: Number>(image: &Image<'_, N>, sums: &[N], keep: bool, out: &mut [N]) {
    let g = &image.geometry;
    let joint = 2 * g.outputs <= LANES;
    // Few output channels: both parities of a row fill a tile together, over three columns of x.
    let (columns, inner) = if joint { (2 * g.outputs, 3 * g.channels) } else { (g.outputs, 2 * g.channels) };
    let weights: Vec<Vec<N>> = (0..4)
        .map(|at| {
            let mut weight = if joint { joined(g, sums, at) } else { parity(g, sums, at).gathered() };
            weight.resize(weight.len() + LANES, N::ZERO); // a tile reads on behind the last
            weight
        })
        .collect();
    let rows = Rows::plain(out, g.batch * 2 * g.height).blocks(2 * cpu::band_rows(image), 2 * g.height);
    rows.into_par_iter().for_each_init(Vec::new, |band, block| {
        let (first, count) = (block.first / 2, block.count / 2);
        block.write(2 * g.width, &mut Vec::new(), |out| {
            image.band(first, count, band);
            for (row, out) in out.chunks_exact_mut(2 * g.width * g.outputs).enumerate() {
                let band = &band[(row / 2 + row % 2) * image.pitch()..];
                for q in 0..if joint { 1 } else { 2 } {
                    let product = Product {
                        a: &band[q * g.channels..],
                        a_strides: [image.pitch(), g.channels, 1],
                        b: &weights[row % 2 * 2 + q],
                        b_strides: [inner * columns, columns],
                        segments: 2,
                        depth: inner,
                    };
                    tile::multiply(&mut out[q * g.outputs..], 2 * g.outputs, [g.width, columns], keep, product);
                }
            }
        });
    });
}

/// Weights of the pixels of row parity `at / 2`, both of a pair at once: \[2, 3, channels, 2, outputs\].
fn joined<N: Number>(g: &Geometry, sums: &[N], at: usize) -> Vec<N> {
    let row = g.channels * g.outputs;
    let mut joined = vec![N::ZERO; 2 * 3 * 2 * row];
    for q in 0..2 {
        for (tap, weight) in parity(g, sums, at / 2 * 2 + q).gathered().chunks_exact(row).enumerate() {
            let target = &mut joined[(tap / 2 * 3 + tap % 2 + q) * 2 * row..][..2 * row];
            for (target, weight) in target.chunks_exact_mut(2 * g.outputs).zip(weight.chunks_exact(g.outputs)) {
                target[q * g.outputs..][..g.outputs].copy_from_slice(weight);
            }
        }
    }
    joined
}

/// For each parity the windows of 2 x 2 copied out, one large product, and its pixels put where they belong.
fn forward_columns<N: Number>(image: &Image<'_, N>, sums: &[N], keep: bool, out: &mut [N]) {
    let g = &image.geometry;
    let (run, line) = (2 * g.channels, 2 * g.width * g.outputs);
    let rows = (cpu::COLUMNS / (g.width * 2 * run)).max(1);
    let (mut columns, mut made) = (Vec::new(), Vec::new());
    for at in 0..4 {
        let [p, q] = [at / 2, at % 2];
        let weight = parity(g, sums, at);
        for block in Rows::plain(out, g.batch * 2 * g.height).blocks(2 * rows, g.batch * 2 * g.height) {
            let (first, count) = (block.first / 2, block.count / 2);
            columns.resize(count * g.width * 2 * run, N::ZERO);
            columns.par_chunks_mut(g.width * 2 * run).enumerate().for_each_init(Vec::new, |band, (row, columns)| {
                image.band(first + row, 1, band);
                for (col, window) in columns.chunks_exact_mut(2 * run).enumerate() {
                    for (r, part) in window.chunks_exact_mut(run).enumerate() {
                        part.copy_from_slice(&band[(p + r) * image.pitch() + (col + q) * g.channels..][..run]);
                    }
                }
            });
            made.resize(count * g.width * g.outputs, N::ZERO);
            let windows = Matrix::new(&columns, count * g.width, 2 * run);
            multiply_parallel(MatrixMut::new(&mut made, count * g.width, g.outputs), N::ZERO, N::ONE, windows, weight);
            block.write(2 * g.width, &mut Vec::new(), |out| {
                let pairs = out.par_chunks_exact_mut(2 * line).zip(made.par_chunks_exact(g.width * g.outputs));
                pairs.for_each(|(out, made)| {
                    let pixels = out[p * line..][..line].chunks_exact_mut(g.outputs).skip(q).step_by(2);
                    for (pixel, made) in pixels.zip(made.chunks_exact(g.outputs)) {
                        match keep {
                            true => pixel.iter_mut().zip(made).for_each(|(sum, &number)| *sum += number),
                            false => pixel.copy_from_slice(made),
                        }
                    }
                });
            });
        }
    }
}

/// d_x and d_skip.
pub fn dgrad<N: Number>(g: &Geometry, dy: &[N], weight: &[N], d_x: &mut [N], d_skip: &mut [N], many: bool) {
    // [u, v, outputs, channels] is how `convolve` takes a kernel of 4 x 4 over the channels of dy.
    let sums = summed(g, weight, |at| (at / g.outputs, at % g.outputs));
    let sums = Matrix::new(&sums, 16 * g.outputs, g.channels);
    let image = Image { geometry: seen_from_x(g), x: dy, skip: &[] };
    cpu::convolve(&image, sums, Begin::Zero, Rows::plain(d_x, g.batch * g.height / 2), many);
    if g.skip > 0 {
        let own = of_skip(g);
        let weight = cpu::turned_weight(&own, &of_skips(g, weight));
        let weight = Matrix::new(&weight, 9 * g.outputs, g.skip);
        let image = Image { geometry: cpu::turned(&own), x: dy, skip: &[] };
        cpu::convolve(&image, weight, Begin::Zero, Rows::plain(d_skip, g.batch * g.height), many);
    }
}

/// d_w \[outputs, 3, 3, depth\].
pub fn wgrad<N: Number>(g: &Geometry, dy: &[N], x: &[N], skip: &[N], out: &mut [N], many: bool) {
    let mut sums = vec![N::ZERO; g.channels * 16 * g.outputs];
    let mut of_skips = vec![N::ZERO; g.outputs * 9 * g.skip];
    // x is to the windows of dy what dy is to those of x.
    let (seen, own) = (Image { geometry: seen_from_x(g), x: dy, skip: &[] }, Image { geometry: of_skip(g), x: skip, skip: &[] });
    if many {
        cpu::wgrad_columns(&seen, x, &mut sums, true);
    } else {
        cpu::wgrad_windows(&seen, x, &mut sums);
    }
    match g.skip {
        0 => {}
        _ if many => cpu::wgrad_columns(&own, dy, &mut of_skips, false),
        _ => cpu::wgrad_windows(&own, dy, &mut of_skips),
    }
    // From one (tap, output) to the next, from one channel to the next.
    let [line, step] = if many { [g.channels, 1] } else { [1, 16 * g.outputs] };
    out.par_chunks_exact_mut(g.depth()).enumerate().for_each(|(at, out)| {
        let (output, tap) = (at / 9, at % 9);
        let (own, behind) = out.split_at_mut(g.channels);
        own.fill(N::ZERO);
        for at in (0..16).filter(|&at| pairs(at).any(|(ky, kx)| 3 * ky + kx == tap)) {
            let sums = sums[(at * g.outputs + output) * line..].iter().step_by(step);
            own.iter_mut().zip(sums).for_each(|(sum, &number)| *sum += number);
        }
        behind.copy_from_slice(&of_skips[at * g.skip..][..g.skip]);
    });
}
