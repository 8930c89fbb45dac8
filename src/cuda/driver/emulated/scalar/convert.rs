//! Conversions with a float on either side, or with saturation (`cvt`, 9.7.9.21).

use super::float::{Format, Rounding, canonical, flush, odd, round};
use super::half;
use super::rows::{map1, map2};
use crate::cuda::driver::emulated::registers::{LANES, Register, Registers, Wide, Word};

/// A type that numbers are converted from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// An integer.
    Integer {
        /// 8, 16, 32 or 64.
        bits: u8,
        /// Whether it has a sign.
        signed: bool,
    },
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// TensorFloat-32 in the upper bits of 32 (destination only).
    Tf32,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// One conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    /// Type of the result.
    pub to: Number,
    /// Type of the operand.
    pub from: Number,
    /// Rounding; without meaning where nothing is lost.
    pub rounding: Rounding,
    /// Whether a float is rounded to an integral value (`.rni`, `.rzi`, `.rmi`, `.rpi`).
    pub integral: bool,
    /// `.ftz`.
    pub flush: bool,
    /// `.sat`.
    pub saturate: bool,
    /// `.relu`.
    pub relu: bool,
    /// Bits of the destination register: a shorter integer is extended to them.
    pub keep: u8,
}

const S32: Number = Number::Integer { bits: 32, signed: true };
const U32: Number = Number::Integer { bits: 32, signed: false };

/// Executes a [`Convert`].
#[inline(always)]
pub fn execute(i: Convert, r: &mut Registers, mask: u32, to: Register, from: Register) {
    let plain = !i.flush && !i.saturate && !i.relu && i.rounding == Rounding::Nearest;
    let f = f32::from_bits;
    match (i.to, i.from, to, from) {
        (Number::F32, Number::Bf16, Register::Word(d), Register::Word(a)) if plain && !i.integral => {
            map1(r, mask, d, a, move |a| canonical(f(a << 16)));
        }
        (Number::F32, Number::F16, Register::Word(d), Register::Word(a)) if plain && !i.integral => {
            map1(r, mask, d, a, |a| canonical(half::value(a, false)));
        }
        (Number::Bf16, Number::F32, Register::Word(d), Register::Word(a)) if plain => {
            map1(r, mask, d, a, move |a| half::bits(f(a), true));
        }
        (Number::F16, Number::F32, Register::Word(d), Register::Word(a)) if plain => {
            map1(r, mask, d, a, move |a| half::bits(f(a), false));
        }
        (Number::F32, S32, Register::Word(d), Register::Word(a)) if plain => {
            map1(r, mask, d, a, |a| (a.cast_signed() as f32).to_bits());
        }
        (Number::F32, U32, Register::Word(d), Register::Word(a)) if plain => {
            map1(r, mask, d, a, |a| (a as f32).to_bits());
        }
        // Rust's conversion is the instruction: saturating, NaN is 0; subnormals are truncated to 0 anyhow.
        (S32, Number::F32, Register::Word(d), Register::Word(a)) if i.rounding == Rounding::Zero => {
            map1(r, mask, d, a, move |a| (f(a) as i32).cast_unsigned());
        }
        (U32, Number::F32, Register::Word(d), Register::Word(a)) if i.rounding == Rounding::Zero => {
            map1(r, mask, d, a, move |a| f(a) as u32);
        }
        (Number::F64, Number::F32, Register::Wide(d), Register::Word(a)) if plain => {
            map1(r, mask, d, a, move |a| f64::from(f(a)).to_bits());
        }
        _ => lane_by_lane(i, r, mask, to, from),
    }
}

fn lane_by_lane(i: Convert, r: &mut Registers, mask: u32, to: Register, from: Register) {
    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
        let value = one(i, r.lane(from, lane));
        r.set_lane(to, lane, value);
    }
}

/// The result of one conversion, extended to the register.
pub fn one(i: Convert, bits: u64) -> u64 {
    let word = bits as u32;
    match i.from {
        Number::Integer { bits: width, signed } => from_integer(i, extend(bits, width, signed)),
        Number::F16 => from_float(i, f64::from(half::value(word & 0xffff, false))),
        Number::Bf16 => from_float(i, f64::from(half::value(word & 0xffff, true))),
        Number::F32 | Number::Tf32 => {
            let value = f32::from_bits(word);
            from_float(i, f64::from(if i.flush { flush(value) } else { value }))
        }
        Number::F64 => from_float(i, f64::from_bits(bits)),
    }
}

