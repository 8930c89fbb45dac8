//! Integers, logic, shifts and bit fields (9.7.1, 9.7.8, `prmt` 9.7.9.7).
//!
//! Values of 16 bits are zero-extended in their planes, before and after.

use super::rows::{map1, map2, map3};
use crate::cuda::driver::emulated::registers::{Registers, Wide, Word};

/// Operations of one 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `mov`.
    Move,
    /// `not.b32`.
    Not,
    /// `not.b16`.
    Not16,
    /// `neg.s32`.
    Negate,
    /// `neg.s16`.
    Negate16,
    /// `abs.s32`.
    Abs,
    /// `abs.s16`.
    Abs16,
    /// `cnot.b32`, `cnot.b16`: 1 if zero, else 0.
    LogicalNot,
    /// `popc.b32`.
    CountOnes,
    /// `clz.b32`.
    LeadingZeros,
    /// `brev.b32`.
    Reverse,
    /// `bfind.u32`: position of the highest one; all ones without any.
    Find,
    /// `bfind.s32`: position of the highest bit that differs from the sign.
    FindSigned,
    /// `bfind.shiftamt.u32`: the shift that moves it to the top.
    FindShift,
    /// `bfind.shiftamt.s32`.
    FindShiftSigned,
    /// `cvt` between integers of at most 32 bits: the low `bits`, extended, then cut to `keep` bits.
    Extend {
        /// Bits of the value.
        bits: u8,
        /// Whether its sign is extended.
        signed: bool,
        /// Bits of the destination.
        keep: u8,
    },
}

/// Executes a [`Unary`].
#[inline(always)]
pub fn unary(op: Unary, r: &mut Registers, mask: u32, to: Word, a: Word) {
    match op {
        Unary::Move => map1(r, mask, to, a, |a| a),
        Unary::Not => map1(r, mask, to, a, |a| !a),
        Unary::Not16 => map1(r, mask, to, a, |a| !a & 0xffff),
        Unary::Negate => map1(r, mask, to, a, u32::wrapping_neg),
        Unary::Negate16 => map1(r, mask, to, a, |a| a.wrapping_neg() & 0xffff),
        Unary::Abs => map1(r, mask, to, a, |a| a.cast_signed().unsigned_abs()),
        Unary::Abs16 => map1(r, mask, to, a, |a| u32::from((a as u16).cast_signed().unsigned_abs())),
        Unary::LogicalNot => map1(r, mask, to, a, |a| u32::from(a == 0)),
        Unary::CountOnes => map1(r, mask, to, a, u32::count_ones),
        Unary::LeadingZeros => map1(r, mask, to, a, u32::leading_zeros),
        Unary::Reverse => map1(r, mask, to, a, u32::reverse_bits),
        Unary::Find => map1(r, mask, to, a, |a| 31u32.wrapping_sub(a.leading_zeros())),
        Unary::FindSigned => map1(r, mask, to, a, |a| 31u32.wrapping_sub(unsign(a).leading_zeros())),
        Unary::FindShift => map1(r, mask, to, a, |a| shift_amount(a.leading_zeros(), 32)),
        Unary::FindShiftSigned => map1(r, mask, to, a, |a| shift_amount(unsign(a).leading_zeros(), 32)),
        Unary::Extend { bits, signed, keep } => {
            let (up, keep) = (32 - u32::from(bits), u32::MAX >> (32 - u32::from(keep)));
            if signed {
                map1(r, mask, to, a, |a| ((a << up).cast_signed() >> up).cast_unsigned() & keep);
            } else {
                map1(r, mask, to, a, |a| (a << up) >> up & keep);
            }
        }
    }
}

/// The bits that differ from the sign.
fn unsign(a: u32) -> u32 {
    a ^ (a.cast_signed() >> 31).cast_unsigned()
}

fn shift_amount(zeros: u32, bits: u32) -> u32 {
    if zeros == bits { u32::MAX } else { zeros }
}

