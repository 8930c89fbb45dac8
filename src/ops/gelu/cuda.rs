//! [`Gelu`](super::Gelu) on CUDA: `kernels/gelu.cu`. Eight numbers to a thread.

use bytemuck::{Pod, Zeroable};

use super::Gelu;
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["gelu_fwd_f32_eights_sm80", "gelu_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["gelu_bwd_f32_eights_sm80", "gelu_bwd_bf16_eights_sm80"];

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    out: u64,
    extent: u64,
    channels: u32,
    unused: u32,
}

/// Asks for the launch.
pub fn run(op: &Gelu, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (at, symbols) = if *op == Gelu::Fwd { (0, FORWARD) } else { (1, BACKWARD) };
    launch(io, symbols, [io.input(at), io.output(0)], io.input(at + 1).last_index())
}

/// Asks for the launch that makes `out` of x, in the rows that are there: how many is at `extent`.
pub fn of(io: &mut DeviceIo, x: DeviceBuffer, out: DeviceBuffer, extent: u64) -> Result<(), Misfit> {
    launch(io, FORWARD, [x, out], extent)
}

/// Asks for the launch that multiplies `out` by the slope at x, in the rows that are there: how many is at `extent`.
pub fn times_slope(io: &mut DeviceIo, x: DeviceBuffer, out: DeviceBuffer, extent: u64) -> Result<(), Misfit> {
    launch(io, BACKWARD, [x, out], extent)
}

fn launch(
    io: &mut DeviceIo,
    symbols: [&'static str; 2],
    [x, out]: [DeviceBuffer; 2],
    extent: u64,
) -> Result<(), Misfit> {
    let elements = count("the count of numbers", x.spec.shape.elements())?;
    if elements > 0 {
        let parameters = Parameters {
            x: x.address,
            out: out.address,
            extent,
            channels: x.spec.shape.last() as u32,
            unused: 0,
        };
        io.launch(KernelCall::linear(x.symbol(symbols)?, elements.div_ceil(2048), 256, &parameters));
    }
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
