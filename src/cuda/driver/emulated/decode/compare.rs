//! Comparison and selection (9.7.6, 9.7.7).

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::instr::Guard;
use crate::cuda::driver::emulated::registers::{Predicate, Register};
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::compare::{Compare, Compared, Logic, Relation, Set, SetPredicate};
use crate::cuda::ptx::Operand;

/// Which types a relation is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Any,
    Unsigned,
    Floats,
}

/// Relations (9.3.1): name, what it asks, whether NaN answers yes, for which types.
const RELATIONS: [(&str, (Relation, bool, For)); 18] = [
    ("eq", (Relation::Equal, false, For::Any)),
    ("ne", (Relation::NotEqual, false, For::Any)),
    ("lt", (Relation::Less, false, For::Any)),
    ("le", (Relation::LessOrEqual, false, For::Any)),
    ("gt", (Relation::Greater, false, For::Any)),
    ("ge", (Relation::GreaterOrEqual, false, For::Any)),
    ("lo", (Relation::Less, false, For::Unsigned)),
    ("ls", (Relation::LessOrEqual, false, For::Unsigned)),
    ("hi", (Relation::Greater, false, For::Unsigned)),
    ("hs", (Relation::GreaterOrEqual, false, For::Unsigned)),
    ("equ", (Relation::Equal, true, For::Floats)),
    ("neu", (Relation::NotEqual, true, For::Floats)),
    ("ltu", (Relation::Less, true, For::Floats)),
    ("leu", (Relation::LessOrEqual, true, For::Floats)),
    ("gtu", (Relation::Greater, true, For::Floats)),
    ("geu", (Relation::GreaterOrEqual, true, For::Floats)),
    ("num", (Relation::Ordered, false, For::Floats)),
    ("nan", (Relation::Ordered, true, For::Floats)),
];

const LOGIC: [(&str, Logic); 3] = [("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)];

impl<'m> Decoder<'m> {
    /// Relation and operands from 1 on, of the type `kind`, which has been taken.
    fn comparison(&mut self, kind: Kind) -> Result<Compare> {
        let (relation, unordered, types) = self.require(&RELATIONS)?;
        let compared = match kind {
            Kind::Bits(16 | 32) | Kind::Unsigned(16 | 32) => Compared::Unsigned,
            Kind::Signed(16) => Compared::Signed16,
            Kind::Signed(32) => Compared::Signed,
            Kind::Bits(64) | Kind::Unsigned(64) => Compared::Wide,
            Kind::Signed(64) => Compared::SignedWide,
            Kind::F32 => Compared::F32 { flush: self.flag("ftz") },
            Kind::F64 => Compared::F64,
            Kind::F16 => Compared::F16,
            Kind::Bf16 => Compared::Bf16,
            _ => return self.unsupported(),
        };
        let (bits, unsigned) = (matches!(kind, Kind::Bits(_)), matches!(kind, Kind::Unsigned(_)));
        let float = !matches!(kind, Kind::Bits(_) | Kind::Unsigned(_) | Kind::Signed(_));
        let equality = matches!(relation, Relation::Equal | Relation::NotEqual);
        let fits = match types {
            For::Any => !bits || equality,
            For::Unsigned => unsigned,
            For::Floats => float,
        };
        if !fits {
            return self.unsupported();
        }
        if kind == Kind::Bf16 {
            self.needs(90)?;
        }
        let (a, b) = (self.operand(1)?, self.operand(2)?);
        let operands = [self.source(a, kind)?, self.source(b, kind)?];
        Ok(Compare { relation, unordered, kind: compared, operands })
    }

    fn combined(&mut self) -> Result<Option<(Logic, Guard)>> {
        Ok(match self.take(&LOGIC) {
            Some(logic) => Some((logic, self.condition(3)?)),
            None => None,
        })
    }

    /// `setp` (9.7.6.2, 9.7.7.2).
    pub(super) fn set_predicate(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let compare = self.comparison(kind)?;
        let combine = self.combined()?;
        let (to, opposite) = match self.operand(0)? {
            Operand::Pair(to, opposite) => (self.maybe_predicate(to)?, self.maybe_predicate(opposite)?),
            to => (self.maybe_predicate(to)?, None),
        };
        self.scalar(Scalar::SetPredicate(Box::new(SetPredicate { compare, to, opposite, combine })))
    }

    fn maybe_predicate(&mut self, operand: &'m Operand) -> Result<Option<Predicate>> {
        match operand {
            Operand::Sink => Ok(None),
            Operand::Name(name) => Ok(Some(self.predicate_named(name)?)),
            _ => Err(self.fault("a predicate belongs here")),
        }
    }

    /// `set` (9.7.6.1): result type before operand type.
    pub(super) fn set(&mut self) -> Result<()> {
        let (from, to) = (self.kind()?, self.kind()?);
        let yes = match to {
            Kind::Unsigned(32) | Kind::Signed(32) => u32::MAX,
            Kind::F32 => 1.0f32.to_bits(),
            _ => return self.unsupported(),
        };
        let compare = self.comparison(from)?;
        let combine = self.combined()?;
        let to = self.destination_word(32)?;
        self.scalar(Scalar::Set(Box::new(Set { compare, combine, yes, to })))
    }

    /// `selp` (9.7.6.3).
    pub(super) fn select(&mut self) -> Result<()> {
        let kind = self.kind()?;
        if matches!(kind, Kind::Pred | Kind::F16 | Kind::F16x2 | Kind::Bf16 | Kind::Bf16x2) || kind.bits() == 8 {
            return self.unsupported();
        }
        let by = self.condition(3)?;
        if kind.bits() == 64 {
            let (to, from) = (self.destination_wide()?, self.wides(1, kind)?);
            return self.scalar(Scalar::SelectWide(to, from, by));
        }
        let (to, a, b) = (self.operand(0)?, self.operand(1)?, self.operand(2)?);
        let (to, _) = self.target_of(to, kind.bits(), false)?;
        match (to, self.source(a, kind)?, self.source(b, kind)?) {
            (Register::Word(to), Register::Word(a), Register::Word(b)) => self.scalar(Scalar::Select(to, [a, b], by)),
            _ => self.unsupported(),
        }
    }
}
