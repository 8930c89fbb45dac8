//! [`Rows`](super::Rows) in WGSL: `kernels/rows.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Rows;
use crate::program::{Misfit, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    batch: u32,
    channels: u32,
    count: u32,
}

/// Asks for the dispatch.
pub fn run(op: &Rows, io: &mut ShaderIo) -> Result<(), Misfit> {
    let (source, out, offsets) = (io.input(0), io.output(0), io.input(1));
    let symbol = if *op == Rows::Fwd { "rows.fwd" } else { "rows.bwd" };
    let count = out.spec.shape.elements() as u32;
    let (batch, channels) = (offsets.spec.shape.last() as u32 - 1, out.spec.shape.last() as u32);
    let bindings = [source, out, offsets].map(|buffer| buffer.binding());
    io.each(symbol, count, bindings, &Parameters { batch, channels, count });
    Ok(())
}
