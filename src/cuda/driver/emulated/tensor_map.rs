//! Tensor maps as the emulated device has them: opaque to kernels, in a layout of its own.
//!
//! | word | holds |
//! |---|---|
//! | 0 | a mark |
//! | 1 | address |
//! | 2 | bits 0-7 rank, 8-15 element type, 16-23 swizzle, 24-31 1 for im2col, from 32 on four bits of step per dimension |
//! | 3-7 | elements along each dimension |
//! | 8-11 | strides in bytes |
//! | 12 | sides of the box, twelve bits each; of im2col channels in 16 bits, pixels in 16 |
//! | 13, 14 | lower and upper corners of im2col, 16 bits each |
//! | 15 | 0 |

use super::super::{Address, DriverError, Swizzle, TensorMap, TensorMapSpec, TensorType, Window};

/// Bytes of a tensor map.
pub const MAP_BYTES: usize = 128;

/// Alignment of a tensor map in memory.
pub const MAP_ALIGN: u64 = 64;

const MARK: u64 = u64::from_le_bytes(*b"tensor 1");
const TYPES: [TensorType; 4] = [TensorType::U8, TensorType::Bf16, TensorType::F16, TensorType::F32];
const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

/// Packs numbers into one word, so many bits each.
fn packed(numbers: impl IntoIterator<Item = u64>, bits: usize) -> u64 {
    numbers.into_iter().enumerate().fold(0, |word, (at, number)| word | (number & ((1 << bits) - 1)) << (at * bits))
}

fn part(word: u64, at: usize, bits: usize) -> u64 {
    word >> (at * bits) & ((1 << bits) - 1)
}

/// Encodes what the driver would encode.
pub fn encode(spec: &TensorMapSpec) -> Result<TensorMap, DriverError> {
    spec.check()?;
    let place = |found: Option<usize>| found.unwrap_or(0) as u64;
    let dtype = place(TYPES.iter().position(|dtype| *dtype == spec.dtype));
    let swizzle = place(SWIZZLES.iter().position(|swizzle| *swizzle == spec.swizzle));
    let mut words = [0; MAP_BYTES / 8];
    let im2col = u64::from(matches!(spec.window, Window::Im2col { .. }));
    let steps = packed(spec.steps.iter().map(|step| u64::from(*step)), 4);
    (words[0], words[1]) = (MARK, spec.address.0);
    words[2] = packed([spec.sizes.len() as u64, dtype, swizzle, im2col], 8) | steps << 32;
    words[3..3 + spec.sizes.len()].copy_from_slice(&spec.sizes);
    words[8..8 + spec.strides.len()].copy_from_slice(&spec.strides);
    match &spec.window {
        Window::Tile(sides) => words[12] = packed(sides.iter().map(|side| u64::from(*side)), 12),
        Window::Im2col { lower, upper, channels, pixels } => {
            words[12] = packed([u64::from(*channels), u64::from(*pixels)], 16);
            words[13] = packed(lower.iter().map(|corner| *corner as u64), 16);
            words[14] = packed(upper.iter().map(|corner| *corner as u64), 16);
        }
    }
    Ok(TensorMap(words))
}

/// What was encoded; nothing if these bytes are no tensor map.
pub fn decode(bytes: &[u8; MAP_BYTES]) -> Option<TensorMapSpec> {
    let mut words = [0u64; MAP_BYTES / 8];
    words
        .iter_mut()
        .zip(bytes.chunks_exact(8))
        .for_each(|(word, bytes)| *word = u64::from_le_bytes(super::access::little(bytes, 0)));
    let rank = part(words[2], 0, 8) as usize;
    if words[0] != MARK || !(1..=5).contains(&rank) {
        return None;
    }
    let corners = |word: u64| (0..rank.saturating_sub(2)).map(|at| i32::from(part(word, at, 16) as i16)).collect();
    let window = match part(words[2], 3, 8) {
        0 => Window::Tile((0..rank).map(|at| part(words[12], at, 12) as u32).collect()),
        _ => Window::Im2col {
            lower: corners(words[13]),
            upper: corners(words[14]),
            channels: part(words[12], 0, 16) as u32,
            pixels: part(words[12], 1, 16) as u32,
        },
    };
    let spec = TensorMapSpec {
        dtype: *TYPES.get(part(words[2], 1, 8) as usize)?,
        address: Address(words[1]),
        sizes: words[3..3 + rank].to_vec(),
        strides: words[8..8 + rank - 1].to_vec(),
        window,
        steps: (0..rank).map(|at| part(words[2] >> 32, at, 4) as u32).collect(),
        swizzle: *SWIZZLES.get(part(words[2], 2, 8) as usize)?,
    };
    spec.check().is_ok().then_some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(map: TensorMap) -> [u8; MAP_BYTES] {
        let mut bytes = [0; MAP_BYTES];
        bytes.copy_from_slice(bytemuck::bytes_of(&map));
        bytes
    }

    #[test]
    fn a_map_is_what_it_was_made_of() {
        let tile = TensorMapSpec {
            dtype: TensorType::F32,
            address: Address(0x1_0000_0010),
            sizes: vec![1 << 32, 3, 5, 7, 9],
            strides: vec![16, (1 << 40) - 16, 32, 48],
            window: Window::Tile(vec![8, 256, 1, 255, 2]),
            steps: vec![1, 2, 8, 3, 1],
            swizzle: Swizzle::B32,
        };
        let pixels = TensorMapSpec {
            dtype: TensorType::Bf16,
            sizes: vec![64, 8, 9, 2],
            strides: vec![128, 1024, 9216],
            window: Window::Im2col { lower: vec![-1, -128], upper: vec![-1, 127], channels: 64, pixels: 1024 },
            steps: vec![1, 2, 2, 1],
            swizzle: Swizzle::B128,
            ..tile.clone()
        };
        for spec in [tile, pixels] {
            let mut map = bytes(encode(&spec).expect("it may be"));
            assert_eq!(decode(&map), Some(spec));
            map[3] ^= 1;
            assert_eq!(decode(&map), None, "without its mark");
        }
        assert_eq!(decode(&[0; MAP_BYTES]), None);
    }
}