/// Operations of two 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `add` of 32 bits.
    Add,
    /// `add` of 16 bits.
    Add16,
    /// `add.sat.s32`.
    AddSaturating,
    /// `sub` of 32 bits.
    Sub,
    /// `sub` of 16 bits.
    Sub16,
    /// `sub.sat.s32`.
    SubSaturating,
    /// `mul.lo` of 32 bits; also `mul.wide.u16`.
    Mul,
    /// `mul.lo` of 16 bits.
    Mul16,
    /// `mul.wide.s16`.
    MulWideSigned16,
    /// `mul.hi.u32`.
    MulHigh,
    /// `mul.hi.s32`.
    MulHighSigned,
    /// `mul.hi.u16`.
    MulHigh16,
    /// `mul.hi.s16`.
    MulHighSigned16,
    /// `div.u32`, `div.u16`; all ones for a zero divisor (unspecified by the manual).
    Div,
    /// `div.s32`.
    DivSigned,
    /// `div.s16`.
    DivSigned16,
    /// `rem.u32`, `rem.u16`; the dividend for a zero divisor (unspecified by the manual).
    Rem,
    /// `rem.s32`.
    RemSigned,
    /// `rem.s16`.
    RemSigned16,
    /// `min.u32`, `min.u16`.
    Min,
    /// `min.s32`.
    MinSigned,
    /// `min.s16`.
    MinSigned16,
    /// `max.u32`, `max.u16`.
    Max,
    /// `max.s32`.
    MaxSigned,
    /// `max.s16`.
    MaxSigned16,
    /// `and`.
    And,
    /// `or`.
    Or,
    /// `xor`.
    Xor,
    /// `shl.b32`: amounts from 32 on give 0.
    ShiftLeft,
    /// `shl.b16`.
    ShiftLeft16,
    /// `shr.u32`, `shr.u16`.
    ShiftRight,
    /// `shr.s32`: amounts from 31 on give the sign.
    ShiftRightSigned,
    /// `shr.s16`.
    ShiftRightSigned16,
    /// `bmsk.clamp.b32`: b ones from bit a on.
    Mask,
    /// `bmsk.wrap.b32`.
    MaskWrapped,
    /// `mov.b32 d, {a, b}` of 16-bit halves.
    PackHalves,
}

/// The value of 16 bits with its sign.
fn short(a: u32) -> i32 {
    i32::from((a as u16).cast_signed())
}

fn low(a: i32) -> u32 {
    a.cast_unsigned() & 0xffff
}

/// Executes a [`Binary`].
#[inline(always)]
pub fn binary(op: Binary, r: &mut Registers, mask: u32, to: Word, [a, b]: [Word; 2]) {
    let from = (a, b);
    match op {
        Binary::Add => map2(r, mask, to, from, u32::wrapping_add),
        Binary::Add16 => map2(r, mask, to, from, |a, b| a.wrapping_add(b) & 0xffff),
        Binary::AddSaturating => {
            map2(r, mask, to, from, |a, b| a.cast_signed().saturating_add(b.cast_signed()).cast_unsigned());
        }
        Binary::Sub => map2(r, mask, to, from, u32::wrapping_sub),
        Binary::Sub16 => map2(r, mask, to, from, |a, b| a.wrapping_sub(b) & 0xffff),
        Binary::SubSaturating => {
            map2(r, mask, to, from, |a, b| a.cast_signed().saturating_sub(b.cast_signed()).cast_unsigned());
        }
        Binary::And => map2(r, mask, to, from, |a, b| a & b),
        Binary::Or => map2(r, mask, to, from, |a, b| a | b),
        Binary::Xor => map2(r, mask, to, from, |a, b| a ^ b),
        Binary::ShiftLeft => map2(r, mask, to, from, |a, b| if b < 32 { a << b } else { 0 }),
        Binary::ShiftLeft16 => map2(r, mask, to, from, |a, b| if b < 16 { a << b & 0xffff } else { 0 }),
        Binary::ShiftRight => map2(r, mask, to, from, |a, b| if b < 32 { a >> b } else { 0 }),
        Binary::ShiftRightSigned => map2(r, mask, to, from, |a, b| (a.cast_signed() >> b.min(31)).cast_unsigned()),
        Binary::ShiftRightSigned16 => map2(r, mask, to, from, |a, b| low(short(a) >> b.min(15))),
        Binary::Mask => map2(r, mask, to, from, |a, b| if a < 32 { ones(b) << a } else { 0 }),
        Binary::MaskWrapped => map2(r, mask, to, from, |a, b| ones(b & 31) << (a & 31)),
        Binary::PackHalves => map2(r, mask, to, from, |a, b| a & 0xffff | b << 16),
        _ => product(op, r, mask, to, from),
    }
}

