//! [`MaxPool`](super::MaxPool) on CUDA: `kernels/max_pool.cu`. Eight channels of a pixel to a thread.

use bytemuck::{Pod, Zeroable};

use super::MaxPool;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["max_pool_fwd_f32_eights_sm80", "max_pool_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["max_pool_bwd_f32_eights_sm80", "max_pool_bwd_bf16_eights_sm80"];

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    y: u64,
    dx: u64,
    batch: u32,
    height: u32,
    width: u32,
    rows: u32,
    columns: u32,
    channels: u32,
    groups: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
}

/// Asks for the launch.
pub fn run(op: &MaxPool, io: &mut DeviceIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let (x, y, dx, symbols) = if forward {
        (io.input(0), io.output(0), 0, FORWARD)
    } else {
        (io.input(1), io.input(0), io.output(0).address, BACKWARD)
    };
    Misfit::unless(x.dtype == y.dtype, || format!("x is {}, y {}", x.dtype.name(), y.dtype.name()))?;
    for value in [x, y] {
        count("the count of numbers", value.spec.shape.elements())?;
    }
    let extent = |at: usize| x.spec.shape.dims()[at] as u32;
    let groups = extent(3).div_ceil(8);
    let parameters = Parameters {
        x: x.address,
        y: y.address,
        dx,
        batch: extent(0),
        height: extent(1),
        width: extent(2),
        rows: y.spec.shape.dims()[1] as u32,
        columns: y.spec.shape.dims()[2] as u32,
        channels: extent(3),
        groups,
        kernel: count("the window", op.kernel)?,
        stride: count("the stride", op.stride)?,
        padding: count("the padding", op.padding)?,
    };
    let pixels = if forward { y } else { x }.spec.shape.rows() as u32;
    io.launch(KernelCall::linear(x.symbol(symbols)?, (pixels * groups).div_ceil(256), 256, &parameters));
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
