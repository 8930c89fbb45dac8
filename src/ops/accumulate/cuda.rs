//! [`Accumulate`](super::Accumulate) on CUDA: `kernels/accumulate.cu`. Eight numbers to a thread.

use bytemuck::{Pod, Zeroable};

use super::Accumulate;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const ADD: [&str; 2] = ["accumulate_add_f32_eights_sm80", "accumulate_add_bf16_eights_sm80"];
const SCALE: [&str; 2] = ["accumulate_scale_f32_eights_sm80", "accumulate_scale_bf16_eights_sm80"];
const FILL: &str = "accumulate_fill_f32_eights_sm80";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    b: u64,
    out: u64,
    scale: f32,
    count: u32,
}

/// Asks for the launch.
pub fn run(op: &Accumulate, io: &mut DeviceIo) -> Result<(), Misfit> {
    let out = io.output(0);
    let (symbol, b, scale) = match *op {
        Accumulate::Add { scale } => (out.symbol(ADD)?, io.input(1).address, scale),
        Accumulate::Scale { scale } => (out.symbol(SCALE)?, io.input(0).address, scale),
        Accumulate::Fill { value } => (out.symbol([FILL; 2])?, 0, value),
    };
    let count = count("the count of numbers", out.spec.shape.elements())?;
    if count > 0 {
        let parameters = Parameters { b, out: out.address, scale: scale.to(), count };
        io.launch(KernelCall::linear(symbol, count.div_ceil(2048), 256, &parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ADD, FILL, Parameters, SCALE};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([ADD[0], ADD[1], SCALE[0], SCALE[1], FILL]);
    }
}