fn ones(count: u32) -> u32 {
    if count < 32 { (1 << count) - 1 } else { u32::MAX }
}

/// Products, quotients, minima and maxima.
#[inline(always)]
fn product(op: Binary, r: &mut Registers, mask: u32, to: Word, from: (Word, Word)) {
    match op {
        Binary::Mul => map2(r, mask, to, from, u32::wrapping_mul),
        Binary::Mul16 => map2(r, mask, to, from, |a, b| a.wrapping_mul(b) & 0xffff),
        Binary::MulWideSigned16 => map2(r, mask, to, from, |a, b| (short(a) * short(b)).cast_unsigned()),
        Binary::MulHigh => map2(r, mask, to, from, high),
        Binary::MulHighSigned => map2(r, mask, to, from, high_signed),
        Binary::MulHigh16 => map2(r, mask, to, from, |a, b| a.wrapping_mul(b) >> 16),
        Binary::MulHighSigned16 => map2(r, mask, to, from, |a, b| low((short(a) * short(b)) >> 16)),
        Binary::Div => map2(r, mask, to, from, |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
        Binary::DivSigned => map2(r, mask, to, from, |a, b| quotient(a.cast_signed(), b.cast_signed())),
        Binary::DivSigned16 => map2(r, mask, to, from, |a, b| quotient(short(a), short(b)) & 0xffff),
        Binary::Rem => map2(r, mask, to, from, |a, b| a.checked_rem(b).unwrap_or(a)),
        Binary::RemSigned => map2(r, mask, to, from, |a, b| remainder(a.cast_signed(), b.cast_signed())),
        Binary::RemSigned16 => map2(r, mask, to, from, |a, b| remainder(short(a), short(b)) & 0xffff),
        Binary::Min => map2(r, mask, to, from, u32::min),
        Binary::MinSigned => map2(r, mask, to, from, |a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned()),
        Binary::MinSigned16 => map2(r, mask, to, from, |a, b| low(short(a).min(short(b)))),
        Binary::Max => map2(r, mask, to, from, u32::max),
        Binary::MaxSigned => map2(r, mask, to, from, |a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned()),
        _ => map2(r, mask, to, from, |a, b| low(short(a).max(short(b)))), // MaxSigned16
    }
}

fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

fn high_signed(a: u32, b: u32) -> u32 {
    ((i64::from(a.cast_signed()) * i64::from(b.cast_signed())) >> 32) as u32
}

fn quotient(a: i32, b: i32) -> u32 {
    if b == 0 { u32::MAX } else { a.wrapping_div(b).cast_unsigned() }
}

fn remainder(a: i32, b: i32) -> u32 {
    if b == 0 { a.cast_unsigned() } else { a.wrapping_rem(b).cast_unsigned() }
}

/// Operations of three 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ternary {
    /// `mad.lo` of 32 bits.
    Mad,
    /// `mad.lo` of 16 bits.
    Mad16,
    /// `mad.hi.u32`.
    MadHigh,
    /// `mad.hi.s32`.
    MadHighSigned,
    /// `sad.u32`: c + |a - b|.
    Sad,
    /// `sad.s32`.
    SadSigned,
    /// `bfe.u32`: c bits of a from bit b on.
    Extract,
    /// `bfe.s32`.
    ExtractSigned,
    /// `shf.l`: the upper word of b:a shifted left; wrapping or clamping the amount.
    FunnelLeft {
        /// Whether the amount is taken modulo 32.
        wrap: bool,
    },
    /// `shf.r`: the lower word of b:a shifted right.
    FunnelRight {
        /// Whether the amount is taken modulo 32.
        wrap: bool,
    },
    /// `lop3.b32`: any logic function by its table.
    Lop3(u8),
    /// `prmt.b32` in its default mode: four bytes of b:a, by four selectors with a sign bit each.
    Permute,
    /// `prmt.b32.mode`.
    PermuteMode(PermuteMode),
}

