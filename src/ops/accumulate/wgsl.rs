//! [`Accumulate`](super::Accumulate) in WGSL: `kernels/accumulate.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::Accumulate;
use crate::program::device::count;
use crate::program::{Misfit, ShaderCall, ShaderIo};

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
    // A second value has the spec of the first, hence its stored type.
    let (symbol, b, scale) = match *op {
        Accumulate::Add { scale } => ("accumulate.add", Some(io.input(1)), scale),
        Accumulate::Scale { scale } => ("accumulate.scale", Some(io.input(0)), scale),
        Accumulate::Fill { value } => ("accumulate.fill", None, value),
    };
    let count = count("the count of numbers", out.spec.shape.elements())?;
    if count > 0 {
        let parameters = Parameters { scale: scale.to(), count };
        let bindings: Vec<_> = [Some(out), b].into_iter().flatten().map(|buffer| buffer.binding()).collect();
        io.launch(ShaderCall::linear(symbol, count.div_ceil(256), bindings, &parameters));
    }
    Ok(())
}
