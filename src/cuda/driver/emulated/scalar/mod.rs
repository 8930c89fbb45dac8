//! Instructions that only read and write registers: 32 lanes at once, under a mask.

pub mod compare;
pub mod convert;
pub mod float;
pub mod half;
pub mod integer;
pub(super) mod rows;

use compare::{Logic, Set, SetPredicate};
use convert::{Convert, ConvertPair};
use float::Modifiers;
use half::HalfInstr;
use rows::{map2, map3, map4, vectorised};

use super::instr::Guard;
use super::registers::{LANES, Predicate, Register, Registers, Wide, Word};

/// An operation on registers. Destinations come first.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// Integer or bits, one operand.
    Unary(integer::Unary, Word, Word),
    /// Integer or bits, two operands.
    Binary(integer::Binary, Word, [Word; 2]),
    /// Integer or bits, three operands.
    Ternary(integer::Ternary, Word, [Word; 3]),
    /// `bfi.b32`: value, base, position, length.
    Insert(Word, [Word; 4]),
    /// 64-bit integer or bits, one operand.
    WideUnary(integer::WideUnary, Wide, Wide),
    /// 64-bit integer or bits, two operands.
    WideBinary(integer::WideBinary, Wide, [Wide; 2]),
    /// `mad.lo` of 64 bits.
    WideMad(Wide, [Wide; 3]),
    /// `shl.b64`: amounts from 64 on give 0.
    WideShiftLeft(Wide, Wide, Word),
    /// `shr.u64`.
    WideShiftRight(Wide, Wide, Word),
    /// `shr.s64`.
    WideShiftRightSigned(Wide, Wide, Word),
    /// `bfe.u64`, `bfe.s64` (true): value, position and length.
    WideExtract(bool, Wide, Wide, [Word; 2]),
    /// `bfi.b64`: value and base, position and length.
    WideInsert(Wide, [Wide; 2], [Word; 2]),
    /// 32 bits of 64.
    Narrow(integer::Narrow, Word, Wide),
    /// 64 bits of the low bits of 32: their number, and whether their sign is extended.
    Widen(u8, bool, Wide, Word),
    /// `mul.wide.u32`, `mul.wide.s32` (true).
    MulWide(bool, Wide, [Word; 2]),
    /// `mad.wide.u32`, `mad.wide.s32` (true).
    MadWide(bool, Wide, [Word; 2], Wide),
    /// `mov.b64 d, {a, b}`: low and high word.
    PackWords(Wide, [Word; 2]),
    /// Any other `mov` of parts of this many bits into one register.
    Pack(Register, Box<[Register]>, u8),
    /// `mov` of one register into parts of this many bits.
    Unpack(Box<[Register]>, Register, u8),
    /// f32, one operand.
    FloatUnary(float::Unary, Modifiers, Word, Word),
    /// f32, two operands.
    FloatBinary(float::Binary, Modifiers, Word, [Word; 2]),
    /// `fma` of f32.
    FloatFused(Modifiers, Word, [Word; 3]),
    /// f64; operands that the operation lacks repeat the first.
    Double(float::Double, Wide, [Wide; 3]),
    /// f16, bf16; operands that the operation lacks repeat the first.
    Half(HalfInstr, Word, [Word; 3]),
    /// `cvt` with a float or with saturation.
    Convert(Convert, Register, Register),
    /// `cvt` of two floats to a pair of halves: high, low.
    ConvertPair(ConvertPair, Word, [Word; 2]),
    /// `setp`.
    SetPredicate(Box<SetPredicate>),
    /// `set`.
    Set(Box<Set>),
    /// `selp` of at most 32 bits.
    Select(Word, [Word; 2], Guard),
    /// `selp` of 64 bits.
    SelectWide(Wide, [Wide; 2], Guard),
    /// `and.pred`, `or.pred`, `xor.pred`.
    Logic(Logic, Predicate, [Predicate; 2]),
    /// `mov.pred`, `not.pred`.
    Predicate(Predicate, Guard),
    /// `isspacep`: whether the address lies in the window of so many bytes.
    Within(Predicate, Wide, u64, u64),
    /// `isspacep.global`: whether it lies in none of the windows.
    WithinGlobal(Predicate, Wide),
}

