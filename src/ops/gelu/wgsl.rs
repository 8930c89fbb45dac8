//! [`Gelu`](super::Gelu) in WGSL: `kernels/gelu.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Gelu;
use crate::program::{DeviceBuffer, Misfit, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    channels: u32,
    batch: u32,
}

/// Asks for the dispatch.
pub fn run(op: &Gelu, io: &mut ShaderIo) -> Result<(), Misfit> {
    let (at, symbol) = if *op == Gelu::Fwd { (0, "gelu.fwd") } else { (1, "gelu.bwd") };
    dispatch(io, symbol, io.input(at), io.output(0), io.input(at + 1));
    Ok(())
}

/// Asks for the dispatch that makes `out` of x, in the rows that are there.
pub fn of(io: &mut ShaderIo, x: DeviceBuffer, out: DeviceBuffer, offsets: DeviceBuffer) {
    dispatch(io, "gelu.fwd", x, out, offsets);
}

/// Asks for the dispatch that multiplies `out` by the slope at x, in the rows that are there.
pub fn times_slope(io: &mut ShaderIo, x: DeviceBuffer, out: DeviceBuffer, offsets: DeviceBuffer) {
    dispatch(io, "gelu.bwd", x, out, offsets);
}

fn dispatch(io: &mut ShaderIo, symbol: &'static str, x: DeviceBuffer, out: DeviceBuffer, offsets: DeviceBuffer) {
    let parameters = Parameters { channels: x.spec.shape.last() as u32, batch: offsets.spec.shape.last() as u32 - 1 };
    let bindings = [x, out, offsets].map(|buffer| buffer.binding());
    io.each(symbol, x.spec.shape.elements() as u32, bindings, &parameters);
}
