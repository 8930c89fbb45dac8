//! The definition of [`Gelu`](super::Gelu).

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use crate::base::Number;
use crate::program::HostIo;

/// Distribution function of the standard normal.
pub fn distribution<N: Number>(x: N) -> N {
    N::of(0.5) * (N::ONE + (x * N::of(FRAC_1_SQRT_2)).erf())
}

/// Density of the standard normal.
pub fn density<N: Number>(x: N) -> N {
    (N::of(-0.5) * x * x).exp() / N::of(TAU.sqrt())
}

/// Φ(x) + x · φ(x).
pub fn slope<N: Number>(x: N) -> N {
    distribution(x) + x * density(x)
}

/// y = x · Φ(x).
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(1) * io.shape(0).last();
    let (x, y) = (io.numbers(0), io.take(0));
    for (y, &x) in y[..real].iter_mut().zip(x) {
        *y = x * distribution(x);
    }
}

/// dx = dy · (Φ(x) + x · φ(x)); `dx` holds dy on entry.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(2) * io.shape(1).last();
    let (x, dx) = (io.numbers(1), io.take(0));
    for (dx, &x) in dx[..real].iter_mut().zip(x) {
        *dx *= slope(x);
    }
}
