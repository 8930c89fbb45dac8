//! Functions of single precision without branches or calls, which the compiler turns into vector instructions; each
//! within two units in the last place of libm's.

use std::f32::consts::{LN_2, LOG2_E};

/// Polynomial with the highest coefficient first.
#[inline(always)]
fn polynomial<const TERMS: usize>(x: f32, coefficients: [f32; TERMS]) -> f32 {
    coefficients.into_iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The error function: near 0 as x plus an odd polynomial, elsewhere as 1 - exp(polynomial). Minimax coefficients
/// for single precision; within one unit in the last place or two of libm's.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
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
pub fn exp(x: f32) -> f32 {
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

/// ln(1 + x) for x in [0, 1]: 2 artanh(x / (2 + x)) by its series, whose argument is at most a third.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let square = s * s;
    let series = polynomial(square, [2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 0.4, 2.0 / 3.0]);
    s * (square * series) + 2.0 * s
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
    fn logarithm_is_within_two_units() {
        for step in 0..=1_000_000i32 {
            let x = step as f32 * 1e-6;
            let (wanted, got) = (f64::from(x).ln_1p(), f64::from(ln_1p(x)));
            assert!(
                (got - wanted).abs() <= 2.0 * f64::from(f32::EPSILON) * wanted,
                "ln_1p({x}) is {wanted}, got {got}"
            );
        }
        assert!(ln_1p(f32::NAN).is_nan());
    }

    #[test]
    fn values_that_are_no_numbers_stay_so() {
        assert!(erf(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
    }
}
