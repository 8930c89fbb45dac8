//! Arithmetic on integers and floats (9.7.1, 9.7.3, 9.7.4).

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::float::{self, Double, Modifiers, Rounding};
use crate::cuda::driver::emulated::scalar::half::{HalfInstr, HalfModifiers, HalfOp, HalfType};
use crate::cuda::driver::emulated::scalar::integer::{Binary, Ternary, Unary, WideBinary, WideUnary};

/// Rounding of floating-point results (9.7.3).
const ROUNDINGS: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

/// What an opcode does for each type of integer: 16, 32 and 64 bits, unsigned and signed.
struct Integers {
    short: [Binary; 2],
    word: [Binary; 2],
    wide: [WideBinary; 2],
}

/// What an opcode does for each type of float.
struct Floats {
    single: float::Binary,
    double: Double,
    half: HalfOp,
}

impl Decoder<'_> {
    /// `add`, `sub` (9.7.1.1, 9.7.1.2, 9.7.3.3, 9.7.3.4, 9.7.4.1, 9.7.4.2).
    pub(super) fn sum(&mut self, subtract: bool) -> Result<()> {
        let kind = self.kind()?;
        if kind == Kind::Signed(32) && self.flag("sat") {
            return self.binary(if subtract { Binary::SubSaturating } else { Binary::AddSaturating }, kind);
        }
        let integers = if subtract {
            Integers { short: [Binary::Sub16; 2], word: [Binary::Sub; 2], wide: [WideBinary::Sub; 2] }
        } else {
            Integers { short: [Binary::Add16; 2], word: [Binary::Add; 2], wide: [WideBinary::Add; 2] }
        };
        let floats = if subtract {
            Floats { single: float::Binary::Sub, double: Double::Sub, half: HalfOp::Sub }
        } else {
            Floats { single: float::Binary::Add, double: Double::Add, half: HalfOp::Add }
        };
        self.rounded_or_integer(kind, &integers, &floats)
    }

    /// `mul` (9.7.1.3, 9.7.3.5, 9.7.4.3).
    pub(super) fn product(&mut self) -> Result<()> {
        let kind = self.kind()?;
        if self.flag("wide") {
            return match kind {
                Kind::Unsigned(16) => self.word_product_of_shorts(Binary::Mul, kind),
                Kind::Signed(16) => self.word_product_of_shorts(Binary::MulWideSigned16, kind),
                Kind::Unsigned(32) | Kind::Signed(32) => {
                    let (to, from) = (self.destination_wide()?, self.words(1, kind)?);
                    self.scalar(Scalar::MulWide(kind == Kind::Signed(32), to, from))
                }
                _ => self.unsupported(),
            };
        }
        let high = Integers {
            short: [Binary::MulHigh16, Binary::MulHighSigned16],
            word: [Binary::MulHigh, Binary::MulHighSigned],
            wide: [WideBinary::MulHigh, WideBinary::MulHighSigned],
        };
        let low = Integers { short: [Binary::Mul16; 2], word: [Binary::Mul; 2], wide: [WideBinary::Mul; 2] };
        let floats = Floats { single: float::Binary::Mul, double: Double::Mul, half: HalfOp::Mul };
        match kind {
            Kind::Unsigned(_) | Kind::Signed(_) => {
                let integers = if self.require(&[("hi", true), ("lo", false)])? { high } else { low };
                self.rounded_or_integer(kind, &integers, &floats)
            }
            _ => self.rounded_or_integer(kind, &low, &floats),
        }
    }

    fn word_product_of_shorts(&mut self, op: Binary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_word(32)?, self.words(1, kind)?);
        self.scalar(Scalar::Binary(op, to, from))
    }

    /// Integers, or floats with an optional rounding.
    fn rounded_or_integer(&mut self, kind: Kind, integers: &Integers, floats: &Floats) -> Result<()> {
        match kind {
            Kind::Unsigned(_) | Kind::Signed(_) => self.integer(kind, integers),
            Kind::F32 => {
                let rounding = self.take(&ROUNDINGS).unwrap_or(Rounding::Nearest);
                let modifiers = Modifiers { rounding, flush: self.flag("ftz"), saturate: self.flag("sat") };
                self.single(floats.single, modifiers)
            }
            Kind::F64 => {
                self.flag("rn");
                self.double(floats.double, 2)
            }
            _ => {
                self.flag("rn");
                if matches!(kind, Kind::Bf16 | Kind::Bf16x2) {
                    self.needs(90)?;
                }
                let half = matches!(kind, Kind::F16 | Kind::F16x2);
                let (flush, saturate) = (half && self.flag("ftz"), half && self.flag("sat"));
                self.half(floats.half, kind, HalfModifiers { flush, saturate, relu: false }, 2)
            }
        }
    }

    fn integer(&mut self, kind: Kind, integers: &Integers) -> Result<()> {
        let signed = usize::from(matches!(kind, Kind::Signed(_)));
        match kind.bits() {
            16 => self.binary(integers.short[signed], kind),
            32 => self.binary(integers.word[signed], kind),
            64 => self.wide_binary(integers.wide[signed], kind),
            _ => self.unsupported(),
        }
    }

    /// An operation on two registers of at most 32 bits.
    pub(super) fn binary(&mut self, op: Binary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_word(kind.bits())?, self.words(1, kind)?);
        self.scalar(Scalar::Binary(op, to, from))
    }

    /// An operation on two registers of 64 bits.
    pub(super) fn wide_binary(&mut self, op: WideBinary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_wide()?, self.wides(1, kind)?);
        self.scalar(Scalar::WideBinary(op, to, from))
    }

    fn ternary(&mut self, op: Ternary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_word(kind.bits())?, self.words(1, kind)?);
        self.scalar(Scalar::Ternary(op, to, from))
    }

    fn single(&mut self, op: float::Binary, modifiers: Modifiers) -> Result<()> {
        let (to, from) = (self.destination_word(32)?, self.words(1, Kind::F32)?);
        self.scalar(Scalar::FloatBinary(op, modifiers, to, from))
    }

    fn double(&mut self, op: Double, operands: usize) -> Result<()> {
        let to = self.destination_wide()?;
        let mut from = [self.wide(1, Kind::F64)?; 3];
        for (at, from) in from.iter_mut().enumerate().take(operands).skip(1) {
            *from = self.wide(at + 1, Kind::F64)?;
        }
        self.scalar(Scalar::Double(op, to, from))
    }

    fn half(&mut self, op: HalfOp, kind: Kind, modifiers: HalfModifiers, operands: usize) -> Result<()> {
        let brain = matches!(kind, Kind::Bf16 | Kind::Bf16x2);
        if !brain && !matches!(kind, Kind::F16 | Kind::F16x2) {
            return self.unsupported();
        }
        let to = self.destination_word(kind.bits())?;
        let mut from = [self.word(1, kind)?; 3];
        for (at, from) in from.iter_mut().enumerate().take(operands).skip(1) {
            *from = self.word(at + 1, kind)?;
        }
        let kind = HalfType { brain, packed: kind.bits() == 32 };
        self.scalar(Scalar::Half(HalfInstr { op, kind, modifiers }, to, from))
    }

    /// `div` (9.7.1.8, 9.7.3.8).
    pub(super) fn quotient(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::F32 => {
                let choices = [
                    ("approx", (float::Binary::DivApprox, Rounding::Nearest)),
                    ("full", (float::Binary::Div, Rounding::Nearest)),
                ];
                let (op, rounding) = match self.take(&choices) {
                    Some(choice) => choice,
                    None => (float::Binary::Div, self.require(&ROUNDINGS)?),
                };
                let flush = self.flag("ftz");
                self.single(op, Modifiers { rounding, flush, saturate: false })
            }
            Kind::F64 => {
                self.require(&[("rn", ())])?;
                self.double(Double::Div, 2)
            }
            _ => {
                let integers = Integers {
                    short: [Binary::Div, Binary::DivSigned16],
                    word: [Binary::Div, Binary::DivSigned],
                    wide: [WideBinary::Div, WideBinary::DivSigned],
                };
                self.integers_only(kind, &integers)
            }
        }
    }

    /// `rem` (9.7.1.9).
    pub(super) fn remainder(&mut self) -> Result<()> {
        let kind = self.kind()?;
        let integers = Integers {
            short: [Binary::Rem, Binary::RemSigned16],
            word: [Binary::Rem, Binary::RemSigned],
            wide: [WideBinary::Rem, WideBinary::RemSigned],
        };
        self.integers_only(kind, &integers)
    }

    fn integers_only(&mut self, kind: Kind, integers: &Integers) -> Result<()> {
        match kind {
            Kind::Unsigned(_) | Kind::Signed(_) => self.integer(kind, integers),
            _ => self.unsupported(),
        }
    }

    /// `min`, `max` (9.7.1.12, 9.7.1.13, 9.7.3.11, 9.7.3.12, 9.7.4.7, 9.7.4.8).
    pub(super) fn extremum(&mut self, largest: bool) -> Result<()> {
        let kind = self.kind()?;
        let integers = if largest {
            Integers {
                short: [Binary::Max, Binary::MaxSigned16],
                word: [Binary::Max, Binary::MaxSigned],
                wide: [WideBinary::Max, WideBinary::MaxSigned],
            }
        } else {
            Integers {
                short: [Binary::Min, Binary::MinSigned16],
                word: [Binary::Min, Binary::MinSigned],
                wide: [WideBinary::Min, WideBinary::MinSigned],
            }
        };
        match kind {
            Kind::Unsigned(_) | Kind::Signed(_) => self.integer(kind, &integers),
            Kind::F32 => {
                let (flush, nan) = (self.flag("ftz"), self.flag("NaN"));
                let op = if largest { float::Binary::Max { nan } } else { float::Binary::Min { nan } };
                self.single(op, Modifiers { rounding: Rounding::Nearest, flush, saturate: false })
            }
            Kind::F64 => self.double(if largest { Double::Max } else { Double::Min }, 2),
            _ => {
                let flush = matches!(kind, Kind::F16 | Kind::F16x2) && self.flag("ftz");
                let nan = self.flag("NaN");
                let op = if largest { HalfOp::Max { nan } } else { HalfOp::Min { nan } };
                self.half(op, kind, HalfModifiers { flush, ..HalfModifiers::default() }, 2)
            }
        }
    }

    /// `neg`, `abs` (9.7.1.10, 9.7.1.11, 9.7.3.9, 9.7.3.10, 9.7.4.5, 9.7.4.6).
    pub(super) fn sign(&mut self, absolute: bool) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Signed(16) => self.unary(if absolute { Unary::Abs16 } else { Unary::Negate16 }, kind),
            Kind::Signed(32) => self.unary(if absolute { Unary::Abs } else { Unary::Negate }, kind),
            Kind::Signed(64) => self.wide_unary(if absolute { WideUnary::Abs } else { WideUnary::Negate }, kind),
            Kind::F32 => self.function_of_f32(if absolute { float::Unary::Abs } else { float::Unary::Negate }),
            Kind::F64 => self.double(if absolute { Double::Abs } else { Double::Negate }, 1),
            _ => {
                let flush = matches!(kind, Kind::F16 | Kind::F16x2) && self.flag("ftz");
                let op = if absolute { HalfOp::Abs } else { HalfOp::Negate };
                self.half(op, kind, HalfModifiers { flush, ..HalfModifiers::default() }, 1)
            }
        }
    }

    /// An operation on one register of at most 32 bits.
    pub(super) fn unary(&mut self, op: Unary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_word(kind.bits())?, self.word(1, kind)?);
        self.scalar(Scalar::Unary(op, to, from))
    }

    /// An operation on one register of 64 bits.
    pub(super) fn wide_unary(&mut self, op: WideUnary, kind: Kind) -> Result<()> {
        let (to, from) = (self.destination_wide()?, self.wide(1, kind)?);
        self.scalar(Scalar::WideUnary(op, to, from))
    }

    fn function_of_f32(&mut self, op: float::Unary) -> Result<()> {
        let flush = self.flag("ftz");
        self.rounded_f32(op, Modifiers { rounding: Rounding::Nearest, flush, saturate: false })
    }

    fn rounded_f32(&mut self, op: float::Unary, modifiers: Modifiers) -> Result<()> {
        let (to, from) = (self.destination_word(32)?, self.word(1, Kind::F32)?);
        self.scalar(Scalar::FloatUnary(op, modifiers, to, from))
    }

    /// `sqrt`, `rcp` (9.7.3.13, 9.7.3.15): approximate, or rounded.
    pub(super) fn root_or_reciprocal(&mut self, single: float::Unary, double: Double) -> Result<()> {
        match self.kind()? {
            Kind::F32 => {
                let rounding = if self.flag("approx") { Rounding::Nearest } else { self.require(&ROUNDINGS)? };
                let flush = self.flag("ftz");
                self.rounded_f32(single, Modifiers { rounding, flush, saturate: false })
            }
            Kind::F64 => {
                self.require(&[("rn", ())])?;
                self.double(double, 1)
            }
            _ => self.unsupported(),
        }
    }

    /// `rsqrt`, `sin`, `cos`, `lg2`, `ex2`, `tanh` (9.7.3.16 to 9.7.3.22, 9.7.4.9, 9.7.4.10).
    pub(super) fn approximation(&mut self, single: float::Unary) -> Result<()> {
        let kind = self.kind()?;
        self.require(&[("approx", ())])?;
        let half = match single {
            float::Unary::Exp2 => Some(HalfOp::Exp2),
            float::Unary::Tanh => Some(HalfOp::Tanh),
            _ => None,
        };
        match (kind, half) {
            (Kind::F32, _) if single == float::Unary::Tanh => {
                self.rounded_f32(single, Modifiers { rounding: Rounding::Nearest, flush: false, saturate: false })
            }
            (Kind::F32, _) => self.function_of_f32(single),
            (Kind::F64, _) if single == float::Unary::ReciprocalRoot => self.double(Double::ReciprocalRoot, 1),
            (_, Some(op)) => {
                let brain = matches!(kind, Kind::Bf16 | Kind::Bf16x2);
                if brain {
                    self.needs(90)?;
                }
                let flush = op == HalfOp::Exp2 && brain && self.flag("ftz");
                self.half(op, kind, HalfModifiers { flush, ..HalfModifiers::default() }, 1)
            }
            _ => self.unsupported(),
        }
    }

    /// `copysign` (9.7.3.2).
    pub(super) fn copy_sign(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::F32 => {
                let plain = Modifiers { rounding: Rounding::Nearest, flush: false, saturate: false };
                self.single(float::Binary::CopySign, plain)
            }
            Kind::F64 => self.double(Double::CopySign, 2),
            _ => self.unsupported(),
        }
    }

    /// `fma`, and `mad` of floats (9.7.3.6, 9.7.3.7, 9.7.4.4).
    pub(super) fn fused(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::F32 => {
                let rounding = self.require(&ROUNDINGS)?;
                let modifiers = Modifiers { rounding, flush: self.flag("ftz"), saturate: self.flag("sat") };
                let (to, from) = (self.destination_word(32)?, self.words(1, kind)?);
                self.scalar(Scalar::FloatFused(modifiers, to, from))
            }
            Kind::F64 => {
                self.require(&[("rn", ())])?;
                self.double(Double::Fused, 3)
            }
            _ => {
                self.require(&[("rn", ())])?;
                let half = matches!(kind, Kind::F16 | Kind::F16x2);
                let (flush, saturate) = (half && self.flag("ftz"), half && self.flag("sat"));
                let relu = !saturate && self.flag("relu");
                self.half(HalfOp::Fused, kind, HalfModifiers { flush, saturate, relu }, 3)
            }
        }
    }

    /// `mad` (9.7.1.4).
    pub(super) fn multiply_add(&mut self) -> Result<()> {
        let kind = self.kind()?;
        if matches!(kind, Kind::F32 | Kind::F64) {
            return self.fused(kind);
        }
        let word = self.require(&[("lo", 0), ("hi", 1), ("wide", 2)])?;
        match (word, kind) {
            (0, Kind::Unsigned(16) | Kind::Signed(16)) => self.ternary(Ternary::Mad16, kind),
            (0, Kind::Unsigned(32) | Kind::Signed(32)) => self.ternary(Ternary::Mad, kind),
            (0, Kind::Unsigned(64) | Kind::Signed(64)) => {
                let (to, from) = (self.destination_wide()?, self.wides(1, kind)?);
                self.scalar(Scalar::WideMad(to, from))
            }
            (1, Kind::Unsigned(32)) => self.ternary(Ternary::MadHigh, kind),
            (1, Kind::Signed(32)) => self.ternary(Ternary::MadHighSigned, kind),
            (2, Kind::Unsigned(32) | Kind::Signed(32)) => {
                let (to, from) = (self.destination_wide()?, self.words(1, kind)?);
                let addend = self.wide(3, Kind::Bits(64))?;
                self.scalar(Scalar::MadWide(kind == Kind::Signed(32), to, from, addend))
            }
            _ => self.unsupported(),
        }
    }

    /// `sad` (9.7.1.7).
    pub(super) fn absolute_difference(&mut self) -> Result<()> {
        let kind = self.kind()?;
        match kind {
            Kind::Unsigned(32) => self.ternary(Ternary::Sad, kind),
            Kind::Signed(32) => self.ternary(Ternary::SadSigned, kind),
            _ => self.unsupported(),
        }
    }
}
