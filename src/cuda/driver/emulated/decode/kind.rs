//! Types in instructions (5.2).

/// A type as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.bN`.
    Bits(u8),
    /// `.uN`.
    Unsigned(u8),
    /// `.sN`.
    Signed(u8),
    /// `.f16`.
    F16,
    /// `.f16x2`.
    F16x2,
    /// `.bf16`.
    Bf16,
    /// `.bf16x2`.
    Bf16x2,
    /// `.tf32`.
    Tf32,
    /// `.f32`.
    F32,
    /// `.f64`.
    F64,
    /// `.pred`.
    Pred,
}

impl Kind {
    /// The type of a word without its dot.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "b8" => Self::Bits(8),
            "b16" => Self::Bits(16),
            "b32" => Self::Bits(32),
            "b64" => Self::Bits(64),
            "u8" => Self::Unsigned(8),
            "u16" => Self::Unsigned(16),
            "u32" => Self::Unsigned(32),
            "u64" => Self::Unsigned(64),
            "s8" => Self::Signed(8),
            "s16" => Self::Signed(16),
            "s32" => Self::Signed(32),
            "s64" => Self::Signed(64),
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Bits of a register of this type; a predicate has 1.
    pub fn bits(self) -> u8 {
        match self {
            Self::Bits(bits) | Self::Unsigned(bits) | Self::Signed(bits) => bits,
            Self::F16 | Self::Bf16 => 16,
            Self::F16x2 | Self::Bf16x2 | Self::Tf32 | Self::F32 => 32,
            Self::F64 => 64,
            Self::Pred => 1,
        }
    }

    /// Whether this integer type holds every value of another one: `cvt` does not saturate then (9.7.9.21).
    pub fn holds(self, other: Self) -> bool {
        match (self, other) {
            (Self::Signed(_), Self::Unsigned(_)) => self.bits() > other.bits(),
            (Self::Unsigned(_), Self::Signed(_)) => false,
            _ => self.bits() >= other.bits(),
        }
    }
}
