//! Sums of products as Hopper's tensor cores take them, bit for bit.
//!
//! The rule was found by probing (MMA-Sim, arXiv 2511.10909): the products of one instruction's depth and the addend are cut
//! to 25 binary places below the largest exponent among them, towards zero, added exactly, and the sum is cut to f32. The
//! exponent of a product is the sum of its factors'. Sums that are infinite or no number are those of IEEE arithmetic.

/// Binary places kept below the largest exponent.
const PLACES: i32 = 25;

/// Bits of an f32's fraction.
const FRACTION: i32 = 23;

/// Least exponent of an f32.
const LEAST: i32 = -126;

/// Significand (in units of 2^-23) and exponent; subnormals have the least exponent, zero too.
fn parts(value: f32) -> (i64, i32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> FRACTION & 255) as i32, i64::from(bits & 0x7f_ffff));
    let (whole, exponent) = if exponent == 0 { (fraction, LEAST) } else { (fraction | 1 << FRACTION, exponent - 127) };
    (if bits >> 31 == 1 { -whole } else { whole }, exponent)
}

/// A significand of so many places, cut towards zero to [`PLACES`] below another exponent.
fn cut(significand: i64, places: i32, below: i32) -> i64 {
    let shift = places - PLACES + below;
    match shift {
        i32::MIN..0 => significand << -shift,
        0..63 => significand.signum() * (significand.abs() >> shift),
        _ => 0,
    }
}

/// The sum of an addend and of the products of as many factors.
pub fn fused(addend: f32, factors: impl Iterator<Item = (f32, f32)> + Clone) -> f32 {
    let exact: f64 = factors.clone().map(|(a, b)| f64::from(a) * f64::from(b)).sum::<f64>() + f64::from(addend);
    if !exact.is_finite() {
        return if exact.is_nan() { f32::NAN } else { exact as f32 };
    }
    let product = |(a, b): (f32, f32)| {
        let ((a, of_a), (b, of_b)) = (parts(a), parts(b));
        (a * b, of_a + of_b)
    };
    let (first, of_first) = parts(addend);
    let most = factors.clone().map(|pair| product(pair).1).fold(of_first, i32::max);
    let mut sum = cut(first, FRACTION, most - of_first);
    for (significand, exponent) in factors.map(product) {
        sum += cut(significand, 2 * FRACTION, most - exponent);
    }
    rounded(sum, most)
}

/// A sum in units of 2^(exponent - [`PLACES`]), cut to f32.
fn rounded(sum: i64, exponent: i32) -> f32 {
    if sum == 0 {
        return 0.0;
    }
    let top = 63 - sum.unsigned_abs().leading_zeros() as i32;
    let exponent = exponent - PLACES + top;
    // Subnormal results keep fewer bits.
    let lost = (top - FRACTION) + (LEAST - exponent).max(0);
    let whole =
        if lost > 0 { sum.unsigned_abs().checked_shr(lost as u32).unwrap_or(0) } else { sum.unsigned_abs() << -lost };
    let scale = f64::from(exponent.max(LEAST) - FRACTION).exp2();
    let value = (whole as f64 * scale) as f32;
    if sum < 0 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(addend: f32, factors: &[(f32, f32)]) -> f32 {
        fused(addend, factors.iter().copied())
    }

    #[test]
    fn what_fits_is_exact() {
        assert_eq!(sum(0.5, &[(1.5, 2.0), (-3.0, 0.25)]), 2.75);
        assert_eq!(sum(0.0, &[(3.0, 5.0); 16]), 240.0);
        assert_eq!(sum(0.0, &[]).to_bits(), 0);
        assert_eq!(sum(0.0, &[(1e-30, 1e-15), (0.0, 7.0)]), 0.0, "cut away: zero times seven has the larger exponent");
        let subnormal = f32::from_bits(5);
        assert_eq!(sum(subnormal, &[(0.0, 1.0)]), subnormal, "zero has the exponent of subnormals");
        assert_eq!(sum(subnormal, &[(0.0, 256.0)]), 0.0, "and its product with 256 a larger one");
        assert_eq!(sum(f32::MIN_POSITIVE, &[]), f32::MIN_POSITIVE);
        assert_eq!(sum(subnormal, &[]), subnormal);
    }

    #[test]
    fn small_terms_are_cut_towards_zero() {
        let tiny = (2f32).powi(-26);
        assert_eq!(sum(1.0, &[(tiny, 1.0); 16]), 1.0, "each alone lies below the places that are kept");
        let kept = (2f32).powi(-25);
        assert_eq!(sum(1.0, &[(kept, 1.0); 8]), 1.0 + (2f32).powi(-22), "eight of them reach the fraction");
        assert_eq!(sum(1.0, &[(kept, 1.0); 7]), 1.0 + (2f32).powi(-23), "the rest is cut, not rounded");
        assert_eq!(sum(-1.0, &[(-kept, 1.0); 7]), -1.0 - (2f32).powi(-23), "towards zero on both sides");
        assert_eq!(sum(1.0, &[(-tiny, 1.0)]), 1.0);
    }

    #[test]
    fn what_is_no_number_stays_so() {
        assert!(sum(f32::INFINITY, &[(f32::NEG_INFINITY, 1.0)]).is_nan() && sum(0.0, &[(0.0, f32::INFINITY)]).is_nan());
        assert_eq!(sum(0.0, &[(f32::INFINITY, -2.0), (1.0, 1.0)]), f32::NEG_INFINITY);
        assert_eq!(sum(f32::MAX, &[(f32::MAX, 1.0)]), f32::INFINITY);
    }
}
