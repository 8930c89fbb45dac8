//! [`LayerNorm`](super::LayerNorm) over fixed blocks of rows in parallel.

use rayon::prelude::*;

use crate::base::{Number, Real};
use crate::program::HostIo;

/// Rows of a block.
const BLOCK: usize = 32;
/// Sums that run side by side within a row.
const LANES: usize = 16;

/// Σ term(a, b) over two rows of one length, in an order that vectorises.
fn sum<N: Number>(a: &[N], b: &[N], term: impl Fn(N, N) -> N) -> N {
    let mut lanes = [N::ZERO; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(a, b);
    }
    lanes.into_iter().sum()
}

/// y = gamma · (s - mean) · rstd + beta.
pub fn fwd<N: Number>(residual: bool, eps: Real, io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(0);
    let at_gamma = if residual { 2 } else { 1 };
    let (gamma, beta, extent) = (io.numbers(at_gamma), io.numbers(at_gamma + 1), io.extent(at_gamma + 2));
    let (real, block) = (extent * channels, BLOCK * channels);
    let x = &io.numbers(0)[..real];
    let s = if residual {
        let sum = &mut io.take(3)[..real];
        let inputs = x.par_chunks(block).zip(io.numbers(1).par_chunks(block));
        sum.par_chunks_mut(block).zip(inputs).for_each(|(sum, (x, residual))| {
            for (sum, (&x, &residual)) in sum.iter_mut().zip(x.iter().zip(residual)) {
                *sum = x + residual;
            }
        });
        &*sum
    } else {
        x
    };
    let (y, mean, rstd) = (&mut io.take(0)[..real], &mut io.take(1)[..extent], &mut io.take(2)[..extent]);
    let rows = mean.par_iter_mut().zip(rstd).with_min_len(BLOCK);
    y.par_chunks_mut(channels).zip(s.par_chunks(channels)).zip(rows).for_each(|((y, s), (mean, rstd))| {
        let m = sum(s, s, |s, _| s) / N::count(channels);
        let var = sum(s, s, |s, _| (s - m) * (s - m)) / N::count(channels);
        let r = N::ONE / (var + eps.to()).sqrt();
        (*mean, *rstd) = (m, r);
        for ((y, &s), (&gamma, &beta)) in y.iter_mut().zip(s).zip(gamma.iter().zip(beta)) {
            *y = gamma * (s - m) * r + beta;
        }
    });
}

/// dx, dgamma, dbeta; `dx` holds dy on entry. Sums over rows are merged in the order of the blocks.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(1);
    let (s, mean, rstd, gamma, extent) = (io.numbers(1), io.numbers(2), io.numbers(3), io.numbers(4), io.extent(5));
    let (dx, dgamma, dbeta) = (&mut io.take(0)[..extent * channels], io.take(1), io.take(2));
    let blocks = dx.par_chunks_mut(BLOCK * channels).zip(s.par_chunks(BLOCK * channels));
    let rows = mean.par_chunks(BLOCK).zip(rstd.par_chunks(BLOCK));
    let partials: Vec<(Vec<N>, Vec<N>)> = (blocks.zip(rows))
        .map(|((dx, s), (mean, rstd))| {
            let (mut dgamma, mut dbeta) = (vec![N::ZERO; channels], vec![N::ZERO; channels]);
            let (mut centred, mut g) = (vec![N::ZERO; channels], vec![N::ZERO; channels]);
            let rows = dx.chunks_exact_mut(channels).zip(s.chunks_exact(channels));
            for ((dx, s), (&mean, &rstd)) in rows.zip(mean.iter().zip(rstd)) {
                centred.iter_mut().zip(s).for_each(|(centred, &s)| *centred = (s - mean) * rstd);
                g.iter_mut().zip(dx.iter().zip(gamma)).for_each(|(g, (&dy, &gamma))| *g = dy * gamma);
                dbeta.iter_mut().zip(&*dx).for_each(|(dbeta, &dy)| *dbeta += dy);
                for (dgamma, (&dy, &centred)) in dgamma.iter_mut().zip(dx.iter().zip(&centred)) {
                    *dgamma += dy * centred;
                }
                let g_mean = sum(&g, &g, |g, _| g) / N::count(channels);
                let gs_mean = sum(&g, &centred, |g, centred| g * centred) / N::count(channels);
                for (dx, (&g, &centred)) in dx.iter_mut().zip(g.iter().zip(&centred)) {
                    *dx = rstd * (g - g_mean - centred * gs_mean);
                }
            }
            (dgamma, dbeta)
        })
        .collect();
    for (c, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
        *dgamma = N::of(partials.iter().map(|(dgamma, _)| dgamma[c].to_f64()).sum());
        *dbeta = N::of(partials.iter().map(|(_, dbeta)| dbeta[c].to_f64()).sum());
    }
}
