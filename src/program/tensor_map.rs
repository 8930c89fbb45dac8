//! A tensor as the copy engine of a GPU sees it (PTX ISA 5.5): part of a kernel's call, encoded by the device on which the
//! kernel is loaded.

/// An address in device memory. Arithmetic on it is the caller's; address 0 belongs to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// The address this many bytes further.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// Element type of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// 8-bit unsigned.
    U8,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl TensorType {
    /// Bytes of one element.
    pub fn bytes(self) -> u32 {
        match self {
            Self::U8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// How 16-byte chunks are permuted in shared memory (PTX ISA 5.5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

/// Which box a tensor map copies (PTX ISA 5.5.3 and 5.5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// A rectangular box: elements along each dimension, innermost first.
    Tile(Vec<u32>),
    /// Pixels of a convolution's windows.
    Im2col {
        /// Corner of the bounding box at low coordinates, per spatial dimension, innermost first.
        lower: Vec<i32>,
        /// Corner at high coordinates.
        upper: Vec<i32>,
        /// Channels per pixel.
        channels: u32,
        /// Pixels per copy.
        pixels: u32,
    },
}

/// A tensor in global memory as the copy engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMapSpec {
    /// Element type.
    pub dtype: TensorType,
    /// First element; a multiple of 16.
    pub address: Address,
    /// Elements along each dimension, innermost first; 1 to 5 of them.
    pub sizes: Vec<u64>,
    /// Bytes between neighbours along each dimension but the innermost; multiples of 16.
    pub strides: Vec<u64>,
    /// What is copied at a time.
    pub window: Window,
    /// Steps between copied elements, per dimension; 1 to 8.
    pub steps: Vec<u32>,
    /// Permutation in shared memory.
    pub swizzle: Swizzle,
}
