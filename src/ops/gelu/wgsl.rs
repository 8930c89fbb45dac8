//! [`Gelu`](super::Gelu) in WGSL: `kernels/gelu.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Gelu;
use crate::program::{Misfit, ShaderIo};

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
    let (x, offsets, out) = (io.input(at), io.input(at + 1), io.output(0));
    let parameters = Parameters { channels: x.spec.shape.last() as u32, batch: offsets.spec.shape.last() as u32 - 1 };
    let bindings = [x, out, offsets].map(|buffer| buffer.binding());
    io.each(symbol, x.spec.shape.elements() as u32, bindings, &parameters);
    Ok(())
}