/// Modes of `prmt`; the two lowest bits of c are n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermuteMode {
    /// `.f4e`: bytes n to n + 3.
    Forward,
    /// `.b4e`: bytes n down to n - 3, modulo 8.
    Backward,
    /// `.rc8`: byte n four times.
    Replicate8,
    /// `.ecl`: max(i, n).
    EdgeLeft,
    /// `.ecr`: min(i, n).
    EdgeRight,
    /// `.rc16`: half n & 1 twice.
    Replicate16,
}

/// Executes a [`Ternary`].
#[inline(always)]
pub fn ternary(op: Ternary, r: &mut Registers, mask: u32, to: Word, [a, b, c]: [Word; 3]) {
    let from = (a, b, c);
    match op {
        Ternary::Mad => map3(r, mask, to, from, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Ternary::Mad16 => map3(r, mask, to, from, |a, b, c| a.wrapping_mul(b).wrapping_add(c) & 0xffff),
        Ternary::MadHigh => map3(r, mask, to, from, |a, b, c| high(a, b).wrapping_add(c)),
        Ternary::MadHighSigned => map3(r, mask, to, from, |a, b, c| high_signed(a, b).wrapping_add(c)),
        Ternary::Sad => map3(r, mask, to, from, |a, b, c| c.wrapping_add(a.abs_diff(b))),
        Ternary::SadSigned => {
            map3(r, mask, to, from, |a, b, c| c.wrapping_add(a.cast_signed().abs_diff(b.cast_signed())));
        }
        Ternary::Extract => map3(r, mask, to, from, |a, b, c| extract(u64::from(a), b, c, 32) as u32),
        Ternary::ExtractSigned => {
            map3(r, mask, to, from, |a, b, c| extract_signed(i64::from(a.cast_signed()), b, c, 32) as u32);
        }
        Ternary::FunnelLeft { wrap } => {
            let limit = move |c: u32| if wrap { c & 31 } else { c.min(32) };
            map3(r, mask, to, from, move |a, b, c| (pair(a, b) << limit(c) >> 32) as u32);
        }
        Ternary::FunnelRight { wrap } => {
            let limit = move |c: u32| if wrap { c & 31 } else { c.min(32) };
            map3(r, mask, to, from, move |a, b, c| (pair(a, b) >> limit(c)) as u32);
        }
        Ternary::Lop3(table) => {
            let on: [u32; 8] = std::array::from_fn(|row| if table >> row & 1 == 1 { u32::MAX } else { 0 });
            map3(r, mask, to, from, move |a, b, c| {
                let low = !a & (!b & (!c & on[0] | c & on[1]) | b & (!c & on[2] | c & on[3]));
                low | a & (!b & (!c & on[4] | c & on[5]) | b & (!c & on[6] | c & on[7]))
            });
        }
        Ternary::Permute => map3(r, mask, to, from, |a, b, c| permute(pair(a, b), c)),
        Ternary::PermuteMode(mode) => map3(r, mask, to, from, move |a, b, c| permute(pair(a, b), selectors(mode, c))),
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn permute(bytes: u64, selectors: u32) -> u32 {
    let mut value = 0;
    for at in 0..4 {
        let selector = selectors >> (4 * at);
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() };
        value |= u32::from(byte) << (8 * at);
    }
    value
}

fn selectors(mode: PermuteMode, c: u32) -> u32 {
    let n = c & 3;
    let select = |at: u32| match mode {
        PermuteMode::Forward => n + at,
        PermuteMode::Backward => n.wrapping_sub(at) & 7,
        PermuteMode::Replicate8 => n,
        PermuteMode::EdgeLeft => at.max(n),
        PermuteMode::EdgeRight => at.min(n),
        PermuteMode::Replicate16 => (n & 1) * 2 + (at & 1),
    };
    select(0) | select(1) << 4 | select(2) << 8 | select(3) << 12
}

/// `bfe` (9.7.1.19): position and length count to 255.
pub fn extract(a: u64, position: u32, length: u32, bits: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= bits || length == 0 {
        return 0;
    }
    let shifted = a >> position;
    if length >= 64 { shifted } else { shifted & ((1 << length) - 1) }
}

/// `bfe` of signed values: the sign is that of the field's last bit, or of the value where the field reaches beyond.
pub fn extract_signed(a: i64, position: u32, length: u32, bits: u32) -> i64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    let length = length.min(bits.saturating_sub(position)).max(1);
    a >> position.min(bits - 1) << (64 - length) >> (64 - length)
}

/// `bfi` (9.7.1.20): the low `length` bits of `a` at `position` in `b`.
pub fn insert(a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= 64 || length == 0 {
        return b;
    }
    let field = (if length >= 64 { u64::MAX } else { (1 << length) - 1 }) << position;
    b & !field | a << position & field
}

/// Operations of one 64-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WideUnary {
    /// `mov`.
    Move,
    /// `not.b64`.
    Not,
    /// `neg.s64`.
    Negate,
    /// `abs.s64`.
    Abs,
    /// `cnot.b64`.
    LogicalNot,
    /// `brev.b64`.
    Reverse,
    /// `cvta` (9.7.9.20): adds the base of a window, or takes it away.
    Offset(u64),
}

