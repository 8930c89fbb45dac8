//! [`MaskThreshold`](super::MaskThreshold) on CUDA: `kernels/mask_threshold.cu`. A warp to an image.

use bytemuck::{Pod, Zeroable};

use super::MaskThreshold;
use crate::program::device::{count, exact};
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernel within the op.
pub const KERNEL: &str = "warps";
const SYMBOL: &str = "mask_threshold_fwd_f32_warps_sm80";

/// Parameters of the kernel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    map: u64,
    cells: u64,
    threshold: u64,
    images: u32,
    heads: u32,
    count: u32,
    first: u32,
    counted: u32,
    largest: u32,
    mixture: u32,
    unused: u32,
}

/// Asks for the launch; for none if there are no images.
pub fn run(op: &MaskThreshold, io: &mut DeviceIo) -> Result<(), Misfit> {
    let map = io.input(0);
    count("the count of numbers", map.spec.shape.elements())?;
    let [images, heads, rows, columns] = io.dims(0);
    let [first, counted, largest, mixture] = op.code(heads);
    let parameters = Parameters {
        map: exact("map", map)?,
        cells: exact("cells", io.output(0))?,
        threshold: exact("threshold", io.output(1))?,
        images: images as u32,
        heads: heads as u32,
        count: (rows * columns) as u32,
        first,
        counted,
        largest,
        mixture,
        unused: 0,
    };
    if images > 0 {
        io.launch(KernelCall::linear(SYMBOL, parameters.images.div_ceil(4), 128, &parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Parameters, SYMBOL};

    #[test]
    fn the_kernel_declares_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([SYMBOL]);
    }
}
