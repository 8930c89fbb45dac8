//! [`Rows`](super::Rows) on CUDA: `kernels/rows.cu`. A block to a row.

use bytemuck::{Pod, Zeroable};

use super::Rows;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const FORWARD: [&str; 2] = ["rows_fwd_f32_eights_sm80", "rows_fwd_bf16_eights_sm80"];
const BACKWARD: [&str; 2] = ["rows_bwd_f32_eights_sm80", "rows_bwd_bf16_eights_sm80"];

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    from: u64,
    to: u64,
    offsets: u64,
    batch: u32,
    channels: u32,
}

/// Asks for the launch.
pub fn run(op: &Rows, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (from, to, offsets) = (io.input(0), io.output(0), io.input(1));
    for value in [from, to] {
        count("the count of numbers", value.spec.shape.elements())?;
    }
    let symbol = to.symbol(if *op == Rows::Fwd { FORWARD } else { BACKWARD })?;
    if to.spec.shape.elements() > 0 {
        let parameters = Parameters {
            from: from.address,
            to: to.address,
            offsets: offsets.address,
            batch: count("the batch", offsets.spec.shape.last() - 1)?,
            channels: to.spec.shape.last() as u32,
        };
        io.launch(KernelCall::linear(symbol, to.spec.shape.rows() as u32, 128, &parameters));
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
