//! Moves, conversions and address conversions (`mov` 9.7.9.3, `cvta` 9.7.9.20, `cvt` 9.7.9.21, `isspacep` 9.7.9.19).

use super::kind::Kind;
use super::operand::window;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::instr::{Clock, Op, Space, WINDOW_BYTES};
use crate::cuda::driver::emulated::registers::Register;
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::convert::{Convert, ConvertPair, Number};
use crate::cuda::driver::emulated::scalar::float::Rounding;
use crate::cuda::driver::emulated::scalar::integer::{Binary, Narrow, Unary, WideUnary};
use crate::cuda::ptx::Operand;

/// Rounding words of `cvt`: to a float, or (with an i) to an integral value.
const ROUNDINGS: [(&str, (Rounding, bool)); 9] = [
    ("rn", (Rounding::Nearest, false)),
    ("rna", (Rounding::NearestAway, false)),
    ("rz", (Rounding::Zero, false)),
    ("rm", (Rounding::Down, false)),
    ("rp", (Rounding::Up, false)),
    ("rni", (Rounding::Nearest, true)),
    ("rzi", (Rounding::Zero, true)),
    ("rmi", (Rounding::Down, true)),
    ("rpi", (Rounding::Up, true)),
];

const SPACES: [(&str, Space); 5] = [
    ("global", Space::Global),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("local", Space::Local),
    ("const", Space::Const),
];

impl<'m> Decoder<'m> {
    /// `mov`: between registers, from special registers, addresses and immediates, and packing.
    pub(super) fn mov(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let (to, from) = (self.operand(0)?, self.operand(1)?);
        match (to, from) {
            (Operand::Vector(parts), _) => self.unpack(parts, from, kind),
            (_, Operand::Vector(parts)) => self.pack(to, parts, kind),
            _ if kind == Kind::Pred => {
                let (to, from) = (self.predicate_of(to)?, self.condition(1)?);
                if from.negated { self.unsupported() } else { self.scalar(Scalar::Predicate(to, from)) }
            }
            _ => {
                let (to, _) = self.target_of(to, kind.bits(), false)?;
                if let Some(clock) = clock(from, kind.bits()) {
                    self.push(Op::ReadClock(to, clock));
                    return Ok(());
                }
                let from = self.source(from, kind)?;
                self.push_move(to, from)
            }
        }
    }

    /// Bits of each part of a vector that makes up a whole.
    fn part(&self, whole: u8, parts: &[Operand]) -> Result<u8> {
        match (whole, parts.len()) {
            (16, 2) => Ok(8),
            (32, 2) => Ok(16),
            (32, 4) => Ok(8),
            (64, 2) => Ok(32),
            (64, 4) => Ok(16),
            _ => Err(self.fault("these parts do not make up the type")),
        }
    }

    fn pack(&mut self, to: &'m Operand, parts: &'m [Operand], kind: Kind) -> Result<()> {
        let bits = self.part(kind.bits(), parts)?;
        let (to, _) = self.target_of(to, kind.bits(), false)?;
        let mut from = Vec::with_capacity(parts.len());
        for part in parts {
            from.push(self.source(part, Kind::Bits(bits))?);
        }
        self.scalar(match (to, from.as_slice()) {
            (Register::Wide(to), &[Register::Word(a), Register::Word(b)]) => Scalar::PackWords(to, [a, b]),
            (Register::Word(to), &[Register::Word(a), Register::Word(b)]) if bits == 16 => {
                Scalar::Binary(Binary::PackHalves, to, [a, b])
            }
            _ => Scalar::Pack(to, from.into(), bits),
        })
    }

    fn unpack(&mut self, parts: &'m [Operand], from: &'m Operand, kind: Kind) -> Result<()> {
        let bits = self.part(kind.bits(), parts)?;
        let from = self.source(from, kind)?;
        let mut to = Vec::with_capacity(parts.len());
        for part in parts {
            to.push(if *part == Operand::Sink { Register::Sink } else { self.target_of(part, bits, false)?.0 });
        }
        match (from, to.as_slice()) {
            (Register::Wide(from), &[low, high]) => {
                let truncate = Narrow::Truncate { bits: 32, signed: false, keep: 32 };
                for (op, part) in [(truncate, low), (Narrow::High, high)] {
                    if let Register::Word(part) = part {
                        self.scalar(Scalar::Narrow(op, part, from))?;
                    }
                }
                Ok(())
            }
            (Register::Word(from), &[low, high]) if bits == 16 => {
                if let Register::Word(low) = low {
                    self.scalar(Scalar::Unary(Unary::Extend { bits: 16, signed: false, keep: 16 }, low, from))?;
                }
                if let Register::Word(high) = high {
                    let half = self.constant_word(16)?;
                    self.scalar(Scalar::Binary(Binary::ShiftRight, high, [from, half]))?;
                }
                Ok(())
            }
            _ => self.scalar(Scalar::Unpack(to.into(), from, bits)),
        }
    }

