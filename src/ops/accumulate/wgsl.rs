//! [`Accumulate`](super::Accumulate) in WGSL: `kernels/accumulate.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Accumulate;
use crate::program::{Misfit, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    scale: f32,
    count: u32,
}

/// Asks for the dispatch.
pub fn run(op: &Accumulate, io: &mut ShaderIo) -> Result<(), Misfit> {
    let out = io.output(0);
    let (symbol, b, scale) = match *op {
        Accumulate::Add { scale } => ("accumulate.add", Some(io.input(1)), scale),
        Accumulate::Scale { scale } => ("accumulate.scale", Some(io.input(0)), scale),
        Accumulate::Fill { value } => ("accumulate.fill", None, value),
    };
    let count = out.spec.shape.elements() as u32;
    let bindings: Vec<_> = [Some(out), b].into_iter().flatten().map(|buffer| buffer.binding()).collect();
    io.each(symbol, count, bindings, &Parameters { scale: scale.to(), count });
    Ok(())
}
