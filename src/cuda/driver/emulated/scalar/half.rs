//! Arithmetic on f16 and bf16, single and packed in pairs (9.7.4).
//!
//! Results that are NaN are the canonical NaN 0x7fff.

use half::{bf16, f16};

use super::float::{Format, Rounding, maximum, minimum, odd_sum, round, saturate};
use super::rows::{map1, map2, map3};
use crate::cuda::driver::emulated::registers::{Registers, Word};

/// Which 16-bit format, and whether two values lie in one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfType {
    /// bfloat16 instead of half precision.
    pub brain: bool,
    /// `.f16x2`, `.bf16x2`.
    pub packed: bool,
}

/// Modifiers beside the type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfModifiers {
    /// `.ftz` (f16 only).
    pub flush: bool,
    /// `.sat`.
    pub saturate: bool,
    /// `.relu`: negative results and NaN become +0 (NaN stays canonical NaN).
    pub relu: bool,
}

/// Operations; the number of operands is the name's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOp {
    /// `neg`.
    Negate,
    /// `abs`.
    Abs,
    /// `ex2.approx`.
    Exp2,
    /// `tanh.approx`.
    Tanh,
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul`.
    Mul,
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
    /// `fma`.
    Fused,
}

/// One operation with everything that decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfInstr {
    /// What to compute.
    pub op: HalfOp,
    /// On what.
    pub kind: HalfType,
    /// How.
    pub modifiers: HalfModifiers,
}

impl HalfInstr {
    /// Floating-point operations of one lane.
    pub fn flops(&self) -> u64 {
        let of_one = match self.op {
            HalfOp::Negate | HalfOp::Abs => 0,
            HalfOp::Fused => 2,
            _ => 1,
        };
        of_one << u32::from(self.kind.packed)
    }
}

/// The f32 value of a 16-bit number.
#[inline(always)]
pub fn value(bits: u32, brain: bool) -> f32 {
    if brain { f32::from_bits(bits << 16) } else { f16::from_bits(bits as u16).to_f32() }
}

/// An f32 rounded to a 16-bit number, to nearest even.
#[inline(always)]
pub fn bits(value: f32, brain: bool) -> u32 {
    match (value.is_nan(), brain) {
        (true, _) => 0x7fff,
        (false, true) => u32::from(bf16::from_f32(value).to_bits()),
        (false, false) => u32::from(f16::from_f32(value).to_bits()),
    }
}

/// Executes a [`HalfInstr`].
#[inline(always)]
pub fn execute(i: HalfInstr, r: &mut Registers, mask: u32, to: Word, [a, b, c]: [Word; 3]) {
    let packed = i.kind.packed;
    match i.op {
        HalfOp::Negate | HalfOp::Abs => {
            let sign = if packed { 0x8000_8000 } else { 0x8000 };
            let keep = if packed { u32::MAX } else { 0xffff };
            let negate = i.op == HalfOp::Negate;
            let enter = move |a: u32| each(packed, |at| flushed(half_at(a, at), i));
            map1(r, mask, to, a, move |a| if negate { enter(a) ^ sign } else { enter(a) & !sign } & keep);
        }
        HalfOp::Exp2 | HalfOp::Tanh => map1(r, mask, to, a, move |a| each(packed, |at| one(i, half_at(a, at)))),
        HalfOp::Fused => {
            map3(r, mask, to, (a, b, c), move |a, b, c| {
                each(packed, |at| fused(i, half_at(a, at), half_at(b, at), half_at(c, at)))
            });
        }
        _ => map2(r, mask, to, (a, b), move |a, b| each(packed, |at| two(i, half_at(a, at), half_at(b, at)))),
    }
}

/// The result of one half, or of both.
#[inline(always)]
fn each(packed: bool, f: impl Fn(u32) -> u32) -> u32 {
    if packed { f(0) | f(16) << 16 } else { f(0) }
}

fn half_at(a: u32, at: u32) -> u32 {
    a >> at & 0xffff
}

fn flushed(bits: u32, i: HalfInstr) -> u32 {
    let exponent = if i.kind.brain { 0x7f80 } else { 0x7c00 };
    if i.modifiers.flush && bits & exponent == 0 { bits & 0x8000 } else { bits }
}

fn enter(bits: u32, i: HalfInstr) -> f32 {
    value(flushed(bits, i), i.kind.brain)
}

fn leave(result: u32, i: HalfInstr) -> u32 {
    let result = flushed(result, i);
    match value(result, i.kind.brain) {
        value if i.modifiers.saturate => bits(saturate(value), i.kind.brain),
        value if i.modifiers.relu && (value < 0.0 || result == 0x8000) => 0,
        _ => result,
    }
}

fn one(i: HalfInstr, a: u32) -> u32 {
    let a = f64::from(enter(a, i));
    let result = if i.op == HalfOp::Exp2 { a.exp2() } else { a.tanh() };
    leave(round(result, format(i.kind.brain), Rounding::Nearest), i)
}

fn two(i: HalfInstr, a: u32, b: u32) -> u32 {
    let (a, b) = (enter(a, i), enter(b, i));
    // Rounding to f32 first does not change the result: it has more than twice the bits of either format.
    let result = match i.op {
        HalfOp::Add => a + b,
        HalfOp::Sub => a - b,
        HalfOp::Mul => a * b,
        HalfOp::Min { nan } => f32::from_bits(minimum(a, b, nan)),
        HalfOp::Max { nan } => f32::from_bits(maximum(a, b, nan)),
        _ => f32::NAN, // no other operation has two operands
    };
    leave(bits(result, i.kind.brain), i)
}

fn fused(i: HalfInstr, a: u32, b: u32, c: u32) -> u32 {
    let exact = odd_sum(f64::from(enter(a, i)) * f64::from(enter(b, i)), f64::from(enter(c, i)));
    leave(round(exact, format(i.kind.brain), Rounding::Nearest), i)
}

fn format(brain: bool) -> Format {
    if brain { Format::BF16 } else { Format::F16 }
}