    /// `cvta`: to a generic address, or from one.
    pub(super) fn convert_address(&mut self) -> Result<()> {
        let back = self.flag("to");
        let params = [("param", Space::Param), ("param::entry", Space::Param)];
        let space = match self.take(&params) {
            Some(space) => space,
            None => self.require(&SPACES)?,
        };
        if self.kind()? != Kind::Unsigned(64) {
            return self.unsupported();
        }
        let base = if back { window(space).wrapping_neg() } else { window(space) };
        let (to, from) = (self.destination_wide()?, self.wide(1, Kind::Unsigned(64))?);
        self.scalar(Scalar::WideUnary(if base == 0 { WideUnary::Move } else { WideUnary::Offset(base) }, to, from))
    }

    /// `isspacep`.
    pub(super) fn is_space(&mut self) -> Result<()> {
        let space = self.require(&SPACES)?;
        let to = self.operand(0)?;
        let (to, from) = (self.predicate_of(to)?, self.wide(1, Kind::Unsigned(64))?);
        match space {
            Space::Shared | Space::Local => self.scalar(Scalar::Within(to, from, window(space), WINDOW_BYTES)),
            Space::Global => self.scalar(Scalar::WithinGlobal(to, from)),
            _ => self.unsupported(),
        }
    }

    /// `cvt`: result type before operand type.
    pub(super) fn convert(&mut self) -> Result<()> {
        let (from, to) = (self.kind()?, self.kind()?);
        if matches!(to, Kind::F16x2 | Kind::Bf16x2) {
            return self.convert_pair(from, to);
        }
        let (Some(source), Some(result)) = (number(from), number(to)) else { return self.unsupported() };
        let rounding = self.take(&ROUNDINGS);
        let (f32s, halves) = (from == Kind::F32 || to == Kind::F32, result == Number::F16 || result == Number::Bf16);
        let flush = f32s && self.flag("ftz");
        let saturate = self.flag("sat");
        let relu = (halves || result == Number::Tf32) && from == Kind::F32 && self.flag("relu");
        let integers = (matches!(source, Number::Integer { .. }), matches!(result, Number::Integer { .. }));
        let fits = match (integers, rounding) {
            ((true, true), rounding) => rounding.is_none() && !(saturate && to.holds(from)),
            ((true, false), Some((_, integral))) => !integral && result != Number::Bf16,
            ((false, true), Some((_, integral))) => integral,
            ((false, false), _) => self.float_rounding_fits(from, to, rounding),
            _ => false,
        };
        if !fits {
            return self.unsupported();
        }
        let bits = to.bits();
        let destination = self.operand(0)?;
        let (destination, keep) = self.target_of(destination, bits, integers.1)?;
        if integers == (true, true) && !saturate {
            return self.convert_integer(destination, keep, from, to);
        }
        let operand = self.operand(1)?;
        let origin =
            if from.bits() < 64 { Register::Word(self.low_word(1, from)?) } else { self.source(operand, from)? };
        let (rounding, integral) = rounding.unwrap_or((Rounding::Nearest, false));
        let convert = Convert { to: result, from: source, rounding, integral, flush, saturate, relu, keep };
        self.scalar(Scalar::Convert(convert, destination, origin))
    }

