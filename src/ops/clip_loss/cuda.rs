//! [`ClipLoss`] on CUDA: `kernels/clip_loss.cu`. Units, similarities and softmaxes are made by both passes; the loss, or
//! the gradient back through them, by the kernels behind these.

use bytemuck::{Pod, Zeroable};

use super::ClipLoss;
use crate::base::DType;
use crate::ops::linear::cuda::narrow;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
const UNITS: &str = "clip_loss_units_any_warps_sm80";
const SIMILARITIES: &str = "clip_loss_similarities_f32_32x32_sm80";
const SOFTMAX: &str = "clip_loss_softmax_f32_blocks_sm80";
const FINISH: &str = "clip_loss_fwd_f32_finish_sm80";
const D_SIMILARITIES: &str = "clip_loss_bwd_f32_softmax_sm80";
const D_UNITS: &str = "clip_loss_bwd_f32_32x32_sm80";
const D_ROWS: &str = "clip_loss_bwd_any_warps_sm80";
const THREADS: u32 = 256;
/// Warps of a block, of which each takes a row.
const WARPS: u32 = 8;
/// Rows and columns of a tile, and own rows of a block of the softmax.
const TILE: u32 = 32;

/// Parameters of all kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    image: u64,
    text: u64,
    seed: u64,
    units: u64,
    norms: u64,
    s: u64,
    lse: u64,
    before: u64,
    d_units: u64,
    out: u64,
    second: u64,
    third: u64,
    rows: u32,
    features: u32,
    offset: u32,
    count: u32,
    narrow_image: u32,
    narrow_text: u32,
    temperature: f32,
    weight0: f32,
    weight1: f32,
    unused: u32,
}

/// Asks for the launches.
pub fn run(op: &ClipLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let (image, text) = (io.input(first), io.input(first + 1));
    let [rows, features] = io.dims(first);
    let numbers = 2 * rows * features;
    count("numbers of both sides", numbers)?;
    count("similarities", rows.saturating_mul(rows))?;
    let [weight0, weight1] = op.directions.weights().map(|weight| weight as f32);
    let parameters = Parameters {
        image: image.address,
        text: text.address,
        units: io.workspace(4 * numbers),
        norms: io.workspace(8 * rows),
        s: io.workspace(4 * rows * rows),
        lse: io.workspace(8 * op.count),
        before: io.workspace(4 * op.count),
        rows: rows as u32,
        features: features as u32,
        offset: op.offset as u32,
        count: op.count as u32,
        narrow_image: u32::from(narrow(&[image])?),
        narrow_text: u32::from(narrow(&[text])?),
        temperature: op.temperature.to(),
        weight0,
        weight1,
        ..Parameters::zeroed()
    };
    let linear = |symbol, blocks| KernelCall::linear(symbol, blocks, THREADS, &parameters);
    let tiles = parameters.rows.div_ceil(TILE);
    io.launch(linear(UNITS, (2 * parameters.rows).div_ceil(WARPS)));
    io.launch(linear(SIMILARITIES, tiles * tiles));
    io.launch(linear(SOFTMAX, parameters.count.div_ceil(TILE)));
    match op.pass {
        Pass::Fwd => fwd(io, parameters),
        Pass::Bwd => bwd(io, parameters),
    }
}

fn fwd(io: &mut DeviceIo, parameters: Parameters) -> Result<(), Misfit> {
    let [out, second, third] = [0, 1, 2].map(|output| io.output(output));
    let exact = [out, second, third].iter().all(|output| output.dtype == DType::F32);
    Misfit::unless(exact, || "loss, top1 and top5 are stored as f32".into())?;
    let finish = Parameters { out: out.address, second: second.address, third: third.address, ..parameters };
    io.launch(KernelCall::linear(FINISH, 1, THREADS, &finish));
    Ok(())
}

fn bwd(io: &mut DeviceIo, parameters: Parameters) -> Result<(), Misfit> {
    let (seed, d_image, d_text) = (io.input(0), io.output(0), io.output(1));
    Misfit::unless(seed.dtype == DType::F32, || format!("seed is {}, f32 is needed", seed.dtype.name()))?;
    let Parameters { rows, features, .. } = parameters;
    let parameters = Parameters {
        seed: seed.address,
        d_units: io.workspace(8 * rows as usize * features as usize),
        out: d_image.address,
        second: d_text.address,
        ..parameters
    };
    let linear = |symbol, blocks| KernelCall::linear(symbol, blocks, THREADS, &parameters);
    io.launch(linear(D_SIMILARITIES, (rows * rows).div_ceil(THREADS)));
    let tiles = rows.div_ceil(TILE) * features.div_ceil(TILE);
    io.launch(KernelCall { grid: [tiles, 2, 1], ..linear(D_UNITS, tiles) });
    io.launch(linear(D_ROWS, (2 * rows).div_ceil(WARPS)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{D_ROWS, D_SIMILARITIES, D_UNITS, FINISH, Parameters, SIMILARITIES, SOFTMAX, UNITS};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([UNITS, SIMILARITIES, SOFTMAX, FINISH, D_SIMILARITIES, D_UNITS, D_ROWS]);
    }
}
