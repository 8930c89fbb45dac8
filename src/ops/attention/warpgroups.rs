//! [`Attention`] on Hopper's tensor cores: `kernels/attention.sm90a.cu`, for heads of 64 features in bf16. A block has whole heads of
//! sequences, and its tiles are brought by the copy engine; the gradient is one kernel.

use bytemuck::{Pod, Zeroable};

use super::Attention;
use crate::base::DType;
use crate::ops::linear::predicted::{CLOCK, ISSUED, MULTIPROCESSORS, TENSOR, Work, moved};
use crate::program::device::{count, exact};
use crate::program::{Address, DeviceBuffer, DeviceIo, KernelCall, Misfit, Pass, Swizzle, TensorMapSpec, TensorType, Window};

/// Name of the kernels within the op.
pub const KERNEL: &str = "warpgroups";
const FWD: &str = "attention_fwd_bf16_128x64_sm90a";
const BWD: &str = "attention_bwd_bf16_128x64_sm90a";
const THREADS: u32 = 384;
/// Eight stages, eight warps' results, statistics of the gradient, two barriers of each stage.
const SHARED: u32 = 8 * 16_384 + 8 * 2048 + 2 * 2 * 512 + 2 * 8 * 8;
/// Rows of a tile, and features of a head.
const TILE: usize = 64;
/// Rows that a block multiplies at a time.
const GROUP: usize = 128;
/// Bytes of a tensor map.
const MAP: usize = 128;
/// Of a group with a tile: matrix products, and instructions of warps as counted. The gradient has logits and dp twice, for dq and for
/// dk with dv.
const FWD_STEP: [f64; 2] = [2.0, 3200.0];
const BWD_STEP: [f64; 2] = [7.0, 6700.0];

/// Parameters of both kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Parameters {
    /// Tensor maps, which the device writes: of q, k and v, in the gradient of d_context and the context.
    maps: [[u8; MAP]; 5],
    offsets: u64,
    lengths: u64,
    lse: u64,
    statistics: u64,
    out: u64,
    dk: u64,
    dv: u64,
    rows: u32,
    sequences: u32,
    heads: u32,
    scale: f32,
    /// The struct is a multiple of its alignment.
    nothing: [u32; 14],
}

/// Asks for the launch; for none if there are no numbers.
pub fn run(op: &Attention, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [_, features] = io.dims(0);
    Misfit::unless(features == TILE * op.heads, || {
        format!("{features} features in {} heads, only heads of {TILE} are taken", op.heads)
    })?;
    if io.shape(0).elements() == 0 {
        return Ok(());
    }
    match op.pass {
        Pass::Fwd => fwd(op.heads, io),
        Pass::Bwd => bwd(op.heads, io),
    }
}

fn fwd(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [q, k, v, offsets, lengths] = [0, 1, 2, 3, 4].map(|input| io.input(input));
    let context = io.output(0);
    let maps = maps(heads, &[q, k, v])?;
    narrow(&[context])?;
    let extents = Extents::new(heads, q, lengths);
    let p = Parameters { out: context.address, ..parameters(&extents, [offsets, lengths], io.output(1))? };
    launch(io, FWD, &p, maps)?;
    predict(io, &extents, Pass::Fwd, 0.0);
    Ok(())
}

fn bwd(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [d_context, q, k, v, context, lse, offsets, lengths] = [0, 1, 2, 3, 4, 5, 6, 7].map(|input| io.input(input));
    let [dq, dk, dv] = [0, 1, 2].map(|output| io.output(output));
    let maps = maps(heads, &[q, k, v, d_context, context])?;
    narrow(&[dq, dk, dv])?;
    let extents = Extents::new(heads, q, lengths);
    let bytes = 8 * lse.spec.shape.elements();
    let p = Parameters {
        statistics: io.workspace(bytes),
        out: dq.address,
        dk: dk.address,
        dv: dv.address,
        ..parameters(&extents, [offsets, lengths], lse)?
    };
    launch(io, BWD, &p, maps)?;
    predict(io, &extents, Pass::Bwd, 2.0 * bytes as f64);
    Ok(())
}

