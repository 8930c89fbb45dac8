//! The definition of [`LayerNorm`](super::LayerNorm).

use crate::base::{Number, Real};
use crate::program::HostIo;

/// y = gamma · (s - mean) · rstd + beta.
pub fn fwd<N: Number>(residual: bool, eps: Real, io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(0);
    let at_gamma = if residual { 2 } else { 1 };
    let (gamma, beta, extent) = (io.numbers(at_gamma), io.numbers(at_gamma + 1), io.extent(at_gamma + 2));
    let (y, mean, rstd) = (io.take(0), io.take(1), io.take(2));
    let s = if residual {
        let (sum, real) = (io.take(3), extent * channels);
        for (sum, (&x, &residual)) in sum[..real].iter_mut().zip(io.numbers(0).iter().zip(io.numbers(1))) {
            *sum = x + residual;
        }
        sum
    } else {
        io.numbers(0)
    };
    for row in 0..extent {
        let s = &s[row * channels..][..channels];
        let m = s.iter().copied().sum::<N>() / N::count(channels);
        let var = s.iter().map(|&s| (s - m) * (s - m)).sum::<N>() / N::count(channels);
        mean[row] = m;
        rstd[row] = N::ONE / (var + eps.to()).sqrt();
        for (c, y) in y[row * channels..][..channels].iter_mut().enumerate() {
            *y = gamma[c] * (s[c] - m) * rstd[row] + beta[c];
        }
    }
}

/// dx = rstd · (g - mean(g) - ŝ · mean(g · ŝ)); `dx` holds dy on entry.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(1);
    let (s, mean, rstd, gamma, extent) = (io.numbers(1), io.numbers(2), io.numbers(3), io.numbers(4), io.extent(5));
    let (dx, dgamma, dbeta) = (io.take(0), io.take(1), io.take(2));
    dgamma.fill(N::ZERO);
    dbeta.fill(N::ZERO);
    for row in 0..extent {
        let (s, dx) = (&s[row * channels..][..channels], &mut dx[row * channels..][..channels]);
        let centred = |c: usize| (s[c] - mean[row]) * rstd[row];
        let (mut g_mean, mut gs_mean) = (N::ZERO, N::ZERO);
        for c in 0..channels {
            dgamma[c] += dx[c] * centred(c);
            dbeta[c] += dx[c];
            g_mean += dx[c] * gamma[c] / N::count(channels);
            gs_mean += dx[c] * gamma[c] * centred(c) / N::count(channels);
        }
        for c in 0..channels {
            dx[c] = rstd[row] * (dx[c] * gamma[c] - g_mean - centred(c) * gs_mean);
        }
    }
}