/// What a counter counts a [`Scalar`] as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarClass {
    /// Integers, bits, moves, selection, predicates.
    Integer,
    /// f16, bf16, f32 without approximations.
    Float,
    /// f64.
    Double,
    /// Approximated functions.
    Special,
    /// Conversions.
    Conversion,
}

impl Scalar {
    /// What a counter counts it as.
    pub fn class(&self) -> ScalarClass {
        match self {
            Self::FloatUnary(float::Unary::Negate | float::Unary::Abs, ..) => ScalarClass::Float,
            Self::FloatUnary(..) | Self::FloatBinary(float::Binary::DivApprox, ..) => ScalarClass::Special,
            Self::FloatBinary(..) | Self::FloatFused(..) | Self::Half(..) => ScalarClass::Float,
            Self::Double(..) => ScalarClass::Double,
            Self::Convert(..) | Self::ConvertPair(..) => ScalarClass::Conversion,
            _ => ScalarClass::Integer,
        }
    }
}

impl Scalar {
    /// Floating-point operations of one lane; see [`Counters::flops`](super::counters::Counters::flops).
    #[inline]
    pub fn flops(&self) -> u64 {
        match self {
            Self::FloatUnary(float::Unary::Negate | float::Unary::Abs, ..)
            | Self::Double(float::Double::Negate | float::Double::Abs | float::Double::CopySign, ..)
            | Self::FloatBinary(float::Binary::CopySign, ..) => 0,
            Self::FloatUnary(..) | Self::FloatBinary(..) => 1,
            Self::FloatFused(..) => 2,
            Self::Double(op, ..) => 1 + u64::from(*op == float::Double::Fused),
            Self::Half(half, ..) => half.flops(),
            _ => 0,
        }
    }
}

/// Executes one operation in the lanes of `mask`; other lanes keep their values.
pub fn execute(op: &Scalar, r: &mut Registers, mask: u32) {
    vectorised(
        #[inline(always)]
        || match op {
            Scalar::Unary(op, to, a) => integer::unary(*op, r, mask, *to, *a),
            Scalar::Binary(op, to, ab) => integer::binary(*op, r, mask, *to, *ab),
            Scalar::Ternary(op, to, abc) => integer::ternary(*op, r, mask, *to, *abc),
            Scalar::WideUnary(op, to, a) => integer::wide_unary(*op, r, mask, *to, *a),
            Scalar::WideBinary(op, to, ab) => integer::wide_binary(*op, r, mask, *to, *ab),
            Scalar::Narrow(op, to, a) => integer::narrow(*op, r, mask, *to, *a),
            Scalar::FloatUnary(op, m, to, a) => float::unary(*op, *m, r, mask, *to, *a),
            Scalar::FloatBinary(op, m, to, ab) => float::binary(*op, *m, r, mask, *to, *ab),
            Scalar::FloatFused(m, to, abc) => float::fused(*m, r, mask, *to, *abc),
            Scalar::Double(op, to, abc) => float::double(*op, r, mask, *to, *abc),
            Scalar::Half(op, to, abc) => half::execute(*op, r, mask, *to, *abc),
            Scalar::Convert(op, to, a) => convert::execute(*op, r, mask, *to, *a),
            Scalar::ConvertPair(op, to, ab) => convert::pair(*op, r, mask, *to, *ab),
            Scalar::SetPredicate(op) => compare::set_predicate(op, r, mask),
            _ => mixed(op, r, mask),
        },
    );
}

