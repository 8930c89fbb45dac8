//! The slabs of a plan in host memory.

use std::collections::BTreeMap;

use half::bf16;

use crate::base::DType;
use crate::program::pass::layout::ALIGNMENT;
use crate::program::plan::{Buffer, Plan, Slab};

/// One aligned stretch of memory.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(256))]
struct Line([u8; ALIGNMENT]);

/// All slabs, aligned, zeroed when made. Plans on the same states share one.
#[derive(Default)]
pub struct Memory {
    slabs: BTreeMap<Slab, Vec<Line>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes = self.slabs.iter().map(|(slab, lines)| (slab, lines.len() * ALIGNMENT));
        f.debug_map().entries(sizes).finish()
    }
}

impl Memory {
    /// Makes every slab at least as large as `plan` needs. What they hold stays.
    pub fn fit(&mut self, plan: &Plan) {
        for (&slab, &bytes) in &plan.slabs {
            self.reserve(slab, bytes);
        }
    }

    /// Makes one slab at least this large. What it holds stays.
    pub fn reserve(&mut self, slab: Slab, bytes: usize) {
        let lines = self.slabs.entry(slab).or_default();
        if lines.len() * ALIGNMENT < bytes {
            lines.resize(bytes.div_ceil(ALIGNMENT), Line([0; ALIGNMENT]));
        }
    }

    /// The whole slab.
    pub fn slab(&self, slab: Slab) -> &[u8] {
        self.slabs.get(&slab).map_or(&[], |lines| bytemuck::cast_slice(lines))
    }

    /// The whole slab, to be written.
    pub fn slab_mut(&mut self, slab: Slab) -> &mut [u8] {
        bytemuck::cast_slice_mut(self.slabs.entry(slab).or_default())
    }

    /// The bytes of a buffer.
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        &self.slab(buffer.slab)[buffer.offset..buffer.end()]
    }

    /// The bytes of a buffer, to be written.
    pub fn bytes_mut(&mut self, buffer: &Buffer) -> &mut [u8] {
        &mut self.slab_mut(buffer.slab)[buffer.offset..buffer.end()]
    }

    /// The numbers of a buffer of any stored type.
    pub fn read(&self, buffer: &Buffer) -> Vec<f64> {
        let bytes = self.bytes(buffer);
        match buffer.dtype {
            DType::F64 => bytemuck::cast_slice::<u8, f64>(bytes).to_vec(),
            DType::F32 => bytemuck::cast_slice::<u8, f32>(bytes).iter().map(|&number| number.into()).collect(),
            DType::Bf16 => bytemuck::cast_slice::<u8, bf16>(bytes).iter().map(|&number| number.into()).collect(),
            DType::I32 => bytemuck::cast_slice::<u8, i32>(bytes).iter().map(|&number| number.into()).collect(),
            DType::U8 => bytes.iter().map(|&number| number.into()).collect(),
        }
    }

    /// Writes numbers to a buffer of any stored type, rounded once. There must be as many as the buffer holds.
    pub fn write(&mut self, buffer: &Buffer, numbers: impl ExactSizeIterator<Item = f64>) {
        assert_eq!(numbers.len(), buffer.spec.shape.elements(), "a buffer is written whole");
        let dtype = buffer.dtype;
        let bytes = self.bytes_mut(buffer);
        match dtype {
            DType::F64 => fill(bytemuck::cast_slice_mut(bytes), numbers, |number| number),
            DType::F32 => fill(bytemuck::cast_slice_mut(bytes), numbers, |number| number as f32),
            DType::Bf16 => fill(bytemuck::cast_slice_mut(bytes), numbers, bf16::from_f64),
            DType::I32 => fill(bytemuck::cast_slice_mut(bytes), numbers, |number| number as i32),
            DType::U8 => fill(bytes, numbers, |number| number as u8),
        }
    }
}

fn fill<T>(out: &mut [T], numbers: impl Iterator<Item = f64>, round: impl Fn(f64) -> T) {
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = round(number);
    }
}
