//! Floats of at most 32 bits, computed in f64 with the sign of what f64 lost, and rounded once; f64 as the host does it.

use super::Form;

/// A format of floats: digits of the significand with the leading one, least exponent, bits.
#[derive(Clone, Copy, PartialEq)]
pub struct Format {
    digits: i32,
    least: i32,
    bits: u32,
    /// Bits of the significand beyond the digits, all zero.
    spare: u32,
}

impl Format {
    pub fn parse(word: &str) -> Option<Self> {
        let format = |digits, least, bits, spare| Some(Self { digits, least, bits, spare });
        match word {
            "f16" => format(11, -14, 16, 0),
            "bf16" => format(8, -126, 16, 0),
            "tf32" => format(11, -126, 32, 13),
            "f32" => format(24, -126, 32, 0),
            "f64" => format(53, -1022, 64, 0),
            _ => None,
        }
    }

    /// Bits of the stored significand.
    fn stored(self) -> u32 {
        self.digits as u32 - 1 + self.spare
    }

    fn largest(self) -> f64 {
        (2.0 - power(1 - self.digits)) * power(1 - self.least)
    }

    fn decode(self, bits: u64) -> f64 {
        if self.bits == 64 {
            return f64::from_bits(bits);
        }
        let stored = self.stored();
        let sign = if bits >> (self.bits - 1) & 1 == 1 { -1.0 } else { 1.0 };
        let fraction = (bits & ((1 << stored) - 1)) as f64 * power(-(stored as i32));
        let exponent = (bits >> stored) as i32 & ((1 << (self.bits - 1 - stored)) - 1);
        sign * match exponent {
            0 => fraction * power(self.least),
            top if top == 3 - 2 * self.least => {
                if fraction == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            _ => (1.0 + fraction) * power(exponent - 1 + self.least),
        }
    }

    /// The bits of a value that the format holds; a NaN has one form, and of 64 bits none.
    fn encode(self, value: f64) -> Option<u64> {
        if value.is_nan() {
            return if self.bits == 64 { None } else { Some((1 << (self.bits - 1)) - (1 << self.spare)) };
        }
        if self.bits == 64 {
            return Some(value.to_bits());
        }
        let (stored, sign) = (self.stored(), u64::from(value.is_sign_negative()) << (self.bits - 1));
        let size = value.abs();
        if size.is_infinite() {
            return Some(sign | (3 - 2 * i64::from(self.least)).cast_unsigned() << stored);
        }
        let exponent = exponent(size).max(self.least);
        let whole = (size * power(stored as i32 - exponent)) as u64;
        Some(sign | ((u64::from((exponent - self.least) as u32) << stored) + whole))
    }
}

/// 2 to the power of a number.
fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// The exponent of a positive number; far below all others' of 0.
fn exponent(size: f64) -> i32 {
    (size.to_bits() >> 52) as i32 - 1023
}

/// A real number: the nearest f64, and on which side of it the number lies.
#[derive(Clone, Copy)]
struct Real(f64, f64);

impl Real {
    fn sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let of_b = sum - a;
        Self(sum, (a - (sum - of_b)) + (b - of_b))
    }

    fn quotient(a: f64, b: f64) -> Self {
        let quotient = a / b;
        Self(quotient, (-quotient).mul_add(b, a) * b.signum())
    }

    fn root(a: f64) -> Self {
        let root = a.sqrt();
        Self(root, (-root).mul_add(root, a))
    }

    /// With 53 digits, the last of which is odd if the number is not exactly that, so that rounding it again is right.
    fn odd(self) -> f64 {
        let Self(value, rest) = self;
        if !value.is_finite() || rest == 0.0 || rest.is_nan() {
            return value;
        }
        let inward = (rest < 0.0) == (value > 0.0);
        f64::from_bits((value.to_bits() - u64::from(inward)) | 1)
    }
}

/// The multiple of `unit` that a rounding chooses.
fn whole(form: &Form<'_>, value: f64) -> f64 {
    let any = |words: [&str; 2]| words.iter().any(|word| form.has(word));
    match () {
        () if any(["rz", "rzi"]) => value.trunc(),
        () if any(["rm", "rmi"]) => value.floor(),
        () if any(["rp", "rpi"]) => value.ceil(),
        () if form.has("rna") => value.round(),
        () => value.round_ties_even(),
    }
}

/// Rounds to a format; zeros and what has no digits stay as they are.
fn rounded(form: &Form<'_>, format: Format, real: Real) -> f64 {
    let value = real.odd();
    if value == 0.0 || !value.is_finite() || format.bits == 64 {
        return value;
    }
    let unit = power(exponent(value.abs()).max(format.least) + 1 - format.digits);
    let result = whole(form, value / unit) * unit;
    if result.abs() <= format.largest() {
        return result;
    }
    let inward = form.has("rz") || form.has(if value > 0.0 { "rm" } else { "rp" });
    value.signum() * if inward { format.largest() } else { f64::INFINITY }
}

