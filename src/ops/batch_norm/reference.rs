//! The definition of [`BatchNorm`](super::BatchNorm).

use super::{BatchNorm, Gate};
use crate::base::{Number, Real};
use crate::program::HostIo;

/// Runs the pass.
pub fn run<N: Number>(op: &BatchNorm, io: &mut HostIo<'_, N>) {
    match *op {
        BatchNorm::Train { relu, eps, .. } => {
            let (mean, var) = (io.take(1), io.take(2));
            statistics(io.numbers(0), op.rows(io), mean, var);
            apply(op, relu, eps, mean, var, io);
        }
        BatchNorm::Apply { relu, eps, .. } => apply(op, relu, eps, io.numbers(1), io.numbers(2), io),
        BatchNorm::Running { momentum, .. } => running(momentum.to(), op.rows(io), io),
        BatchNorm::Backward { gate, residual, eps, constant, .. } => backward(op, gate, residual, eps, constant, io),
    }
}

/// Mean and biased variance of each channel over `rows` rows.
fn statistics<N: Number>(x: &[N], rows: usize, mean: &mut [N], var: &mut [N]) {
    let channels = mean.len();
    for (c, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
        let of_channel = || (0..rows).map(|row| x[row * channels + c]);
        *mean = of_channel().sum::<N>() / N::count(rows);
        *var = of_channel().map(|x| (x - *mean) * (x - *mean)).sum::<N>() / N::count(rows);
    }
}

/// What x is normalised by: mean, variance, gamma and beta, each with a number to a channel.
#[derive(Clone, Copy)]
struct Channels<'a, N> {
    mean: &'a [N],
    var: &'a [N],
    affine: Option<(&'a [N], &'a [N])>,
    eps: N,
}

impl<N: Number> Channels<'_, N> {
    /// gamma · (x - mean) / √(var + eps) + beta.
    fn normalised(self, x: N, c: usize) -> N {
        let centred = (x - self.mean[c]) / (self.var[c] + self.eps).sqrt();
        self.affine.map_or(centred, |(gamma, beta)| gamma[c] * centred + beta[c])
    }
}

/// y = relu?(gamma · (x - mean) / √(var + eps) + beta + residual).
fn apply<N: Number>(op: &BatchNorm, relu: bool, eps: Real, mean: &[N], var: &[N], io: &mut HostIo<'_, N>) {
    let (at, channels, rows) = (op.positions(), mean.len(), op.rows(io));
    let [gamma, beta, residual] = [at.gamma, at.beta, at.residual].map(|input| input.map(|input| io.numbers(input)));
    let by = Channels { mean, var, affine: gamma.zip(beta), eps: eps.to() };
    let (x, y) = (io.numbers(0), io.take(0));
    for i in 0..rows * channels {
        let mut value = by.normalised(x[i], i % channels);
        if let Some(residual) = residual {
            value += residual[i];
        }
        // Not `max`, which would hide a NaN.
        y[i] = if relu && value < N::ZERO { N::ZERO } else { value };
    }
}

/// Moves the running statistics, which the outputs hold on entry, and counts the batch.
fn running<N: Number>(momentum: N, rows: usize, io: &mut HostIo<'_, N>) {
    let (mean, var) = (io.numbers(0), io.numbers(1));
    let unbiased = N::count(rows) / N::count(rows.saturating_sub(1).max(1));
    for (running, &mean) in io.take(0).iter_mut().zip(mean) {
        *running = (N::ONE - momentum) * *running + momentum * mean;
    }
    for (running, &var) in io.take(1).iter_mut().zip(var) {
        *running = (N::ONE - momentum) * *running + momentum * unbiased * var;
    }
    io.take_indices(2)[0] += 1;
}

/// dx, d_residual, dgamma, dbeta; the output that overwrites dy holds it on entry.
fn backward<N: Number>(op: &BatchNorm, gate: Gate, residual: bool, eps: Real, constant: bool, io: &mut HostIo<'_, N>) {
    let (at, rows, channels) = (op.positions(), op.rows(io), io.shape(1).last());
    let (x, mean, var) = (io.numbers(1), io.numbers(2), io.numbers(3));
    let [gamma, beta, y] = [at.gamma, at.beta, at.gate].map(|input| input.map(|input| io.numbers(input)));
    let by = Channels { mean, var, affine: gamma.zip(beta), eps: eps.to() };
    let g = io.take(usize::from(residual));
    let open = |i: usize| match (gate, y) {
        (Gate::Open, _) => true,
        (_, Some(y)) => y[i] > N::ZERO,
        (_, None) => by.normalised(x[i], i % channels) > N::ZERO,
    };
    for (i, g) in g[..rows * channels].iter_mut().enumerate() {
        *g = if open(i) { *g } else { N::ZERO };
    }
    let deviation = |c: usize| (var[c] + eps.to()).sqrt();
    let (mut dgamma, mut dbeta) = (vec![N::ZERO; channels], vec![N::ZERO; channels]);
    for i in 0..rows * channels {
        let c = i % channels;
        dgamma[c] += g[i] * (x[i] - mean[c]) / deviation(c);
        dbeta[c] += g[i];
    }
    let dx_of = |i: usize, g: N| {
        let c = i % channels;
        let scale = gamma.map_or(N::ONE, |gamma| gamma[c]) / deviation(c);
        let centred = (x[i] - mean[c]) / deviation(c);
        let through = if constant { N::ZERO } else { (dbeta[c] + centred * dgamma[c]) / N::count(rows) };
        scale * (g - through)
    };
    if residual {
        let dx = io.take(0);
        (0..rows * channels).for_each(|i| dx[i] = dx_of(i, g[i]));
    } else {
        (0..rows * channels).for_each(|i| g[i] = dx_of(i, g[i]));
    }
    if gamma.is_some() {
        io.take(1 + usize::from(residual)).copy_from_slice(&dgamma);
        io.take(2 + usize::from(residual)).copy_from_slice(&dbeta);
    }
}