/// Operations whose operands are of several classes.
#[inline(always)]
fn mixed(op: &Scalar, r: &mut Registers, mask: u32) {
    match *op {
        Scalar::Insert(to, [a, b, c, d]) => {
            map4(r, mask, to, (a, b, c, d), |a, b, c, d| integer::insert(u64::from(a), u64::from(b), c, d) as u32)
        }
        Scalar::WideMad(to, [a, b, c]) => map3(r, mask, to, (a, b, c), |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Scalar::WideShiftLeft(to, a, b) => map2(r, mask, to, (a, b), |a, b| if b < 64 { a << b } else { 0 }),
        Scalar::WideShiftRight(to, a, b) => map2(r, mask, to, (a, b), |a, b| if b < 64 { a >> b } else { 0 }),
        Scalar::WideShiftRightSigned(to, a, b) => {
            map2(r, mask, to, (a, b), |a, b| (a.cast_signed() >> b.min(63)).cast_unsigned());
        }
        Scalar::WideExtract(false, to, a, [b, c]) => {
            map3(r, mask, to, (a, b, c), |a, b, c| integer::extract(a, b, c, 64));
        }
        Scalar::WideExtract(true, to, a, [b, c]) => {
            map3(r, mask, to, (a, b, c), |a, b, c| integer::extract_signed(a.cast_signed(), b, c, 64).cast_unsigned())
        }
        Scalar::WideInsert(to, [a, b], [c, d]) => map4(r, mask, to, (a, b, c, d), integer::insert),
        Scalar::Widen(bits, signed, to, a) => convert::widen(bits, signed, r, mask, to, a),
        Scalar::MulWide(false, to, [a, b]) => map2(r, mask, to, (a, b), |a, b| u64::from(a) * u64::from(b)),
        Scalar::MulWide(true, to, [a, b]) => map2(r, mask, to, (a, b), signed_product),
        Scalar::MadWide(false, to, [a, b], c) => {
            map3(r, mask, to, (a, b, c), |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c));
        }
        Scalar::MadWide(true, to, [a, b], c) => {
            map3(r, mask, to, (a, b, c), |a, b, c| signed_product(a, b).wrapping_add(c));
        }
        Scalar::PackWords(to, [a, b]) => map2(r, mask, to, (a, b), |a, b| u64::from(b) << 32 | u64::from(a)),
        Scalar::Select(to, ab, by) => compare::select(r, mask, to, ab, compare::guarded(by, r)),
        Scalar::SelectWide(to, ab, by) => compare::select(r, mask, to, ab, compare::guarded(by, r)),
        Scalar::Logic(logic, to, [a, b]) => {
            r.set_predicate(to, logic.apply(r.predicate(a), r.predicate(b)), mask);
        }
        Scalar::Predicate(to, from) => r.set_predicate(to, compare::guarded(from, r), mask),
        Scalar::Within(to, a, first, bytes) => compare::within(r, mask, to, a, first, bytes),
        Scalar::WithinGlobal(to, a) => {
            compare::within(r, mask, to, a, 0, super::instr::SHARED_WINDOW);
        }
        Scalar::Set(ref set) => compare::set(set, r, mask),
        Scalar::Pack(to, ref parts, bits) => pack(r, mask, to, parts, bits),
        Scalar::Unpack(ref parts, from, bits) => unpack(r, mask, parts, from, bits),
        _ => {} // `execute` has done the others
    }
}

fn signed_product(a: u32, b: u32) -> u64 {
    (i64::from(a.cast_signed()) * i64::from(b.cast_signed())).cast_unsigned()
}

fn pack(r: &mut Registers, mask: u32, to: Register, parts: &[Register], bits: u8) {
    let low = u64::MAX >> (64 - u32::from(bits));
    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
        let value = parts.iter().rev().fold(0, |value, &part| value << bits | r.lane(part, lane) & low);
        r.set_lane(to, lane, value);
    }
}

fn unpack(r: &mut Registers, mask: u32, parts: &[Register], from: Register, bits: u8) {
    let low = u64::MAX >> (64 - u32::from(bits));
    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
        let value = r.lane(from, lane);
        for (at, &part) in parts.iter().enumerate() {
            r.set_lane(part, lane, value >> (usize::from(bits) * at) & low);
        }
    }
}
