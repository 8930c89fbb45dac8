//! [`DiceLoss`](super::DiceLoss) on CUDA: `kernels/dice_loss.cu`. Eight pixels to a thread; sums of blocks are added in
//! order.

use bytemuck::{Pod, Zeroable};

use super::{DiceLoss, Form};
use crate::ops::linear::cuda::narrow;
use crate::program::device::{count, exact};
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: &str = "dice_loss_fwd_any_eights_sm80";
const FINISH: &str = "dice_loss_finish_f32_block_sm80";
const BACKWARD: &str = "dice_loss_bwd_any_eights_sm80";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    logits: u64,
    mask: u64,
    seed: u64,
    partials: u64,
    sums: u64,
    out: u64,
    count: u32,
    blocks: u32,
    narrow_logits: u32,
    narrow_mask: u32,
    log: u32,
    unused: u32,
}

/// Asks for the launches.
pub fn run(op: &DiceLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let first = usize::from(!forward);
    let (logits, mask, out) = (io.input(first), io.input(first + 1), io.output(0));
    let count = count("pixels of all images", logits.spec.shape.elements())?;
    let blocks = count.div_ceil(2048);
    let parameters = Parameters {
        logits: logits.address,
        mask: mask.address,
        seed: if forward { 0 } else { exact("seed", io.input(0))? },
        partials: if forward { io.workspace(12 * blocks as usize) } else { 0 },
        sums: exact("sums", if forward { io.output(1) } else { io.input(3) })?,
        out: if forward { exact("the loss", out)? } else { out.address },
        count,
        blocks,
        narrow_logits: u32::from(narrow(&[logits])?),
        narrow_mask: u32::from(narrow(&[mask])?),
        log: u32::from(op.form == Form::Log),
        unused: 0,
    };
    io.launch(KernelCall::linear(if forward { FORWARD } else { BACKWARD }, blocks, 256, &parameters));
    if forward {
        io.launch(KernelCall::linear(FINISH, 1, 256, &parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BACKWARD, FINISH, FORWARD, Parameters};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FORWARD, FINISH, BACKWARD]);
    }
}
