//! [`Rows`](super::Rows) in WGSL: `kernels/rows.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Rows;
use crate::program::device::count;
use crate::program::{Misfit, ShaderCall, ShaderIo};

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
    let numbers = out.spec.shape.elements() as u32;
    if numbers > 0 {
        let parameters = Parameters {
            batch: count("the batch", offsets.spec.shape.last() - 1)?,
            channels: out.spec.shape.last() as u32,
            count: numbers,
        };
        let bindings = [source, out, offsets].map(|buffer| buffer.binding());
        io.launch(ShaderCall::linear(symbol, numbers.div_ceil(256), bindings, &parameters));
    }
    Ok(())
}
