//! [`SpatialMean`](super::SpatialMean) in WGSL: `kernels/spatial_mean.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::SpatialMean;
use crate::program::{Misfit, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    pixels: u32,
    channels: u32,
    count: u32,
}

/// Asks for the dispatch.
pub fn run(op: &SpatialMean, io: &mut ShaderIo) -> Result<(), Misfit> {
    let (source, out) = (io.input(0), io.output(0));
    let ([_, height, width, channels], symbol): ([usize; 4], _) = match op {
        SpatialMean::Fwd => (io.dims(0), "spatial_mean.fwd"),
        SpatialMean::Bwd { .. } => (io.output_dims(0), "spatial_mean.bwd"),
    };
    let numbers = out.spec.shape.elements() as u32;
    let parameters = Parameters { pixels: (height * width) as u32, channels: channels as u32, count: numbers };
    let bindings = [source, out].map(|buffer| buffer.binding());
    io.each(symbol, numbers, bindings, &parameters);
    Ok(())
}
