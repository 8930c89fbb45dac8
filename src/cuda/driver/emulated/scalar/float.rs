//! Rounding, and arithmetic on f32 and f64 (9.7.3).
//!
//! Results that are NaN are the canonical NaN 0x7fffffff in f32. `.ftz` replaces subnormal inputs and results by zeros
//! of the same sign; `.sat` clamps to [0, 1], NaN to +0.

use super::rows::{map1, map2, map3};
use crate::cuda::driver::emulated::registers::{Registers, Wide, Word};

/// Rounding to a floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`: to nearest, ties to even.
    Nearest,
    /// `.rna`: to nearest, ties away from zero.
    NearestAway,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: towards minus infinity.
    Down,
    /// `.rp`: towards plus infinity.
    Up,
}

/// A binary format with an implicit leading one, subnormals, infinities and NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    mantissa: u32,
    exponent: u32,
    nan: u32,
}

impl Format {
    /// Half precision.
    pub const F16: Self = Self { mantissa: 10, exponent: 5, nan: 0x7fff };
    /// bfloat16.
    pub const BF16: Self = Self { mantissa: 7, exponent: 8, nan: 0x7fff };
    /// TensorFloat-32, in 19 bits.
    pub const TF32: Self = Self { mantissa: 10, exponent: 8, nan: 0x3ffff };
    /// Single precision.
    pub const F32: Self = Self { mantissa: 23, exponent: 8, nan: 0x7fff_ffff };
}

/// `value` in `format`, rounded once; NaN becomes the canonical NaN.
pub fn round(value: f64, format: Format, rounding: Rounding) -> u32 {
    let (bits, least) = (value.to_bits(), 2 - (1i32 << (format.exponent - 1)));
    let sign = ((bits >> 63) as u32) << (format.mantissa + format.exponent);
    if value.is_nan() {
        return format.nan;
    }
    let infinity = ((1 << format.exponent) - 1) << format.mantissa;
    if value == 0.0 || value.is_infinite() {
        return sign | if value == 0.0 { 0 } else { infinity };
    }
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1023;
    let significand = bits & ((1 << 52) - 1) | 1 << 52;
    // The last kept bit has weight 2^quantum; a subnormal f64 is far below every quantum, so its lost bits do not count.
    let quantum = exponent.max(least) - format.mantissa as i32;
    let shift = (quantum - exponent + 52).min(62) as u32;
    let (kept, rest, half) = (significand >> shift, significand & ((1 << shift) - 1), 1 << (shift - 1));
    let up = match rounding {
        Rounding::Nearest => rest > half || rest == half && kept & 1 == 1,
        Rounding::NearestAway => rest >= half,
        Rounding::Zero => false,
        Rounding::Down => value < 0.0 && rest != 0,
        Rounding::Up => value > 0.0 && rest != 0,
    };
    // Below the least exponent `kept` is the subnormal itself; a carry runs into the exponent as it should.
    let base = u64::try_from(exponent - least).unwrap_or(0) << format.mantissa;
    let magnitude = base + kept + u64::from(up);
    if magnitude < u64::from(infinity) {
        return sign | magnitude as u32;
    }
    let to_infinity = match rounding {
        Rounding::Nearest | Rounding::NearestAway => true,
        Rounding::Zero => false,
        Rounding::Down => value < 0.0,
        Rounding::Up => value > 0.0,
    };
    sign | if to_infinity { infinity } else { infinity - 1 }
}

/// The f64 next to `near` + `error` with an odd last bit if that sum is not an f64 (`near` being the nearest one): what
/// is rounded from it to a format of at most 50 bits is rounded as from the exact sum.
pub fn odd(near: f64, error: f64) -> f64 {
    let bits = near.to_bits();
    if error == 0.0 || error.is_nan() || bits & 1 == 1 || !near.is_finite() {
        near
    } else {
        f64::from_bits(if (error > 0.0) == (near > 0.0) { bits + 1 } else { bits - 1 })
    }
}

/// a + b rounded to odd; exact where both are far from the limits of f64, as sums and products of f32 are.
pub fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let other = sum - a;
    odd(sum, (a - (sum - other)) + (b - other))
}

