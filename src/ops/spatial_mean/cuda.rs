//! [`SpatialMean`](super::SpatialMean) on CUDA: `kernels/spatial_mean.cu`. Eight channels to a thread.

use bytemuck::{Pod, Zeroable};

use super::SpatialMean;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["spatial_mean_fwd_f32_eights_sm80", "spatial_mean_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["spatial_mean_bwd_f32_eights_sm80", "spatial_mean_bwd_bf16_eights_sm80"];

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    from: u64,
    to: u64,
    rows: u32,
    pixels: u32,
    channels: u32,
    groups: u32,
}

/// Asks for the launch.
pub fn run(op: &SpatialMean, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (from, to) = (io.input(0), io.output(0));
    let ([_, height, width, channels], symbols): ([usize; 4], _) = match op {
        SpatialMean::Fwd => (io.dims(0), FORWARD),
        SpatialMean::Bwd { .. } => (io.output_dims(0), BACKWARD),
    };
    for value in [from, to] {
        count("the count of numbers", value.spec.shape.elements())?;
    }
    let rows = to.spec.shape.rows() as u32;
    let groups = channels.div_ceil(8) as u32;
    let pixels = (height * width) as u32;
    let parameters = Parameters { from: from.address, to: to.address, rows, pixels, channels: channels as u32, groups };
    io.launch(KernelCall::linear(to.symbol(symbols)?, (rows * groups).div_ceil(256), 256, &parameters));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BACKWARD, FORWARD, Parameters};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FORWARD[0], FORWARD[1], BACKWARD[0], BACKWARD[1]]);
    }
}
