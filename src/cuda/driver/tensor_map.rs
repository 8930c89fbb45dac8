//! What a tensor map must be, by the driver's rules (CUDA driver API, tensor map object management), told in words.

use super::{DriverError, Swizzle, TensorMapSpec, Window};

/// Dimensions of a tensor at most.
const RANK: usize = 5;

/// Elements along each dimension at most.
const SIZE: u64 = 1 << 32;

/// A stride is below this.
const STRIDE: u64 = 1 << 40;

/// Bytes that addresses, strides and the innermost side of a box are multiples of.
const CHUNK: u64 = 16;

/// Elements of a box along each dimension, and channels of a pixel, at most.
const SIDE: u32 = 256;

/// Pixels of one copy at most.
const PIXELS: u32 = 1024;

/// Step between copied elements at most.
const STEP: u32 = 8;

impl Swizzle {
    /// Bytes within which chunks are permuted; none if they are not.
    pub fn span(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::B32 => Some(32),
            Self::B64 => Some(64),
            Self::B128 => Some(128),
        }
    }
}

impl TensorMapSpec {
    /// Looks for what the driver refuses, of which it says no more than that something is invalid.
    pub fn check(&self) -> Result<(), DriverError> {
        let fault = |what: String| Err(DriverError::Invalid(format!("a tensor map {what}")));
        let rank = self.sizes.len();
        if !(1..=RANK).contains(&rank) || self.strides.len() != rank - 1 || self.steps.len() != rank {
            return fault(format!("whose parts differ in rank, or of more than {RANK} dimensions: {self:?}"));
        }
        if !self.address.0.is_multiple_of(CHUNK) {
            return fault(format!("of memory at {:#x}, which is no multiple of {CHUNK} bytes", self.address.0));
        }
        if let Some(size) = self.sizes.iter().find(|size| !(1..=SIZE).contains(*size)) {
            return fault(format!("with {size} elements along a dimension; there are 1 to 2^32"));
        }
        if let Some(stride) = self.strides.iter().find(|stride| !stride.is_multiple_of(CHUNK) || **stride >= STRIDE) {
            return fault(format!("with a stride of {stride} bytes; strides are multiples of {CHUNK} below 2^40"));
        }
        if let Some(step) = self.steps.iter().find(|step| !(1..=STEP).contains(*step)) {
            return fault(format!("with a step of {step} elements; steps are 1 to {STEP}"));
        }
        let inner = match &self.window {
            Window::Tile(sides) => self.check_tile(sides)?,
            Window::Im2col { lower, upper, channels, pixels } => {
                self.check_pixels(lower, upper, *channels, *pixels)?;
                *channels
            }
        };
        let bytes = u64::from(inner) * u64::from(self.dtype.bytes());
        if !bytes.is_multiple_of(CHUNK) {
            return fault(format!("whose box has {bytes} bytes innermost, which is no multiple of {CHUNK}"));
        }
        match self.swizzle.span() {
            Some(span) if bytes > span => {
                fault(format!("whose box has {bytes} bytes innermost, beyond the {span} bytes of its swizzle"))
            }
            _ => Ok(()),
        }
    }

    /// The innermost side of a box that may be.
    fn check_tile(&self, sides: &[u32]) -> Result<u32, DriverError> {
        let fits = sides.len() == self.sizes.len() && sides.iter().all(|side| (1..=SIDE).contains(side));
        let inner = sides.first().filter(|_| fits);
        inner.copied().ok_or_else(|| {
            let text =
                format!("a tensor map with a box of {sides:?}; it has 1 to {SIDE} elements along each dimension");
            DriverError::Invalid(text)
        })
    }

    fn check_pixels(&self, lower: &[i32], upper: &[i32], channels: u32, pixels: u32) -> Result<(), DriverError> {
        let fault = |what: String| Err(DriverError::Invalid(format!("a tensor map for im2col {what}")));
        let rank = self.sizes.len();
        if rank < 3 || lower.len() != rank - 2 || upper.len() != rank - 2 {
            return fault(format!(
                "of {rank} dimensions with corners {lower:?} and {upper:?}; it has 3 to 5 dimensions"
            ));
        }
        let least = [-32768, -128, -16][rank - 3];
        if let Some(corner) = lower.iter().chain(upper).find(|corner| !(least..-least).contains(*corner)) {
            return fault(format!(
                "with a corner at {corner}; with {rank} dimensions they lie in {least} to {}",
                -1 - least
            ));
        }
        let empty = |at: usize| i64::from(lower[at]) >= self.sizes[at + 1] as i64 + i64::from(upper[at]);
        if (0..rank - 2).any(empty) {
            return fault(format!("whose bounding box is empty: corners {lower:?} and {upper:?}"));
        }
        if !(1..=SIDE).contains(&channels) || !(1..=PIXELS).contains(&pixels) {
            return fault(format!("of {pixels} pixels with {channels} channels; at most {PIXELS} and {SIDE}"));
        }
        Ok(())
    }
}