/// As [`odd_sum`]; an exact zero of operands with different signs is -0 where it is rounded down.
fn signed_sum(a: f64, b: f64, rounding: Rounding) -> f64 {
    let sum = odd_sum(a, b);
    let cancelled = sum == 0.0 && a.is_sign_negative() != b.is_sign_negative();
    if cancelled && rounding == Rounding::Down { -0.0 } else { sum }
}

/// a / b rounded to odd, of f32 values.
pub fn odd_quotient(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let rest = (-quotient).mul_add(b, a);
    odd(quotient, if b < 0.0 { -rest } else { rest })
}

/// The square root rounded to odd, of an f32 value.
pub fn odd_root(a: f64) -> f64 {
    let root = a.sqrt();
    odd(root, (-root).mul_add(root, a))
}

/// Modifiers of f32 arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modifiers {
    /// Rounding.
    pub rounding: Rounding,
    /// `.ftz`.
    pub flush: bool,
    /// `.sat`.
    pub saturate: bool,
}

/// Zero of the same sign for a subnormal.
#[inline(always)]
pub fn flush(a: f32) -> f32 {
    if a.abs() < f32::MIN_POSITIVE { f32::from_bits(a.to_bits() & 0x8000_0000) } else { a }
}

/// The bits, or those of the canonical NaN.
#[inline(always)]
pub fn canonical(a: f32) -> u32 {
    if a.is_nan() { Format::F32.nan } else { a.to_bits() }
}

/// [0, 1]; NaN is +0.
#[inline(always)]
pub fn saturate(a: f32) -> f32 {
    if a > 0.0 { a.min(1.0) } else { 0.0 }
}

/// An exactly computed f64 as the instruction's result.
fn finish(exact: f64, modifiers: Modifiers) -> u32 {
    let value = f32::from_bits(round(exact, Format::F32, modifiers.rounding));
    let value = if modifiers.flush { flush(value) } else { value };
    canonical(if modifiers.saturate { saturate(value) } else { value })
}

fn enter(a: u32, modifiers: Modifiers) -> f64 {
    let a = f32::from_bits(a);
    f64::from(if modifiers.flush { flush(a) } else { a })
}

/// f32 operations of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `neg`.
    Negate,
    /// `abs`.
    Abs,
    /// `sqrt.rnd`, and `sqrt.approx` with nearest rounding.
    Root,
    /// `rcp.rnd`, and `rcp.approx`.
    Reciprocal,
    /// `rsqrt.approx`.
    ReciprocalRoot,
    /// `ex2.approx`.
    Exp2,
    /// `lg2.approx`.
    Log2,
    /// `sin.approx`.
    Sin,
    /// `cos.approx`.
    Cos,
    /// `tanh.approx`.
    Tanh,
}

/// Executes a [`Unary`]. Approximations give the nearest f32, which lies within every documented bound.
#[inline(always)]
pub fn unary(op: Unary, m: Modifiers, r: &mut Registers, mask: u32, to: Word, a: Word) {
    let plain = m.rounding == Rounding::Nearest && !m.flush && !m.saturate;
    match op {
        Unary::Negate => map1(r, mask, to, a, move |a| flushed_bits(a, m.flush) ^ 0x8000_0000),
        Unary::Abs => map1(r, mask, to, a, move |a| flushed_bits(a, m.flush) & 0x7fff_ffff),
        Unary::Root if plain => map1(r, mask, to, a, |a| canonical(f32::from_bits(a).sqrt())),
        Unary::Root => map1(r, mask, to, a, move |a| finish(odd_root(enter(a, m)), m)),
        Unary::Reciprocal if plain => map1(r, mask, to, a, |a| canonical(1.0 / f32::from_bits(a))),
        Unary::Reciprocal => map1(r, mask, to, a, move |a| finish(odd_quotient(1.0, enter(a, m)), m)),
        Unary::ReciprocalRoot => approximate(m, r, mask, to, a, |a| 1.0 / a.sqrt()),
        Unary::Exp2 => approximate(m, r, mask, to, a, f64::exp2),
        Unary::Log2 => approximate(m, r, mask, to, a, f64::log2),
        Unary::Sin => approximate(m, r, mask, to, a, f64::sin),
        Unary::Cos => approximate(m, r, mask, to, a, f64::cos),
        Unary::Tanh => approximate(m, r, mask, to, a, f64::tanh),
    }
}