/// The value of the low bits.
fn extend(bits: u64, width: u8, signed: bool) -> i128 {
    let up = 64 - u32::from(width);
    if signed { i128::from((bits << up).cast_signed() >> up) } else { i128::from(bits << up >> up) }
}

fn range(width: u8, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) }
}

fn from_integer(i: Convert, value: i128) -> u64 {
    match i.to {
        Number::Integer { bits, signed } => {
            let (least, most) = range(bits, signed);
            place(i, if i.saturate { value.clamp(least, most) } else { value })
        }
        Number::F64 if i.rounding == Rounding::Nearest => (value as f64).to_bits(),
        _ => {
            // At most 64 bits: what an f64 loses is the sign of the error.
            let near = value as f64;
            to_float(i, odd(near, (value - near as i128) as f64))
        }
    }
}

fn from_float(i: Convert, value: f64) -> u64 {
    let integral = |value: f64| match i.rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::NearestAway => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    };
    match i.to {
        Number::Integer { bits, signed } if value.is_nan() => {
            let wide = i.from == Number::F64 || bits == 64;
            let (least, _) = range(bits, true);
            place(
                i,
                if !wide {
                    0
                } else if signed {
                    least
                } else {
                    -least
                },
            )
        }
        Number::Integer { bits, signed } => {
            let (least, most) = range(bits, signed);
            place(i, (integral(value) as i128).clamp(least, most))
        }
        _ if i.integral => to_float(i, integral(value)),
        _ => to_float(i, value),
    }
}

/// An integer in the destination register.
fn place(i: Convert, value: i128) -> u64 {
    let Number::Integer { bits, signed } = i.to else { return 0 };
    extend(value as u64, bits, signed) as u64 & u64::MAX >> (64 - u32::from(i.keep))
}

/// A float, exact or rounded to odd, as the destination.
fn to_float(i: Convert, value: f64) -> u64 {
    let value = match () {
        () if i.saturate => {
            if value > 0.0 {
                value.min(1.0)
            } else {
                0.0
            }
        }
        () if i.relu && value <= 0.0 => 0.0,
        () => value,
    };
    let narrow = |format| round(value, format, i.rounding);
    u64::from(match i.to {
        Number::F64 => return value.to_bits(),
        Number::F16 => narrow(Format::F16),
        Number::Bf16 => narrow(Format::BF16),
        Number::Tf32 => narrow(Format::TF32) << 13,
        Number::F32 | Number::Integer { .. } => {
            let value = f32::from_bits(narrow(Format::F32));
            canonical(if i.flush { flush(value) } else { value })
        }
    })
}

/// `cvt.rnd.f16x2.f32`, `cvt.rnd.bf16x2.f32`: two floats to one register, the first operand above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertPair {
    /// bfloat16 instead of half precision.
    pub brain: bool,
    /// Nearest or zero.
    pub rounding: Rounding,
    /// `.relu`.
    pub relu: bool,
}

/// Executes a [`ConvertPair`].
#[inline(always)]
pub fn pair(i: ConvertPair, r: &mut Registers, mask: u32, to: Word, [high, low]: [Word; 2]) {
    let format = if i.brain { Format::BF16 } else { Format::F16 };
    if i.rounding == Rounding::Nearest && !i.relu {
        let half = move |a: u32| half::bits(f32::from_bits(a), i.brain);
        map2(r, mask, to, (high, low), move |high, low| half(high) << 16 | half(low));
    } else {
        let half = move |a: u32| {
            let value = f64::from(f32::from_bits(a));
            round(if i.relu && value <= 0.0 { 0.0 } else { value }, format, i.rounding)
        };
        map2(r, mask, to, (high, low), move |high, low| half(high) << 16 | half(low));
    }
}

/// `cvt.u64`, `cvt.s64` of an integer of at most 32 bits.
#[inline(always)]
pub fn widen(bits: u8, signed: bool, r: &mut Registers, mask: u32, to: Wide, a: Word) {
    let up = 32 - u32::from(bits);
    if signed {
        map1(r, mask, to, a, |a| i64::from((a << up).cast_signed() >> up).cast_unsigned());
    } else {
        map1(r, mask, to, a, |a| u64::from(a << up >> up));
    }
}
