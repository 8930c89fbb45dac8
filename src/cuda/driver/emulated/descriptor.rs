//! Factors of matrix products of warpgroups in shared memory: descriptors, and where their elements lie (PTX ISA 9.7.15.5.1).
//!
//! Elements come in chunks of 16 bytes: of k in one row (of A) or column (of B), called the line here, or, transposed, of
//! several lines at one k. With E elements to a chunk and W chunks to the span of the swizzle, the chunk of line i and depth k
//! begins at these bytes, whose address is then permuted:
//!
//! | | swizzled | not |
//! |---|---|---|
//! | k innermost | (i mod 8)·16W + ⌊i/8⌋·SBO + k·16/E | (i mod 8)·16 + ⌊i/8⌋·SBO + ⌊k/E⌋·LBO |
//! | lines innermost | ⌊i mod WE / E⌋·16 + ⌊i/WE⌋·LBO + (k mod 8)·16W + ⌊k/8⌋·SBO | ⌊i/8⌋·SBO + (k mod 8)·16 + ⌊k/8⌋·LBO |

use super::boxes::swizzled;
use crate::cuda::driver::Swizzle;

/// Bytes of a chunk.
pub const CHUNK: usize = 16;

/// Bits that mean something: start, both offsets, base offset, swizzle.
const MEANING: u64 = 0x3fff | 0x3fff << 16 | 0x3fff << 32 | 7 << 49 | 3 << 62;

/// A decoded descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Shared address of the first element.
    pub start: usize,
    /// Leading dimension byte offset.
    leading: usize,
    /// Stride dimension byte offset.
    stride: usize,
    swizzle: Swizzle,
}

impl Descriptor {
    /// Decodes 64 bits; or says what about them is not modelled or means nothing.
    pub fn decode(bits: u64) -> Result<Self, String> {
        let part = |at: u32| (bits >> at & 0x3fff) as usize * CHUNK;
        if bits & !MEANING != 0 {
            return Err(format!("the matrix descriptor {bits:#018x} has bits set that mean nothing"));
        }
        if bits >> 49 & 7 != 0 {
            let offset = bits >> 49 & 7;
            return Err(format!("the matrix descriptor {bits:#018x} has the base offset {offset}; only 0 is modelled"));
        }
        let swizzle = [Swizzle::None, Swizzle::B128, Swizzle::B64, Swizzle::B32][(bits >> 62) as usize];
        Ok(Self { start: part(0), leading: part(16), stride: part(32), swizzle })
    }

    /// Shared address of the chunk that begins with line `i` and depth `k`, with `elements` to a chunk.
    pub fn chunk(&self, transposed: bool, elements: usize, i: usize, k: usize) -> usize {
        let (leading, stride) = (self.leading, self.stride);
        let span = self.swizzle.span().map(|bytes| bytes as usize);
        let offset = match (transposed, span) {
            (false, Some(span)) => i % 8 * span + i / 8 * stride + k * CHUNK / elements,
            (false, None) => i % 8 * CHUNK + i / 8 * stride + k / elements * leading,
            (true, Some(span)) => {
                let lines = span / CHUNK * elements;
                i % lines / elements * CHUNK + i / lines * leading + k % 8 * span + k / 8 * stride
            }
            (true, None) => i / 8 * stride + k % 8 * CHUNK + k / 8 * leading,
        };
        swizzled(self.start + offset, self.swizzle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_decoded_or_refused() {
        let bits = 0x4000 >> 4 | 0x100u64 >> 4 << 16 | 0x400u64 >> 4 << 32 | 1 << 62;
        let expected = Descriptor { start: 0x4000, leading: 0x100, stride: 0x400, swizzle: Swizzle::B128 };
        assert_eq!(Descriptor::decode(bits), Ok(expected));
        assert!(Descriptor::decode(bits | 2 << 49).expect_err("a base offset").contains("base offset 2"));
        for bit in [14, 15, 30, 46, 48, 52, 61] {
            assert!(Descriptor::decode(bits | 1 << bit).expect_err("a bit").contains("mean nothing"), "{bit}");
        }
    }

    /// No two chunks of a factor share a place when the offsets are those of packed tiles.
    #[test]
    fn chunks_of_packed_tiles_do_not_meet() {
        for (swizzle, span) in [(0u64, 16usize), (3, 32), (2, 64), (1, 128)] {
            for transposed in [false, true] {
                let (leading, stride) = match (transposed, swizzle) {
                    (false, 0) => (128, 256),
                    (false, _) => (0, 8 * span),
                    (true, 0) => (128, 256),
                    (true, _) => (16 * span, 8 * span),
                };
                let bits = (leading as u64 >> 4) << 16 | (stride as u64 >> 4) << 32 | swizzle << 62;
                let descriptor = Descriptor::decode(bits).expect("it may be");
                let (lines, depths) = if transposed { (8, 1) } else { (1, 8) };
                let mut places: Vec<usize> = (0..64)
                    .step_by(lines)
                    .flat_map(|i| (0..16).step_by(depths).map(move |k| descriptor.chunk(transposed, 8, i, k)))
                    .collect();
                places.sort_unstable();
                let all = places.len();
                places.dedup();
                assert_eq!((places.len(), all), (128, 128), "swizzle {swizzle}, transposed {transposed}");
            }
        }
    }
}