fn flushed_bits(a: u32, ftz: bool) -> u32 {
    if ftz { flush(f32::from_bits(a)).to_bits() } else { a }
}

#[inline(always)]
fn approximate(m: Modifiers, r: &mut Registers, mask: u32, to: Word, a: Word, f: impl Fn(f64) -> f64) {
    map1(r, mask, to, a, move |a| {
        let value = f(enter(a, m)) as f32;
        canonical(if m.flush { flush(value) } else { value })
    });
}

/// f32 operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul`.
    Mul,
    /// `div.rnd`, and `div.full` with nearest rounding.
    Div,
    /// `div.approx`: 0 for divisors above 2^126 (NaN where the dividend is infinite).
    DivApprox,
    /// `min`; with `.NaN`, NaN wins.
    Min {
        /// `.NaN`.
        nan: bool,
    },
    /// `max`.
    Max {
        /// `.NaN`.
        nan: bool,
    },
    /// `copysign`: the sign of a on b.
    CopySign,
}

/// Executes a [`Binary`].
#[inline(always)]
pub fn binary(op: Binary, m: Modifiers, r: &mut Registers, mask: u32, to: Word, [a, b]: [Word; 2]) {
    let ab = (a, b);
    match op {
        Binary::Add => rounded(m, r, mask, to, ab, |a, b| a + b, |a, b| signed_sum(a, b, m.rounding)),
        Binary::Sub => rounded(m, r, mask, to, ab, |a, b| a - b, |a, b| signed_sum(a, -b, m.rounding)),
        Binary::Mul => rounded(m, r, mask, to, ab, |a, b| a * b, |a, b| a * b),
        Binary::Div => rounded(m, r, mask, to, ab, |a, b| a / b, odd_quotient),
        Binary::DivApprox => map2(r, mask, to, ab, move |a, b| {
            let (a, b) = (enter(a, m), enter(b, m));
            let large = b.abs() > f64::from(f32::from_bits(0x7e80_0000)) && b.is_finite();
            finish(if large { if a.is_infinite() { f64::NAN } else { 0.0 * a * b.signum() } } else { a / b }, m)
        }),
        Binary::Min { nan } => map2(r, mask, to, ab, move |a, b| {
            let (x, y) = (f32::from_bits(flushed_bits(a, m.flush)), f32::from_bits(flushed_bits(b, m.flush)));
            minimum(x, y, nan)
        }),
        Binary::Max { nan } => map2(r, mask, to, ab, move |a, b| {
            let (x, y) = (f32::from_bits(flushed_bits(a, m.flush)), f32::from_bits(flushed_bits(b, m.flush)));
            maximum(x, y, nan)
        }),
        Binary::CopySign => map2(r, mask, to, ab, |a, b| a & 0x8000_0000 | b & 0x7fff_ffff),
    }
}

#[inline(always)]
fn rounded(
    m: Modifiers,
    r: &mut Registers,
    mask: u32,
    to: Word,
    ab: (Word, Word),
    native: impl Fn(f32, f32) -> f32,
    exact: impl Fn(f64, f64) -> f64,
) {
    if m.rounding != Rounding::Nearest {
        map2(r, mask, to, ab, move |a, b| finish(exact(enter(a, m), enter(b, m)), m));
    } else if m.flush {
        map2(r, mask, to, ab, move |a, b| {
            let value = flush(native(flush(f32::from_bits(a)), flush(f32::from_bits(b))));
            canonical(if m.saturate { saturate(value) } else { value })
        });
    } else {
        map2(r, mask, to, ab, move |a, b| {
            let value = native(f32::from_bits(a), f32::from_bits(b));
            canonical(if m.saturate { saturate(value) } else { value })
        });
    }
}

/// The smaller one, -0 below +0; the other one if one is NaN, unless NaN wins.
#[inline(always)]
pub fn minimum(a: f32, b: f32, nan_wins: bool) -> u32 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() && b.is_nan() || nan_wins {
            Format::F32.nan
        } else if a.is_nan() {
            b.to_bits()
        } else {
            a.to_bits()
        };
    }
    // Equal numbers differ at most in the sign of zero: the union of the bits is -0 if either is.
    if a == b {
        a.to_bits() | b.to_bits()
    } else if a < b {
        a.to_bits()
    } else {
        b.to_bits()
    }
}

