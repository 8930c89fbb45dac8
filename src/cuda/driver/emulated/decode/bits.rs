//! Logic, shifts, bit fields and byte permutation (9.7.1.14 to 9.7.1.22, 9.7.8, 9.7.9.7).

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::registers::Predicate;
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::compare::Logic;
use crate::cuda::driver::emulated::scalar::integer::{
    Binary, Narrow, PermuteMode, Ternary, Unary, WideBinary, WideUnary,
};
use crate::cuda::ptx::Operand;

const U32: Kind = Kind::Unsigned(32);

impl Decoder<'_> {
    /// `and`, `or`, `xor` (9.7.8.1 to 9.7.8.3).
    pub(super) fn logic(&mut self, logic: Logic) -> Result<()> {
        let kind = self.kind()?;
        let (word, wide) = match logic {
            Logic::And => (Binary::And, WideBinary::And),
            Logic::Or => (Binary::Or, WideBinary::Or),
            Logic::Xor => (Binary::Xor, WideBinary::Xor),
        };
        match kind {
            Kind::Pred => {
                let to = self.operand(0)?;
                let to = self.predicate_of(to)?;
                let (a, b) = (self.plain_condition(1)?, self.plain_condition(2)?);
                self.scalar(Scalar::Logic(logic, to, [a, b]))
            }
            Kind::Bits(16 | 32) => self.binary(word, kind),
            Kind::Bits(64) => self.wide_binary(wide, kind),
            _ => self.unsupported(),
        }
    }

    fn plain_condition(&mut self, at: usize) -> Result<Predicate> {
        let guard = self.condition(at)?;
        if guard.negated { self.unsupported() } else { Ok(guard.predicate) }
    }

    /// `not` (9.7.8.4).
    pub(super) fn not(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Pred => {
                let to = self.operand(0)?;
                let to = self.predicate_of(to)?;
                let mut from = self.condition(1)?;
                from.negated = !from.negated;
                self.scalar(Scalar::Predicate(to, from))
            }
            Kind::Bits(16) => self.unary(Unary::Not16, kind),
            Kind::Bits(32) => self.unary(Unary::Not, kind),
            Kind::Bits(64) => self.wide_unary(WideUnary::Not, kind),
            _ => self.unsupported(),
        }
    }

    /// `cnot` (9.7.8.5).
    pub(super) fn logical_not(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Bits(16 | 32) => self.unary(Unary::LogicalNot, kind),
            Kind::Bits(64) => self.wide_unary(WideUnary::LogicalNot, kind),
            _ => self.unsupported(),
        }
    }

    /// `lop3` (9.7.8.6): any function of three words by its table.
    pub(super) fn lop3(&mut self) -> Result<()> {
        let kind = self.kind()?;
        if kind != Kind::Bits(32) {
            return self.unsupported();
        }
        let table = match *self.operand(4)? {
            Operand::Integer(table @ 0..256) => table as u8,
            _ => return Err(self.fault("the table is not a number below 256")),
        };
        let (to, from) = (self.destination_word(32)?, self.words(1, kind)?);
        self.scalar(Scalar::Ternary(Ternary::Lop3(table), to, from))
    }

    /// `shl`, `shr` (9.7.8.8, 9.7.8.9): the amount always has 32 bits.
    pub(super) fn shift(&mut self, left: bool) -> Result<()> {
        let kind = self.kind()?;
        let signed = matches!(kind, Kind::Signed(_)) && !left;
        if left && !matches!(kind, Kind::Bits(_)) {
            return self.unsupported();
        }
        match (kind, kind.bits()) {
            (Kind::Bits(_) | Kind::Unsigned(_) | Kind::Signed(_), 16 | 32) => {
                let op = match (left, signed, kind.bits()) {
                    (true, _, 16) => Binary::ShiftLeft16,
                    (true, ..) => Binary::ShiftLeft,
                    (_, true, 16) => Binary::ShiftRightSigned16,
                    (_, true, _) => Binary::ShiftRightSigned,
                    _ => Binary::ShiftRight,
                };
                let (to, a, b) = (self.destination_word(kind.bits())?, self.word(1, kind)?, self.word(2, U32)?);
                self.scalar(Scalar::Binary(op, to, [a, b]))
            }
            (Kind::Bits(_) | Kind::Unsigned(_) | Kind::Signed(_), 64) => {
                let (to, a, b) = (self.destination_wide()?, self.wide(1, kind)?, self.word(2, U32)?);
                self.scalar(match (left, signed) {
                    (true, _) => Scalar::WideShiftLeft(to, a, b),
                    (_, true) => Scalar::WideShiftRightSigned(to, a, b),
                    _ => Scalar::WideShiftRight(to, a, b),
                })
            }
            _ => self.unsupported(),
        }
    }

    /// `shf` (9.7.8.7).
    pub(super) fn funnel_shift(&mut self) -> Result<()> {
        let left = self.require(&[("l", true), ("r", false)])?;
        let wrap = self.require(&[("wrap", true), ("clamp", false)])?;
        if self.kind()? != Kind::Bits(32) {
            return self.unsupported();
        }
        let op = if left { Ternary::FunnelLeft { wrap } } else { Ternary::FunnelRight { wrap } };
        let (to, from) = (self.destination_word(32)?, self.words(1, U32)?);
        self.scalar(Scalar::Ternary(op, to, from))
    }

    /// `popc`, `clz` (9.7.1.14, 9.7.1.15).
    pub(super) fn count_bits(&mut self, word: Unary, wide: Narrow) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Bits(32) => self.unary(word, kind),
            Kind::Bits(64) => {
                let (to, from) = (self.destination_word(32)?, self.wide(1, kind)?);
                self.scalar(Scalar::Narrow(wide, to, from))
            }
            _ => self.unsupported(),
        }
    }

    /// `bfind` (9.7.1.16).
    pub(super) fn find(&mut self) -> Result<()> {
        let (kind, amount) = (self.kind()?, self.flag("shiftamt"));
        let signed = matches!(kind, Kind::Signed(_));
        match kind {
            Kind::Unsigned(32) | Kind::Signed(32) => {
                let op = match (amount, signed) {
                    (false, false) => Unary::Find,
                    (false, true) => Unary::FindSigned,
                    (true, false) => Unary::FindShift,
                    (true, true) => Unary::FindShiftSigned,
                };
                self.unary(op, kind)
            }
            Kind::Unsigned(64) | Kind::Signed(64) => {
                let op = match (amount, signed) {
                    (false, false) => Narrow::Find,
                    (false, true) => Narrow::FindSigned,
                    (true, false) => Narrow::FindShift,
                    (true, true) => Narrow::FindShiftSigned,
                };
                let (to, from) = (self.destination_word(32)?, self.wide(1, kind)?);
                self.scalar(Scalar::Narrow(op, to, from))
            }
            _ => self.unsupported(),
        }
    }

    /// `brev` (9.7.1.18).
    pub(super) fn reverse(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Bits(32) => self.unary(Unary::Reverse, kind),
            Kind::Bits(64) => self.wide_unary(WideUnary::Reverse, kind),
            _ => self.unsupported(),
        }
    }

    /// `bfe` (9.7.1.19).
    pub(super) fn extract(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let signed = matches!(kind, Kind::Signed(_));
        match kind {
            Kind::Unsigned(32) | Kind::Signed(32) => {
                let op = if signed { Ternary::ExtractSigned } else { Ternary::Extract };
                let (to, a, [b, c]) = (self.destination_word(32)?, self.word(1, kind)?, self.words(2, U32)?);
                self.scalar(Scalar::Ternary(op, to, [a, b, c]))
            }
            Kind::Unsigned(64) | Kind::Signed(64) => {
                let (to, a, field) = (self.destination_wide()?, self.wide(1, kind)?, self.words(2, U32)?);
                self.scalar(Scalar::WideExtract(signed, to, a, field))
            }
            _ => self.unsupported(),
        }
    }

    /// `bfi` (9.7.1.20).
    pub(super) fn insert(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Bits(32) => {
                let (to, from) = (self.destination_word(32)?, self.words(1, kind)?);
                self.scalar(Scalar::Insert(to, from))
            }
            Kind::Bits(64) => {
                let (to, from, field) = (self.destination_wide()?, self.wides(1, kind)?, self.words(3, U32)?);
                self.scalar(Scalar::WideInsert(to, from, field))
            }
            _ => self.unsupported(),
        }
    }

    /// `bmsk` (9.7.1.22).
    pub(super) fn bit_mask(&mut self) -> Result<()> {
        let wrap = self.require(&[("wrap", true), ("clamp", false)])?;
        match self.kind()? {
            Kind::Bits(32) => self.binary(if wrap { Binary::MaskWrapped } else { Binary::Mask }, Kind::Bits(32)),
            _ => self.unsupported(),
        }
    }

    /// `prmt` (9.7.9.7).
    pub(super) fn permute(&mut self) -> Result<()> {
        let mode = self.take(&[
            ("f4e", PermuteMode::Forward),
            ("b4e", PermuteMode::Backward),
            ("rc8", PermuteMode::Replicate8),
            ("ecl", PermuteMode::EdgeLeft),
            ("ecr", PermuteMode::EdgeRight),
            ("rc16", PermuteMode::Replicate16),
        ]);
        if self.kind()? != Kind::Bits(32) {
            return self.unsupported();
        }
        let (to, from) = (self.destination_word(32)?, self.words(1, Kind::Bits(32))?);
        self.scalar(Scalar::Ternary(mode.map_or(Ternary::Permute, Ternary::PermuteMode), to, from))
    }
}
