//! [`CrossEntropy`](super::CrossEntropy) on CUDA: `kernels/cross_entropy.cu`. A warp to a row; the losses of rows are added
//! in order.

use bytemuck::{Pod, Zeroable};

use super::CrossEntropy;
use crate::ops::linear::cuda::narrow;
use crate::program::device::{count, exact};
use crate::program::{DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "warps";
const FORWARD: &str = "cross_entropy_fwd_any_warps_sm80";
const FINISH: &str = "cross_entropy_finish_f32_block_sm80";
const BACKWARD: &str = "cross_entropy_bwd_any_warps_sm80";
/// Warps of a block, of which each takes a row.
const WARPS: u32 = 8;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    classes: u64,
    seed: u64,
    losses: u64,
    out: u64,
    rows: u32,
    count: u32,
    narrow_x: u32,
    unused: u32,
}

/// Asks for the launches.
pub fn run(op: &CrossEntropy, io: &mut DeviceIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let first = usize::from(!forward);
    let (x, out) = (io.input(first), io.output(0));
    let [rows, classes] = io.dims(first);
    count("the count of numbers", x.spec.shape.elements())?;
    let parameters = Parameters {
        x: x.address,
        classes: io.input(first + 1).address,
        seed: if forward { 0 } else { exact("seed", io.input(0))? },
        losses: if forward { io.workspace(4 * rows) } else { 0 },
        out: if forward { exact("the loss", out)? } else { out.address },
        rows: rows as u32,
        count: classes as u32,
        narrow_x: u32::from(narrow(&[x])?),
        unused: 0,
    };
    let blocks = parameters.rows.div_ceil(WARPS);
    io.launch(KernelCall::linear(if forward { FORWARD } else { BACKWARD }, blocks, 32 * WARPS, &parameters));
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
