//! [`Convert`](super::Convert) on CUDA: `kernels/convert.cu`. Eight numbers to a thread.

use bytemuck::{Pod, Zeroable};

use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const COPY: [&str; 2] = ["convert_copy_f32_eights_sm80", "convert_copy_bf16_eights_sm80"];
const NARROW: &str = "convert_narrow_bf16_eights_sm80";
const WIDEN: &str = "convert_widen_f32_eights_sm80";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    y: u64,
    count: u32,
    unused: u32,
}

/// Asks for the launch.
pub fn run(io: &mut DeviceIo) -> Result<(), Misfit> {
    let (x, y) = (io.input(0), io.output(0));
    let symbol = match (x.dtype, y.dtype) {
        (DType::F32, DType::Bf16) => NARROW,
        (DType::Bf16, DType::F32) => WIDEN,
        (from, to) if from == to => x.symbol(COPY)?,
        (from, to) => return Err(Misfit::new(format!("no kernel makes {} of {}", to.name(), from.name()))),
    };
    let count = count("the count of numbers", x.spec.shape.elements())?;
    if count > 0 {
        let parameters = Parameters { x: x.address, y: y.address, count, unused: 0 };
        io.launch(KernelCall::linear(symbol, count.div_ceil(2048), 256, &parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{COPY, NARROW, Parameters, WIDEN};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([COPY[0], COPY[1], NARROW, WIDEN]);
    }
}