/// `.ftz`.
fn flushed(form: &Form<'_>, format: Format, value: f64) -> f64 {
    if form.has("ftz") && value.abs() < power(format.least) { 0f64.copysign(value) } else { value }
}

/// `.ftz`, `.sat`, `.relu` of a result.
fn finished(form: &Form<'_>, format: Format, value: f64) -> Option<u64> {
    let value = flushed(form, format, value);
    let value = match () {
        () if form.has("sat") && (value.is_nan() || value <= 0.0) => 0.0,
        () if form.has("sat") => value.min(1.0),
        () if form.has("relu") && value <= 0.0 => 0.0,
        () => value,
    };
    format.encode(value)
}

/// An operand's value.
pub fn operand(form: &Form<'_>, format: Format, bits: u64) -> f64 {
    flushed(form, format, format.decode(bits))
}

/// The result of a form of this format; no value for any NaN.
pub fn result(form: &Form<'_>, format: Format, x: &[u64]) -> Option<Option<u64>> {
    let v = |at: usize| operand(form, format, x[at]);
    let (a, top) = (v(0), 1u64 << (format.bits - 1));
    let real = |value: f64| Some(Real(value, 0.0));
    let sum = |a: f64, b: f64| {
        let sum = Real::sum(a, b);
        // Opposite numbers make -0 only where everything is rounded down.
        if sum.0 == 0.0 && sum.1 == 0.0 && form.has("rm") && (a.is_sign_negative() || b.is_sign_negative()) {
            return Some(Real(-0.0, 0.0));
        }
        Some(sum)
    };
    let exact = match form.op {
        "abs" => return Some(format.encode(a).map(|bits| bits & (top - 1))),
        "neg" => return Some(format.encode(a).map(|bits| bits ^ top)),
        "copysign" => return Some(Some(x[1] & (top - 1) | x[0] & top)),
        "min" | "max" => real(extreme(form, a, v(1))),
        "add" => sum(a, v(1)),
        "sub" => sum(a, -v(1)),
        "fma" | "mad" if format.bits == 64 => real(a.mul_add(v(1), v(2))),
        "fma" | "mad" => sum(a * v(1), v(2)),
        "mul" => real(a * v(1)),
        "div" if form.has("approx") && v(1).is_finite() && v(1).abs() > power(126) => real(a * 0.0 * v(1).signum()),
        "div" => Some(Real::quotient(a, v(1))),
        "rcp" => Some(Real::quotient(1.0, a)),
        "sqrt" => Some(Real::root(a)),
        "rsqrt" => real(1.0 / a.sqrt()),
        "ex2" => real(a.exp2()),
        "lg2" => real(a.log2()),
        "sin" => real(a.sin()),
        "cos" => real(a.cos()),
        "tanh" => real(a.tanh()),
        _ => None,
    }?;
    // A host computes f64 as it is asked to; what it lost is of no interest.
    let exact = if format.bits == 64 { Real(exact.0, 0.0) } else { exact };
    Some(finished(form, format, rounded(form, format, exact)))
}

fn extreme(form: &Form<'_>, a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        let other = if a.is_nan() { b } else { a };
        return if form.has("NaN") { f64::NAN } else { other };
    }
    // -0 lies below +0.
    let swap = a.total_cmp(&b).is_gt() == (form.op == "min");
    if swap { b } else { a }
}

/// `cvt` between floats.
pub fn converted(form: &Form<'_>, to: Format, from: Format, bits: u64) -> Option<u64> {
    let value = flushed(form, from, from.decode(bits));
    let integral = ["rni", "rzi", "rmi", "rpi"].iter().any(|word| form.has(word));
    let value = if integral { whole(form, value) } else { value };
    finished(form, to, rounded(form, to, Real(value, 0.0)))
}

/// `cvt` of an integer.
pub fn from_integer(form: &Form<'_>, to: Format, value: i128) -> Option<u64> {
    let nearest = value as f64;
    let rest = (value - nearest as i128) as f64;
    let exact = if to.bits == 64 { Real(nearest, 0.0) } else { Real(nearest, rest) };
    finished(form, to, rounded(form, to, exact))
}

/// `cvt` to an integer of so many bits, before it is cut to its type. A NaN gives 0 where neither side has 64 bits, else
/// the highest bit alone.
pub fn to_integer(form: &Form<'_>, from: Format, bits: u64, width: u32, signed: bool) -> i128 {
    let value = flushed(form, from, from.decode(bits));
    match value.is_nan() && from.bits.max(width) == 64 {
        true if signed => -(1 << (width - 1)),
        true => 1 << (width - 1),
        false => whole(form, value) as i128,
    }
}
