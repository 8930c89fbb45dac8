//! [`BatchNorm`](super::BatchNorm) in as few passes over memory as there can be: one for the statistics (or the sums
//! of the gradient) and one for the result, both in fixed blocks of rows.
//!
//! Blocks are summed in the type of the numbers and merged in order in `f64`, so results do not depend on the number
//! of threads. Inner loops run over a few rows at a time, so that they are long enough with narrow channels as well.

use rayon::prelude::*;

use super::{BatchNorm, Gate, reference};
use crate::base::{Number, Real};
use crate::cpu::simd;
use crate::program::HostIo;

/// Rows of a block, at least, about; and its numbers.
const BLOCK_ROWS: usize = 256;
const BLOCK: usize = 1 << 13;
/// Least length of an inner loop.
const WIDTH: usize = 64;

/// Runs the pass.
pub fn run<N: Number>(op: &BatchNorm, io: &mut HostIo<'_, N>) {
    match *op {
        BatchNorm::Train { relu, eps, .. } => {
            let (mean, var, rows) = (io.take(1), io.take(2), op.rows(io));
            statistics(&io.numbers(0)[..rows * mean.len()], mean, var);
            apply(op, relu, eps, mean, var, io);
        }
        BatchNorm::Apply { relu, eps, .. } => apply(op, relu, eps, io.numbers(1), io.numbers(2), io),
        BatchNorm::Running { .. } => reference::run(op, io),
        BatchNorm::Backward { gate, residual, eps, constant, .. } => backward(op, gate, residual, eps, constant, io),
    }
}

/// Channels of several rows side by side: the length of an inner loop.
fn width(channels: usize) -> usize {
    channels * (WIDTH / channels).max(1)
}

/// Numbers in a block.
fn block(channels: usize) -> usize {
    width(channels) * ((BLOCK_ROWS * channels).max(BLOCK) / width(channels))
}

/// A vector over channels, repeated to the length of an inner loop.
fn repeated<N: Number>(vector: impl ExactSizeIterator<Item = N>) -> Vec<N> {
    let vector: Vec<N> = vector.collect();
    vector.repeat(width(vector.len()) / vector.len())
}

/// Sums over the rows of an inner loop: one number per channel.
fn folded<N: Number>(wide: &[N], channels: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for row in wide.chunks_exact(channels) {
        sums.iter_mut().zip(row).for_each(|(sum, more)| *sum += more.to_f64());
    }
    sums
}

/// Number of rows, mean and sum of squared deviations of one block.
type Moments = (f64, Vec<f64>, Vec<f64>);

/// The second pass over a block finds it in cache.
fn moments<N: Number>(x: &[N], channels: usize) -> Moments {
    let (width, rows) = (width(channels), (x.len() / channels) as f64);
    let mut sums = vec![N::ZERO; width];
    simd::vectorised(
        #[inline(always)]
        || x.chunks(width).for_each(|x| sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x)),
    );
    let mean: Vec<f64> = folded(&sums, channels).into_iter().map(|sum| sum / rows).collect();
    let (wide_mean, mut squares) = (repeated(mean.iter().map(|&mean| N::of(mean))), vec![N::ZERO; width]);
    simd::vectorised(
        #[inline(always)]
        || {
            for x in x.chunks(width) {
                for ((square, &x), &mean) in squares.iter_mut().zip(x).zip(&wide_mean) {
                    *square = (x - mean).mul_add(x - mean, *square);
                }
            }
        },
    );
    (rows, mean, folded(&squares, channels))
}

/// Mean and biased variance of each channel.
fn statistics<N: Number>(x: &[N], mean: &mut [N], var: &mut [N]) {
    let channels = mean.len();
    let blocks: Vec<Moments> = x.par_chunks(block(channels)).map(|x| moments(x, channels)).collect();
    let rows = (x.len() / channels) as f64;
    for (c, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
        let parts = || blocks.iter().map(|(rows, mean, squares)| (rows, mean[c], squares[c]));
        let whole = parts().map(|(rows, mean, _)| rows * mean).sum::<f64>() / rows;
        let squares: f64 = parts().map(|(rows, mean, squares)| squares + rows * (mean - whole) * (mean - whole)).sum();
        (*mean, *var) = (N::of(whole), N::of(squares / rows));
    }
}

