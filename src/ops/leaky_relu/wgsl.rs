//! [`LeakyRelu`](super::LeakyRelu) in WGSL: `kernels/leaky_relu.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::LeakyRelu;
use crate::program::{Misfit, Pass, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    slope: f32,
    count: u32,
}

/// Asks for the dispatch.
pub fn run(op: &LeakyRelu, io: &mut ShaderIo) -> Result<(), Misfit> {
    let out = io.output(0);
    let count = out.spec.shape.elements() as u32;
    let parameters = Parameters { slope: op.slope.to(), count };
    match op.pass {
        Pass::Fwd => io.each("leaky_relu.fwd", count, [out.binding()], &parameters),
        Pass::Bwd => io.each("leaky_relu.bwd", count, [out.binding(), io.input(1).binding()], &parameters),
    }
    Ok(())
}