    /// Whether a rounding belongs between two float types: a narrower one needs it, a wider one has none, the same type
    /// has one to an integral value.
    fn float_rounding_fits(&self, from: Kind, to: Kind, rounding: Option<(Rounding, bool)>) -> bool {
        let width = |kind| match kind {
            Kind::F16 | Kind::Bf16 => 1,
            Kind::Tf32 => 2,
            Kind::F32 => 3,
            _ => 4,
        };
        match rounding {
            None => width(to) > width(from) && from != Kind::Tf32 || to == from && to != Kind::Bf16,
            Some((_, true)) => to == from && matches!(to, Kind::F16 | Kind::F32 | Kind::F64),
            Some((Rounding::NearestAway, false)) => to == Kind::Tf32 && from == Kind::F32,
            Some((Rounding::Nearest | Rounding::Zero, false)) if matches!(to, Kind::Bf16 | Kind::Tf32) => {
                from == Kind::F32 && (to == Kind::Bf16 || self.target >= 90)
            }
            Some((_, false)) => width(to) < width(from) && matches!(to, Kind::F16 | Kind::F32),
        }
    }

    fn convert_integer(&mut self, to: Register, keep: u8, from: Kind, kind: Kind) -> Result<()> {
        // The narrower type decides which bits count; the wider one, or the register, how far they are extended.
        let (narrow, wide) = if kind.bits() > from.bits() { (from, kind) } else { (kind, kind) };
        let signed = matches!(narrow, Kind::Signed(_));
        let bits = narrow.bits();
        // A value extended by its sign to an unsigned type is extended by zeros beyond that.
        let cut = if matches!(wide, Kind::Signed(_)) { keep } else { keep.min(wide.bits()) };
        match to {
            Register::Word(to) if from.bits() == 64 => {
                let operand = self.wide(1, from)?;
                self.scalar(Scalar::Narrow(Narrow::Truncate { bits, signed, keep: cut }, to, operand))
            }
            Register::Word(to) => {
                let operand = self.low_word(1, from)?;
                self.scalar(Scalar::Unary(Unary::Extend { bits, signed, keep: cut }, to, operand))
            }
            Register::Wide(to) if from.bits() == 64 && bits == 64 => {
                let operand = self.wide(1, from)?;
                self.scalar(Scalar::WideUnary(WideUnary::Move, to, operand))
            }
            Register::Wide(to) if cut == 64 || !signed => {
                let operand = if from.bits() == 64 {
                    let operand = self.wide(1, from)?;
                    let Register::Word(word) = self.allocate(32)? else { return self.unsupported() };
                    let truncate = Narrow::Truncate { bits, signed, keep: 32 };
                    self.scalar(Scalar::Narrow(truncate, word, operand))?;
                    word
                } else {
                    self.low_word(1, from)?
                };
                self.scalar(Scalar::Widen(bits, signed, to, operand))
            }
            _ => self.unsupported(),
        }
    }

    /// `cvt.rnd.f16x2.f32`, `cvt.rnd.bf16x2.f32`.
    fn convert_pair(&mut self, from: Kind, to: Kind) -> Result<()> {
        if from != Kind::F32 {
            return self.unsupported();
        }
        let rounding = self.require(&[("rn", Rounding::Nearest), ("rz", Rounding::Zero)])?;
        let relu = self.flag("relu");
        let (destination, operands) = (self.destination_word(32)?, self.words(1, Kind::F32)?);
        let pair = ConvertPair { brain: to == Kind::Bf16x2, rounding, relu };
        self.scalar(Scalar::ConvertPair(pair, destination, operands))
    }
}

fn number(kind: Kind) -> Option<Number> {
    Some(match kind {
        Kind::Unsigned(bits) => Number::Integer { bits, signed: false },
        Kind::Signed(bits) => Number::Integer { bits, signed: true },
        Kind::F16 => Number::F16,
        Kind::Bf16 => Number::Bf16,
        Kind::Tf32 => Number::Tf32,
        Kind::F32 => Number::F32,
        Kind::F64 => Number::F64,
        Kind::Bits(_) | Kind::F16x2 | Kind::Bf16x2 | Kind::Pred => return None,
    })
}

/// The clock that an operand names, if its size is that of the move.
fn clock(operand: &Operand, bits: u8) -> Option<Clock> {
    let Operand::Name(name) = operand else { return None };
    match (name.as_str(), bits) {
        ("%clock", 32) | ("%clock64", 64) => Some(Clock::Cycles),
        ("%clock_hi", 32) => Some(Clock::CyclesHigh),
        ("%globaltimer", 64) | ("%globaltimer_lo", 32) => Some(Clock::Nanoseconds),
        _ => None,
    }
}