/// gamma / √(var + eps) of each channel, repeated; rounded once.
fn scales<N: Number>(var: &[N], gamma: Option<&[N]>, eps: Real) -> Vec<N> {
    let scale = |(channel, var): (usize, &N)| {
        N::of(gamma.map_or(1.0, |gamma| gamma[channel].to_f64()) / (var.to_f64() + eps.0).sqrt())
    };
    repeated(var.iter().enumerate().map(scale))
}

/// What x is normalised by, each repeated to the length of an inner loop.
struct Channels<N> {
    mean: Vec<N>,
    scale: Vec<N>,
    beta: Vec<N>,
}

impl<N: Number> Channels<N> {
    fn new(mean: &[N], scale: &[N], beta: Option<&[N]>) -> Self {
        let beta = beta.map_or_else(|| vec![N::ZERO; scale.len()], |beta| repeated(beta.iter().copied()));
        Self { mean: repeated(mean.iter().copied()), scale: scale.to_vec(), beta }
    }

    /// Mean, scale and beta side by side.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = ((&N, &N), &N)> {
        self.mean.iter().zip(&self.scale).zip(&self.beta)
    }
}

/// (x - mean) · scale + beta: one expression for both directions, so that its sign is the same in both.
#[inline(always)]
fn normalised<N: Number>(x: N, ((&mean, &scale), &beta): ((&N, &N), &N)) -> N {
    (x - mean).mul_add(scale, beta)
}

/// y = relu?((x - mean) · scale + beta + residual).
fn apply<N: Number>(op: &BatchNorm, relu: bool, eps: Real, mean: &[N], var: &[N], io: &mut HostIo<'_, N>) {
    let (at, channels, rows) = (op.positions(), mean.len(), op.rows(io));
    let [gamma, beta, residual] = [at.gamma, at.beta, at.residual].map(|input| input.map(|input| io.numbers(input)));
    let (width, block) = (width(channels), block(channels));
    let by = Channels::new(mean, &scales(var, gamma, eps), beta);
    let least = if relu { N::ZERO } else { N::LOWEST };
    let gated = |y: N| if y < least { least } else { y };
    let (x, y) = (io.numbers(0), &mut io.take(0)[..rows * channels]);
    y.par_chunks_mut(block).zip(x.par_chunks(block)).enumerate().for_each(|(at, (y, x))| {
        let residual = residual.map(|residual| &residual[at * block..][..y.len()]);
        simd::vectorised(
            #[inline(always)]
            || {
                let lines = y.chunks_mut(width).zip(x.chunks(width));
                match residual {
                    None => lines.for_each(|(y, x)| {
                        y.iter_mut().zip(x).zip(by.iter()).for_each(|((y, &x), c)| *y = gated(normalised(x, c)));
                    }),
                    Some(residual) => lines.zip(residual.chunks(width)).for_each(|((y, x), residual)| {
                        let line = y.iter_mut().zip(x).zip(residual).zip(by.iter());
                        line.for_each(|(((y, &x), &residual), c)| *y = gated(normalised(x, c) + residual));
                    }),
                }
            },
        );
    });
}