/// The larger one, as [`minimum`].
#[inline(always)]
pub fn maximum(a: f32, b: f32, nan_wins: bool) -> u32 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() && b.is_nan() || nan_wins {
            Format::F32.nan
        } else if a.is_nan() {
            b.to_bits()
        } else {
            a.to_bits()
        };
    }
    if a == b {
        a.to_bits() & b.to_bits()
    } else if a > b {
        a.to_bits()
    } else {
        b.to_bits()
    }
}

/// `fma` of f32.
#[inline(always)]
pub fn fused(m: Modifiers, r: &mut Registers, mask: u32, to: Word, [a, b, c]: [Word; 3]) {
    let from = (a, b, c);
    let native = |a: f32, b: f32, c: f32| a.mul_add(b, c);
    if m.rounding != Rounding::Nearest {
        map3(r, mask, to, from, move |a, b, c| {
            finish(signed_sum(enter(a, m) * enter(b, m), enter(c, m), m.rounding), m)
        });
    } else if m.flush {
        map3(r, mask, to, from, move |a, b, c| {
            let value = flush(native(flush(f32::from_bits(a)), flush(f32::from_bits(b)), flush(f32::from_bits(c))));
            canonical(if m.saturate { saturate(value) } else { value })
        });
    } else {
        map3(r, mask, to, from, move |a, b, c| {
            let value = native(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            canonical(if m.saturate { saturate(value) } else { value })
        });
    }
}

/// f64 operations, rounded to nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Double {
    /// `neg`.
    Negate,
    /// `abs`.
    Abs,
    /// `sqrt.rn`.
    Root,
    /// `rcp.rn`.
    Reciprocal,
    /// `rsqrt.approx`.
    ReciprocalRoot,
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul`.
    Mul,
    /// `div.rn`.
    Div,
    /// `min`.
    Min,
    /// `max`.
    Max,
    /// `copysign`.
    CopySign,
    /// `fma`.
    Fused,
}

/// Executes a [`Double`]; an operation of fewer operands does not look at the others.
#[inline(always)]
pub fn double(op: Double, r: &mut Registers, mask: u32, to: Wide, [a, b, c]: [Wide; 3]) {
    let f = f64::from_bits;
    match op {
        Double::Negate => map1(r, mask, to, a, |a| a ^ 1 << 63),
        Double::Abs => map1(r, mask, to, a, |a| a & !(1 << 63)),
        Double::Root => map1(r, mask, to, a, move |a| f(a).sqrt().to_bits()),
        Double::Reciprocal => map1(r, mask, to, a, move |a| (1.0 / f(a)).to_bits()),
        Double::ReciprocalRoot => map1(r, mask, to, a, move |a| (1.0 / f(a).sqrt()).to_bits()),
        Double::Add => map2(r, mask, to, (a, b), move |a, b| (f(a) + f(b)).to_bits()),
        Double::Sub => map2(r, mask, to, (a, b), move |a, b| (f(a) - f(b)).to_bits()),
        Double::Mul => map2(r, mask, to, (a, b), move |a, b| (f(a) * f(b)).to_bits()),
        Double::Div => map2(r, mask, to, (a, b), move |a, b| (f(a) / f(b)).to_bits()),
        Double::Min => map2(r, mask, to, (a, b), move |a, b| match () {
            () if f(a).is_nan() => b,
            () if f(a) == f(b) => a | b,
            () => {
                if f(b) < f(a) {
                    b
                } else {
                    a
                }
            }
        }),
        Double::Max => map2(r, mask, to, (a, b), move |a, b| match () {
            () if f(a).is_nan() => b,
            () if f(a) == f(b) => a & b,
            () => {
                if f(b) > f(a) {
                    b
                } else {
                    a
                }
            }
        }),
        Double::CopySign => map2(r, mask, to, (a, b), |a, b| a & 1 << 63 | b & !(1 << 63)),
        Double::Fused => map3(r, mask, to, (a, b, c), move |a, b, c| f(a).mul_add(f(b), f(c)).to_bits()),
    }
}
