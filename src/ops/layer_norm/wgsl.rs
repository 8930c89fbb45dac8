//! [`LayerNorm`](super::LayerNorm) in WGSL: `kernels/layer_norm.wgsl`. A workgroup to a row; what slices of rows add up for
//! dgamma and dbeta is added in order.

use bytemuck::{Pod, Zeroable};

use super::LayerNorm;
use crate::program::{Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "rows";
/// Channels of a workgroup that adds up columns.
const COLUMNS: u32 = 64;
/// Slices of rows, at most: with some workgroups to each they keep a large device busy.
const SLICES: u32 = 128;
/// Rows of a slice, at least.
const SLICE: u32 = 32;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    channels: u32,
    batch: u32,
    eps: f32,
    slice: u32,
    slices: u32,
}

/// Asks for the dispatches of a pass.
pub fn run(op: &LayerNorm, io: &mut ShaderIo) -> Result<(), Misfit> {
    Misfit::unless(io.shape(0).elements() > 0, || format!("{} needs no dispatch", io.shape(0)))?;
    let [rows, channels] = io.dims(0).map(|extent| extent as u32);
    let slice = rows.div_ceil(SLICES).max(SLICE);
    let batch = io.shape(io.input_count() - 1).last() as u32 - 1;
    let parameters = Parameters { channels, batch, eps: 0.0, slice, slices: rows.div_ceil(slice) };
    match *op {
        LayerNorm::Fwd { residual, eps } => forward(residual, io, &Parameters { eps: eps.to(), ..parameters }),
        LayerNorm::Bwd => backward(io, &parameters),
    }
    Ok(())
}

fn forward(residual: bool, io: &mut ShaderIo, parameters: &Parameters) {
    let (numbers, rows) = (io.shape(0).elements() as u32, io.shape(0).rows() as u32);
    let input = |io: &ShaderIo, at: usize| io.input(at + usize::from(residual)).binding();
    let [gamma, beta, offsets] = [1, 2, 3].map(|at| input(io, at));
    let [y, mean, rstd] = [0, 1, 2].map(|at| io.output(at).binding());
    let mut s = io.input(0).binding();
    if residual {
        let sum = io.output(3).binding();
        let bindings = [offsets, sum, s, io.input(1).binding()];
        io.each("layer_norm.add", numbers, bindings, parameters);
        s = sum;
    }
    let bindings = [offsets, y, s, mean, rstd, gamma, beta];
    io.launch(ShaderCall::linear("layer_norm.fwd", rows, bindings, parameters));
}

fn backward(io: &mut ShaderIo, parameters: &Parameters) {
    let &Parameters { channels, slices, .. } = parameters;
    // dx overwrites dy, which it holds on entry.
    let [dx, dgamma, dbeta] = [0, 1, 2].map(|at| io.output(at).binding());
    let [s, mean, rstd, gamma, offsets] = [1, 2, 3, 4, 5].map(|at| io.input(at).binding());
    let partials = io.scratch(8 * slices as usize * channels as usize);
    let (rows, groups) = (io.shape(0).rows() as u32, slices * channels.div_ceil(COLUMNS));
    io.launch(ShaderCall::linear("layer_norm.columns", groups, [offsets, dx, s, mean, rstd, partials], parameters));
    io.launch(ShaderCall::linear("layer_norm.bwd", rows, [offsets, dx, s, mean, rstd, gamma], parameters));
    let groups = (2 * channels).div_ceil(256);
    io.launch(ShaderCall::linear("layer_norm.finish", groups, [partials, dgamma, dbeta], parameters));
}