/// Executes a [`WideUnary`].
#[inline(always)]
pub fn wide_unary(op: WideUnary, r: &mut Registers, mask: u32, to: Wide, a: Wide) {
    match op {
        WideUnary::Move => map1(r, mask, to, a, |a| a),
        WideUnary::Not => map1(r, mask, to, a, |a| !a),
        WideUnary::Negate => map1(r, mask, to, a, u64::wrapping_neg),
        WideUnary::Abs => map1(r, mask, to, a, |a| a.cast_signed().unsigned_abs()),
        WideUnary::LogicalNot => map1(r, mask, to, a, |a| u64::from(a == 0)),
        WideUnary::Reverse => map1(r, mask, to, a, u64::reverse_bits),
        WideUnary::Offset(base) => map1(r, mask, to, a, move |a| a.wrapping_add(base)),
    }
}

/// Operations of two 64-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WideBinary {
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul.lo`.
    Mul,
    /// `mul.hi.u64`.
    MulHigh,
    /// `mul.hi.s64`.
    MulHighSigned,
    /// `div.u64`.
    Div,
    /// `div.s64`.
    DivSigned,
    /// `rem.u64`.
    Rem,
    /// `rem.s64`.
    RemSigned,
    /// `min.u64`.
    Min,
    /// `min.s64`.
    MinSigned,
    /// `max.u64`.
    Max,
    /// `max.s64`.
    MaxSigned,
    /// `and.b64`.
    And,
    /// `or.b64`.
    Or,
    /// `xor.b64`.
    Xor,
}

/// Executes a [`WideBinary`].
#[inline(always)]
pub fn wide_binary(op: WideBinary, r: &mut Registers, mask: u32, to: Wide, [a, b]: [Wide; 2]) {
    let from = (a, b);
    let signed = |a: u64, b: u64| (a.cast_signed(), b.cast_signed());
    match op {
        WideBinary::Add => map2(r, mask, to, from, u64::wrapping_add),
        WideBinary::Sub => map2(r, mask, to, from, u64::wrapping_sub),
        WideBinary::Mul => map2(r, mask, to, from, u64::wrapping_mul),
        WideBinary::MulHigh => map2(r, mask, to, from, |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        WideBinary::MulHighSigned => map2(r, mask, to, from, move |a, b| {
            let (a, b) = signed(a, b);
            ((i128::from(a) * i128::from(b)) >> 64) as u64
        }),
        WideBinary::Div => map2(r, mask, to, from, |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
        WideBinary::DivSigned => map2(r, mask, to, from, move |a, b| {
            let (a, b) = signed(a, b);
            if b == 0 { u64::MAX } else { a.wrapping_div(b).cast_unsigned() }
        }),
        WideBinary::Rem => map2(r, mask, to, from, |a, b| a.checked_rem(b).unwrap_or(a)),
        WideBinary::RemSigned => map2(r, mask, to, from, move |a, b| {
            let (a, b) = signed(a, b);
            if b == 0 { a.cast_unsigned() } else { a.wrapping_rem(b).cast_unsigned() }
        }),
        WideBinary::Min => map2(r, mask, to, from, u64::min),
        WideBinary::MinSigned => map2(r, mask, to, from, |a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned()),
        WideBinary::Max => map2(r, mask, to, from, u64::max),
        WideBinary::MaxSigned => map2(r, mask, to, from, |a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned()),
        WideBinary::And => map2(r, mask, to, from, |a, b| a & b),
        WideBinary::Or => map2(r, mask, to, from, |a, b| a | b),
        WideBinary::Xor => map2(r, mask, to, from, |a, b| a ^ b),
    }
}

/// Operations that make 32 bits of one 64-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// `cvt`: the low `bits`, extended by sign or zero, cut to `keep` bits.
    Truncate {
        /// Bits of the value.
        bits: u8,
        /// Whether its sign is extended.
        signed: bool,
        /// Bits of the destination.
        keep: u8,
    },
    /// The upper half (`mov.b64 {_, d}, a`).
    High,
    /// `popc.b64`.
    CountOnes,
    /// `clz.b64`.
    LeadingZeros,
    /// `bfind.u64`.
    Find,
    /// `bfind.s64`.
    FindSigned,
    /// `bfind.shiftamt.u64`.
    FindShift,
    /// `bfind.shiftamt.s64`.
    FindShiftSigned,
}

/// Executes a [`Narrow`].
#[inline(always)]
pub fn narrow(op: Narrow, r: &mut Registers, mask: u32, to: Word, a: Wide) {
    let unsign = |a: u64| a ^ (a.cast_signed() >> 63).cast_unsigned();
    match op {
        Narrow::Truncate { bits, signed, keep } => {
            let (up, keep) = (32 - u32::from(bits), u32::MAX >> (32 - u32::from(keep)));
            if signed {
                map1(r, mask, to, a, |a| (((a as u32) << up).cast_signed() >> up).cast_unsigned() & keep);
            } else {
                map1(r, mask, to, a, |a| ((a as u32) << up) >> up & keep);
            }
        }
        Narrow::High => map1(r, mask, to, a, |a| (a >> 32) as u32),
        Narrow::CountOnes => map1(r, mask, to, a, u64::count_ones),
        Narrow::LeadingZeros => map1(r, mask, to, a, u64::leading_zeros),
        Narrow::Find => map1(r, mask, to, a, |a| 63u32.wrapping_sub(a.leading_zeros())),
        Narrow::FindSigned => map1(r, mask, to, a, |a| 63u32.wrapping_sub(unsign(a).leading_zeros())),
        Narrow::FindShift => map1(r, mask, to, a, |a| shift_amount(a.leading_zeros(), 64)),
        Narrow::FindShiftSigned => map1(r, mask, to, a, |a| shift_amount(unsign(a).leading_zeros(), 64)),
    }
}