/// Maps of \[rows,heads,64\], one behind another, in boxes of a tile.
fn maps(heads: usize, operands: &[DeviceBuffer]) -> Result<Vec<(usize, TensorMapSpec)>, Misfit> {
    narrow(operands)?;
    let [tile, heads] = [TILE, heads].map(|extent| extent as u64);
    let map = |(at, operand): (usize, &DeviceBuffer)| {
        let map = TensorMapSpec {
            dtype: TensorType::Bf16,
            address: Address(operand.address),
            sizes: vec![tile, heads, operand.spec.shape.rows() as u64],
            strides: vec![2 * tile, 2 * tile * heads],
            window: Window::Tile(vec![TILE as u32, 1, TILE as u32]),
            steps: vec![1, 1, 1],
            swizzle: Swizzle::B128,
        };
        (at * MAP, map)
    };
    Ok(operands.iter().enumerate().map(map).collect())
}

fn narrow(values: &[DeviceBuffer]) -> Result<(), Misfit> {
    let all = values.iter().all(|value| value.dtype == DType::Bf16);
    Misfit::unless(all, || "not all values are bf16".into())
}

fn parameters(
    extents: &Extents,
    [offsets, lengths]: [DeviceBuffer; 2],
    lse: DeviceBuffer,
) -> Result<Parameters, Misfit> {
    count("heads of sequences", extents.items())?;
    Ok(Parameters {
        offsets: offsets.address,
        lengths: lengths.address,
        lse: exact("lse", lse)?,
        rows: count("rows", extents.rows)?,
        sequences: extents.sequences as u32,
        heads: extents.heads as u32,
        scale: (1.0 / (TILE as f64).sqrt()) as f32,
        ..Parameters::zeroed()
    })
}

/// A block to each multiprocessor goes round the heads of the sequences.
fn launch(
    io: &mut DeviceIo,
    symbol: &'static str,
    parameters: &Parameters,
    maps: Vec<(usize, TensorMapSpec)>,
) -> Result<(), Misfit> {
    let blocks = (parameters.sequences * parameters.heads).min(MULTIPROCESSORS as u32);
    let call = KernelCall::linear(symbol, blocks, THREADS, parameters);
    io.launch(KernelCall { shared_bytes: SHARED, maps, ..call });
    Ok(())
}

/// What attention is of.
pub struct Extents {
    rows: usize,
    sequences: usize,
    heads: usize,
}

impl Extents {
    /// Of q, and the lengths of the sequences.
    pub fn new(heads: usize, q: DeviceBuffer, lengths: DeviceBuffer) -> Self {
        Self { rows: q.spec.shape.rows(), sequences: lengths.spec.shape.elements(), heads }
    }

    /// Heads of sequences.
    pub fn items(&self) -> usize {
        self.sequences.saturating_mul(self.heads)
    }

    /// Tiles of 64 rows of a sequence, as if all were equally long and without padding.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(self.sequences).div_ceil(TILE)
    }
}

/// Tells how long the kernel is predicted to take: the tensor cores, instructions or memory, of which it moves so many bytes more than
/// its inputs and outputs.
fn predict(io: &mut DeviceIo, extents: &Extents, pass: Pass, more: f64) {
    let tiles = extents.tiles();
    let steps = (extents.items().div_ceil(MULTIPROCESSORS) * tiles.div_ceil(GROUP / TILE) * tiles) as f64;
    let product = 2.0 * (GROUP * TILE * TILE) as f64 / (TENSOR / MULTIPROCESSORS as f64);
    let [products, instructions] = match pass {
        Pass::Fwd => FWD_STEP,
        Pass::Bwd => BWD_STEP,
    };
    let step = (products * product).max(instructions / (ISSUED * CLOCK));
    io.predict(Work { busy: steps * step, moved: moved(io) + more, again: 0.0 }.seconds());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FWD, BWD]);
    }
}
