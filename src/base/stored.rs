//! Numbers as bytes of a stored type, wherever these lie: bytes from a device are not aligned.

use bytemuck::{cast_slice, pod_collect_to_vec};
use half::bf16;

use super::DType;

impl DType {
    /// Numbers as this type stores them, each rounded once.
    pub fn encode(self, numbers: impl Iterator<Item = f64>) -> Vec<u8> {
        fn bytes<T: bytemuck::NoUninit>(numbers: impl Iterator<Item = T>) -> Vec<u8> {
            cast_slice(&numbers.collect::<Vec<T>>()).to_vec()
        }
        match self {
            Self::F64 => bytes(numbers),
            Self::F32 => bytes(numbers.map(|number| number as f32)),
            Self::Bf16 => bytes(numbers.map(bf16::from_f64)),
            Self::I32 => bytes(numbers.map(|number| number as i32)),
            Self::U8 => bytes(numbers.map(|number| number as u8)),
        }
    }

    /// The numbers that these bytes of this type store.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit + Into<f64>>(bytes: &[u8]) -> Vec<f64> {
            pod_collect_to_vec::<u8, T>(bytes).into_iter().map(Into::into).collect()
        }
        match self {
            Self::F64 => numbers::<f64>(bytes),
            Self::F32 => numbers::<f32>(bytes),
            Self::Bf16 => numbers::<bf16>(bytes),
            Self::I32 => numbers::<i32>(bytes),
            Self::U8 => bytes.iter().map(|&byte| byte.into()).collect(),
        }
    }
}
