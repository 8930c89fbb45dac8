//! [`ElementwiseLoss`](super::ElementwiseLoss) on CUDA: `kernels/elementwise_loss.cu`. Eight numbers to a thread; sums of
//! blocks are added in order.

use bytemuck::{Pod, Zeroable};

use super::ElementwiseLoss;
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["elementwise_loss_fwd_f32_eights_sm80", "elementwise_loss_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["elementwise_loss_bwd_f32_eights_sm80", "elementwise_loss_bwd_bf16_eights_sm80"];
const FINISH: &str = "elementwise_loss_finish_f32_block_sm80";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    target: u64,
    weight: u64,
    seed: u64,
    out: u64,
    count: u32,
    blocks: u32,
    form: u32,
    channels: u32,
    narrow_target: u32,
    narrow_weight: u32,
}

/// Asks for the launches.
pub fn run(op: &ElementwiseLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let first = usize::from(!forward);
    let (x, target) = (io.input(first), io.input(first + 1));
    let weight = op.weighted.then(|| io.input(first + 2));
    let count = count("the count of numbers", x.spec.shape.elements())?;
    for constant in [Some(target), weight].into_iter().flatten() {
        constant.symbol(FORWARD)?;
    }
    let out = io.output(0);
    let f32s = if forward { out } else { io.input(0) };
    Misfit::unless(f32s.dtype == DType::F32, || format!("the loss is {}, f32 is needed", f32s.dtype.name()))?;
    let blocks = count.div_ceil(2048);
    let [form, channels] = op.form.code();
    let parameters = Parameters {
        x: x.address,
        target: target.address,
        weight: weight.map_or(0, |weight| weight.address),
        seed: if forward { 0 } else { io.input(0).address },
        out: if forward { io.workspace(4 * blocks as usize) } else { out.address },
        count,
        blocks,
        form,
        channels,
        narrow_target: u32::from(target.dtype == DType::Bf16),
        narrow_weight: u32::from(weight.is_some_and(|weight| weight.dtype == DType::Bf16)),
    };
    let symbols = if forward { FORWARD } else { BACKWARD };
    io.launch(KernelCall::linear(x.symbol(symbols)?, blocks, 256, &parameters));
    if forward {
        let finish = Parameters { x: parameters.out, out: out.address, ..parameters };
        io.launch(KernelCall::linear(FINISH, 1, 256, &finish));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BACKWARD, FINISH, FORWARD, Parameters};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FORWARD[0], FORWARD[1], BACKWARD[0], BACKWARD[1], FINISH]);
    }
}
