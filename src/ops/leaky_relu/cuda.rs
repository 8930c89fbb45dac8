//! [`LeakyRelu`](super::LeakyRelu) on CUDA: `kernels/leaky_relu.cu`. Eight numbers to a thread.

use bytemuck::{Pod, Zeroable};

use super::LeakyRelu;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["leaky_relu_fwd_f32_eights_sm80", "leaky_relu_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["leaky_relu_bwd_f32_eights_sm80", "leaky_relu_bwd_bf16_eights_sm80"];

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    y: u64,
    out: u64,
    slope: f32,
    count: u32,
}

/// Asks for the launch.
pub fn run(op: &LeakyRelu, io: &mut DeviceIo) -> Result<(), Misfit> {
    let out = io.output(0);
    let (symbols, y) = match op.pass {
        Pass::Fwd => (FORWARD, 0),
        Pass::Bwd => (BACKWARD, io.input(1).address),
    };
    let count = count("the count of numbers", out.spec.shape.elements())?;
    if count > 0 {
        let parameters = Parameters { y, out: out.address, slope: op.slope.to(), count };
        io.launch(KernelCall::linear(out.symbol(symbols)?, count.div_ceil(2048), 256, &parameters));
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
