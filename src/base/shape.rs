//! Shapes, what kind of numbers a value holds, and how those are stored.

use std::fmt::{self, Debug, Display};

/// The extents of a value, outermost first, at most five. The last one is contiguous in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 5],
    rank: usize,
}

impl Shape {
    /// A shape of at most five extents; `None` beyond.
    pub fn try_new(dims: &[usize]) -> Option<Self> {
        let mut shape = Self { dims: [1; 5], rank: dims.len() };
        shape.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(shape)
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Their number.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Their product: how many numbers a value of this shape holds. Saturates, so that what is too large to be counted
    /// is too large for any memory.
    pub fn elements(&self) -> usize {
        self.dims().iter().fold(1, |product, &extent| product.saturating_mul(extent))
    }

    /// The last extent; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// The product of all extents but the last: the rows of the value seen as a matrix.
    pub fn rows(&self) -> usize {
        self.dims().iter().rev().skip(1).fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }

    /// The same shape with another last extent.
    pub fn with_last(mut self, extent: usize) -> Self {
        self.dims[self.rank.max(1) - 1] = extent;
        self
    }
}

impl<const RANK: usize> From<[usize; RANK]> for Shape {
    fn from(dims: [usize; RANK]) -> Self {
        const { assert!(RANK <= 5, "a shape has at most five extents") };
        let mut shape = Self { dims: [1; 5], rank: RANK };
        shape.dims[..RANK].copy_from_slice(&dims);
        shape
    }
}

impl Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        write!(f, "[{}]", dims.join(","))
    }
}

/// What a value holds, before the precision pass says how it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Real numbers that `mixed` may store narrow: activations and their gradients.
    Activation,
    /// Real numbers that are never stored narrow: parameters, their gradients, moments, statistics, losses, masks.
    Exact,
    /// 32-bit integers: token ids, row offsets, counts.
    Index,
    /// 8-bit integers: pixels as stored, yes-or-no planes.
    Bytes,
}

/// How the numbers of a value are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DType {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// bfloat16.
    Bf16,
    /// 32-bit integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
}

impl DType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }

    /// The short name used in plans and kernel symbols.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::I32 => "i32",
            Self::U8 => "u8",
        }
    }
}

/// Shape and kind of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spec {
    /// The extents.
    pub shape: Shape,
    /// What it holds.
    pub kind: Kind,
}

impl Spec {
    /// An activation.
    pub fn activation(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), kind: Kind::Activation }
    }

    /// A value that is never stored narrow.
    pub fn exact(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), kind: Kind::Exact }
    }

    /// Integers.
    pub fn index(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), kind: Kind::Index }
    }

    /// Bytes.
    pub fn bytes(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), kind: Kind::Bytes }
    }

    /// Whether it holds real numbers.
    pub fn is_real(&self) -> bool {
        matches!(self.kind, Kind::Activation | Kind::Exact)
    }
}
