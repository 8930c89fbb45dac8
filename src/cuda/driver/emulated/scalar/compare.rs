//! Comparisons and selection (`setp`, `set`, `selp`; 9.7.6, 9.7.7), and logic on predicates (9.7.8).

use super::float::flush;
use super::half;
use super::rows::{Plane, lanes_where, write};
use crate::cuda::driver::emulated::instr::Guard;
use crate::cuda::driver::emulated::registers::{LANES, Predicate, Register, Registers, Wide, Word};

/// What is asked about two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `.eq`.
    Equal,
    /// `.ne`.
    NotEqual,
    /// `.lt`, `.lo`.
    Less,
    /// `.le`, `.ls`.
    LessOrEqual,
    /// `.gt`, `.hi`.
    Greater,
    /// `.ge`, `.hs`.
    GreaterOrEqual,
    /// `.num`: both are numbers.
    Ordered,
}

impl Relation {
    fn complement(self) -> Self {
        match self {
            Self::Equal | Self::Ordered => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }
}

/// Type of the numbers compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Unsigned or bits, up to 32 of them.
    Unsigned,
    /// 32 bits with sign.
    Signed,
    /// 16 bits with sign.
    Signed16,
    /// 64 bits.
    Wide,
    /// 64 bits with sign.
    SignedWide,
    /// f32; with `.ftz` or not.
    F32 {
        /// `.ftz`.
        flush: bool,
    },
    /// f64.
    F64,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The question.
    pub relation: Relation,
    /// Whether the answer is also yes if one is NaN (`.equ` … `.geu`); `.nan` is `Ordered`, unordered.
    pub unordered: bool,
    /// On what.
    pub kind: Compared,
    /// Left and right, of one class.
    pub operands: [Register; 2],
}

/// Logic of two predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Both.
    And,
    /// Either.
    Or,
    /// One of them.
    Xor,
}

impl Logic {
    /// Lane by lane.
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
        }
    }
}

/// `setp`: p = compare op c; q = not compare op c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPredicate {
    /// What is compared.
    pub compare: Compare,
    /// Receives the answer.
    pub to: Option<Predicate>,
    /// Receives the opposite.
    pub opposite: Option<Predicate>,
    /// What the answer is combined with.
    pub combine: Option<(Logic, Guard)>,
}

/// Executes a [`SetPredicate`].
#[inline(always)]
pub fn set_predicate(i: &SetPredicate, r: &mut Registers, mask: u32) {
    let answer = lanes(i.compare, r);
    let combined = |answer| match i.combine {
        Some((logic, guard)) => logic.apply(answer, guarded(guard, r)),
        None => answer,
    };
    let (yes, no) = (combined(answer), combined(!answer));
    if let Some(to) = i.to {
        r.set_predicate(to, yes, mask);
    }
    if let Some(opposite) = i.opposite {
        r.set_predicate(opposite, no, mask);
    }
}

/// The lanes in which a guard holds.
#[inline(always)]
pub fn guarded(guard: Guard, r: &Registers) -> u32 {
    let lanes = r.predicate(guard.predicate);
    if guard.negated { !lanes } else { lanes }
}

/// The lanes in which a comparison holds.
#[inline(always)]
pub fn lanes(i: Compare, r: &Registers) -> u32 {
    if i.unordered && i.relation == Relation::Ordered {
        return !ordered(i, Relation::Ordered, r);
    }
    if i.unordered { !ordered(i, i.relation.complement(), r) } else { ordered(i, i.relation, r) }
}

#[inline(always)]
fn ordered(i: Compare, relation: Relation, r: &Registers) -> u32 {
    match i.operands {
        [Register::Word(a), Register::Word(b)] => match i.kind {
            Compared::Signed => relate(relation, r, (a, b), u32::cast_signed),
            Compared::Signed16 => relate(relation, r, (a, b), |a| (a as u16).cast_signed()),
            Compared::F32 { flush: false } => relate(relation, r, (a, b), f32::from_bits),
            Compared::F32 { flush: true } => relate(relation, r, (a, b), |a| flush(f32::from_bits(a))),
            Compared::F16 => relate(relation, r, (a, b), |a| half::value(a, false)),
            Compared::Bf16 => relate(relation, r, (a, b), |a| half::value(a, true)),
            _ => relate(relation, r, (a, b), |a| a),
        },
        [Register::Wide(a), Register::Wide(b)] => match i.kind {
            Compared::SignedWide => relate(relation, r, (a, b), u64::cast_signed),
            Compared::F64 => relate(relation, r, (a, b), f64::from_bits),
            _ => relate(relation, r, (a, b), |a| a),
        },
        _ => 0, // the decoder compares registers of one class
    }
}

#[inline(always)]
fn relate<A: Plane, N: PartialOrd>(
    relation: Relation,
    r: &Registers,
    ab: (A, A),
    number: impl Fn(A::Lane) -> N + Copy,
) -> u32 {
    match relation {
        Relation::Equal => lanes_where(r, ab, move |a, b| number(a) == number(b)),
        // Not `!=`, which holds for NaN.
        Relation::NotEqual => lanes_where(r, ab, move |a, b| (number(a) < number(b)) | (number(a) > number(b))),
        Relation::Less => lanes_where(r, ab, move |a, b| number(a) < number(b)),
        Relation::LessOrEqual => lanes_where(r, ab, move |a, b| number(a) <= number(b)),
        Relation::Greater => lanes_where(r, ab, move |a, b| number(a) > number(b)),
        Relation::GreaterOrEqual => lanes_where(r, ab, move |a, b| number(a) >= number(b)),
        Relation::Ordered => lanes_where(r, ab, move |a, b| number(a).partial_cmp(&number(b)).is_some()),
    }
}

/// `set`: `yes` where the comparison, combined, holds, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// What is compared.
    pub compare: Compare,
    /// What the answer is combined with.
    pub combine: Option<(Logic, Guard)>,
    /// All ones, or 1.0.
    pub yes: u32,
    /// Receives it.
    pub to: Word,
}

/// Executes a [`Set`].
#[inline(always)]
pub fn set(i: &Set, r: &mut Registers, mask: u32) {
    let answer = lanes(i.compare, r);
    let answer = i.combine.map_or(answer, |(logic, guard)| logic.apply(answer, guarded(guard, r)));
    let row = r.word_mut(i.to);
    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
        row[lane] = if answer >> lane & 1 == 1 { i.yes } else { 0 };
    }
}

/// `selp` on words: a where the predicate holds, else b.
#[inline(always)]
pub fn select<T: Plane>(r: &mut Registers, mask: u32, to: T, [a, b]: [T; 2], by: u32) {
    let (a, b) = (a.row(r), b.row(r));
    let mut values = [T::Lane::default(); LANES];
    for lane in 0..LANES {
        values[lane] = if by >> lane & 1 == 1 { a[lane] } else { b[lane] };
    }
    write(r, mask, to, values);
}

/// `isspacep` (9.7.9.19): whether a generic address lies in `first..first + bytes`.
#[inline(always)]
pub fn within(r: &mut Registers, mask: u32, to: Predicate, a: Wide, first: u64, bytes: u64) {
    let lanes = lanes_where(r, (a, a), move |a, _| a.wrapping_sub(first) < bytes);
    r.set_predicate(to, lanes, mask);
}
