//! [`MaskThreshold`](super::MaskThreshold) in WGSL: `kernels/mask_threshold.wgsl`. A workgroup to an image.

use bytemuck::{Pod, Zeroable};

use super::MaskThreshold;
use crate::program::{Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "groups";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    images: u32,
    heads: u32,
    count: u32,
    first: u32,
    counted: u32,
    largest: u32,
    mixture: u32,
}

/// Asks for the dispatches; for none if there are no images.
pub fn run(op: &MaskThreshold, io: &mut ShaderIo) -> Result<(), Misfit> {
    let [images, heads, rows, columns] = io.dims(0);
    let [first, counted, largest, mixture] = op.code(heads);
    let (images, heads, count) = (images as u32, heads as u32, (rows * columns) as u32);
    let parameters = Parameters { images, heads, count, first, counted, largest, mixture };
    let [map, cells, threshold] = [io.input(0), io.output(0), io.output(1)];
    io.each("mask_threshold.aggregate", images * count, [map.binding(), cells.binding()], &parameters);
    if images > 0 {
        let bindings = [threshold.binding(), cells.binding()];
        io.launch(ShaderCall::linear("mask_threshold.find", images, bindings, &parameters));
    }
    Ok(())
}