/// dx, d_residual, dgamma, dbeta; the output that overwrites dy holds it on entry.
fn backward<N: Number>(op: &BatchNorm, gate: Gate, residual: bool, eps: Real, constant: bool, io: &mut HostIo<'_, N>) {
    let (at, rows, channels) = (op.positions(), op.rows(io), io.shape(1).last());
    let (x, mean, var) = (io.numbers(1), io.numbers(2), io.numbers(3));
    let [gamma, beta, y] = [at.gamma, at.beta, at.gate].map(|input| input.map(|input| io.numbers(input)));
    let real = rows * channels;
    let g = &mut io.take(usize::from(residual))[..real];
    let by = Channels::new(mean, &scales(var, gamma, eps), beta);
    let (g_sums, gx_sums) = gated_sums(g, &x[..real], y, gate, (&by, channels));
    let rstd: Vec<f64> = var.iter().map(|&var| 1.0 / (var.to_f64() + eps.0).sqrt()).collect();
    let through = if constant { 0.0 } else { 1.0 / rows as f64 };
    let shift = repeated(g_sums.iter().map(|sum| N::of(through * sum)));
    let slope = repeated(gx_sums.iter().zip(&rstd).map(|(sum, rstd)| N::of(through * sum * rstd * rstd)));
    let constants = || by.scale.iter().zip(&shift).zip(&by.mean).zip(&slope);
    let gradient = |g: N, x: N, (((&scale, &shift), &mean), &slope): (((&N, &N), &N), &N)| {
        scale * (mean - x).mul_add(slope, g - shift)
    };
    let (width, block) = (width(channels), block(channels));
    if residual {
        let dx = &mut io.take(0)[..real];
        dx.par_chunks_mut(block).zip(g.par_chunks(block)).zip(x.par_chunks(block)).for_each(|((dx, g), x)| {
            simd::vectorised(
                #[inline(always)]
                || {
                    for ((dx, g), x) in dx.chunks_mut(width).zip(g.chunks(width)).zip(x.chunks(width)) {
                        let line = dx.iter_mut().zip(g).zip(x).zip(constants());
                        line.for_each(|(((dx, &g), &x), c)| *dx = gradient(g, x, c));
                    }
                },
            );
        });
    } else {
        g.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(g, x)| {
            simd::vectorised(
                #[inline(always)]
                || {
                    for (g, x) in g.chunks_mut(width).zip(x.chunks(width)) {
                        g.iter_mut().zip(x).zip(constants()).for_each(|((g, &x), c)| *g = gradient(*g, x, c));
                    }
                },
            );
        });
    }
    if gamma.is_some() {
        let (dgamma, dbeta) = (io.take(1 + usize::from(residual)), io.take(2 + usize::from(residual)));
        for (c, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
            (*dgamma, *dbeta) = (N::of(gx_sums[c] * rstd[c]), N::of(g_sums[c]));
        }
    }
}

/// Turns dy into g and gives Σ g and Σ g · (x - mean) for each of so many channels.
fn gated_sums<N: Number>(
    g: &mut [N],
    x: &[N],
    y: Option<&[N]>,
    gate: Gate,
    (by, channels): (&Channels<N>, usize),
) -> (Vec<f64>, Vec<f64>) {
    let (width, block) = (width(channels), block(channels));
    let where_positive = |g: &mut N, y: N| *g = if y > N::ZERO { *g } else { N::ZERO };
    let sums_of_block = |at: usize, g: &mut [N], x: &[N]| {
        let (mut sums, mut products) = (vec![N::ZERO; width], vec![N::ZERO; width]);
        let y = y.map(|y| &y[at * block..][..g.len()]);
        simd::vectorised(
            #[inline(always)]
            || {
                if let Some(y) = y {
                    g.iter_mut().zip(y).for_each(|(g, &y)| where_positive(g, y));
                } else if gate == Gate::Normalised {
                    for (g, x) in g.chunks_mut(width).zip(x.chunks(width)) {
                        g.iter_mut().zip(x).zip(by.iter()).for_each(|((g, &x), c)| where_positive(g, normalised(x, c)));
                    }
                }
                for (g, x) in g.chunks(width).zip(x.chunks(width)) {
                    let sums = sums.iter_mut().zip(&mut products);
                    for (((sum, product), (&g, &x)), &mean) in sums.zip(g.iter().zip(x)).zip(&by.mean) {
                        *sum += g;
                        *product = g.mul_add(x - mean, *product);
                    }
                }
            },
        );
        (folded(&sums, channels), folded(&products, channels))
    };
    let blocks: Vec<(Vec<f64>, Vec<f64>)> = (g.par_chunks_mut(block).zip(x.par_chunks(block)).enumerate())
        .map(|(at, (g, x))| sums_of_block(at, g, x))
        .collect();
    let mut merged = (vec![0.0; channels], vec![0.0; channels]);
    for (sums, products) in blocks {
        merged.0.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
        merged.1.iter_mut().zip(products).for_each(|(product, more)| *product += more);
    }
    merged
}
