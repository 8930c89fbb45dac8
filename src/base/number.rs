//! The number types that references and CPU kernels are generic over: `f32` and `f64`.

use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A floating-point type in which an op can be computed on the CPU.
pub trait Number:
    'static
    + Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + Debug
    + Display
    + bytemuck::Pod
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const LOWEST: Self;
    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + `self`), accurate near 0.
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Rounds down.
    fn floor(self) -> Self;
    /// The larger of two; the other one if one is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; the other one if one is NaN.
    fn min(self, other: Self) -> Self;
    /// `self` · `factor` + `addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// A count as a number.
    fn count(value: usize) -> Self {
        Self::of(value as f64)
    }
}

macro_rules! number {
    ($type:ident, $erf:path) => {
        impl Number for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = $type::NEG_INFINITY;
            fn of(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $type::exp(self)
            }
            fn ln(self) -> Self {
                $type::ln(self)
            }
            fn ln_1p(self) -> Self {
                $type::ln_1p(self)
            }
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn abs(self) -> Self {
                $type::abs(self)
            }
            fn floor(self) -> Self {
                $type::floor(self)
            }
            fn max(self, other: Self) -> Self {
                $type::max(self, other)
            }
            fn min(self, other: Self) -> Self {
                $type::min(self, other)
            }
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                $type::mul_add(self, factor, addend)
            }
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
        }
    };
}

number!(f32, libm::erff);
number!(f64, libm::erf);

/// A constant inside an op: an `f64` compared and hashed by its bits, so that ops can be compared and hashed.
#[derive(Clone, Copy)]
pub struct Real(pub f64);

impl Real {
    /// The constant as a number of type `N`.
    pub fn to<N: Number>(self) -> N {
        N::of(self.0)
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
