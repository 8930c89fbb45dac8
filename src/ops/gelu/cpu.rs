//! [`Gelu`](super::Gelu) over blocks in parallel; in `f32` with an error function and an exponential without branches
//! or calls, which the compiler turns into vector instructions.

use std::any::TypeId;
use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

use rayon::prelude::*;

use super::reference;
use crate::base::Number;
use crate::program::HostIo;

/// Numbers that are one piece of work.
const BLOCK: usize = 4096;

/// y = x · Φ(x).
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(1) * io.shape(0).last();
    let (x, y) = (&io.numbers(0)[..real], &mut io.take(0)[..real]);
    if TypeId::of::<N>() == TypeId::of::<f32>() {
        let (x, y): (&[f32], &mut [f32]) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y));
        each(y, x, |_, x| x * distribution(x));
    } else {
        each(y, x, |_, x| x * reference::distribution(x));
    }
}

/// dx = dy · (Φ(x) + x · φ(x)); `dx` holds dy on entry.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(2) * io.shape(1).last();
    let (x, dx) = (&io.numbers(1)[..real], &mut io.take(0)[..real]);
    if TypeId::of::<N>() == TypeId::of::<f32>() {
        let (x, dx): (&[f32], &mut [f32]) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(dx));
        each(dx, x, |dy, x| dy * (distribution(x) + x * density(x)));
    } else {
        each(dx, x, |dy, x| dy * (reference::distribution(x) + x * reference::density(x)));
    }
}

/// out = of(out, x), number by number.
fn each<N: Number>(out: &mut [N], x: &[N], of: impl Fn(N, N) -> N + Sync) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = of(*out, x));
    });
}

// Inlined always: the loops above become vector instructions only if no call is left in them.

#[inline(always)]
fn distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[inline(always)]
fn density(x: f32) -> f32 {
    const SCALE: f32 = 0.398_942_3; // 1 / √(2π)
    exp(-0.5 * x * x) * SCALE
}

/// Polynomial with the highest coefficient first.
#[inline(always)]
fn polynomial<const TERMS: usize>(x: f32, coefficients: [f32; TERMS]) -> f32 {
    coefficients.into_iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The error function: near 0 as x plus an odd polynomial, elsewhere as 1 - exp(polynomial). Minimax coefficients
/// for single precision; within one unit in the last place or two of libm's.
#[inline(always)]
fn erf(x: f32) -> f32 {
    // From 10 on it is 1; infinity would spoil the polynomial. NaN passes.
    let (square, size) = (x * x, if x.abs() > 10.0 { 10.0 } else { x.abs() });
    let near = polynomial(
        square,
        [-5.967_617e-4, 4.991_194e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1],
    );
    let far = polynomial(
        size,
        [
            -1.728_534_7e-5,
            3.831_971_3e-4,
            -3.883_964_4e-3,
            2.425_462_2e-2,
            -1.067_778_8e-1,
            -6.348_468_7e-1,
            -1.287_175_1e-1,
            0.0,
        ],
    );
    let far = (1.0 - exp(far - size)).copysign(x);
    if size > 0.927_734_4 { far } else { near * x + x }
}

/// e to the power of a number that is not positive; zero from where single precision ends.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const _: () = assert!(LN_2_HIGH + LN_2_LOW == LN_2);
    let clamped = if x < -87.0 { -87.0 } else { x };
    let power = clamped * LOG2_E + ROUND - ROUND;
    let rest = clamped - power * LN_2_HIGH - power * LN_2_LOW;
    let series =
        polynomial(rest, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5, 1.0, 1.0]);
    let two_to_power = f32::from_bits(((clamped * LOG2_E + ROUND).to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { series * two_to_power }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of the registry are too few to meet every binade and both sides of every threshold.
    #[test]
    fn error_function_is_within_two_units_of_libm() {
        for step in -600_000..=600_000i32 {
            let x = step as f32 * 1e-5;
            let (wanted, got) = (libm::erf(f64::from(x)), f64::from(erf(x)));
            let unit = f64::from(f32::EPSILON) * wanted.abs().max(f64::from(f32::MIN_POSITIVE));
            assert!((got - wanted).abs() <= 2.0 * unit, "erf({x}) is {wanted}, got {got}");
        }
    }

    #[test]
    fn exponential_is_within_two_units() {
        for step in 0..=870_000i32 {
            let x = step as f32 * -1e-4;
            let (wanted, got) = (f64::from(x).exp(), f64::from(exp(x)));
            assert!((got - wanted).abs() <= 2.0 * f64::from(f32::EPSILON) * wanted, "exp({x}) is {wanted}, got {got}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_stay_so() {
        assert!(erf(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
    }
}
