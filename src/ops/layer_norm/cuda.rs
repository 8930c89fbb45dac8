//! [`LayerNorm`](super::LayerNorm) on CUDA: `kernels/layer_norm.cu`. A block has a slice of the rows, eight channels to a
//! thread; what slices add up for dgamma and dbeta is added in order.

use bytemuck::{Pod, Zeroable};

use super::LayerNorm;
use crate::program::device::{count, exact};
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "rows";
const FORWARD: [&str; 2] = ["layer_norm_fwd_f32_rows_sm80", "layer_norm_fwd_bf16_rows_sm80"];
const BACKWARD: [&str; 2] = ["layer_norm_bwd_f32_rows_sm80", "layer_norm_bwd_bf16_rows_sm80"];
const FINISH: &str = "layer_norm_finish_f32_columns_sm80";
/// Rows that a block works at side by side.
const ROWS: u32 = 2;
/// Rows of a block of the forward pass: what it needs for its channels is read once.
const FORWARD_ROWS: u32 = 8;
/// Channels of a thread, and columns of a block that adds up slices.
const EIGHT: u32 = 8;
/// Channels of the widest block, of 512 threads.
const MOST_CHANNELS: u32 = 4096;
/// Blocks that keep a large device busy: four for each of 132 multiprocessors.
const BUSY: u32 = 528;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    residual: u64,
    gamma: u64,
    beta: u64,
    out: u64,
    mean: u64,
    rstd: u64,
    sum: u64,
    dgamma: u64,
    dbeta: u64,
    partials: u64,
    extent: u64,
    channels: u32,
    slice: u32,
    eps: f32,
    unused: u32,
}

/// Asks for the launches of a pass.
pub fn run(op: &LayerNorm, io: &mut DeviceIo) -> Result<(), Misfit> {
    let elements = count("the count of numbers", io.shape(0).elements())?;
    Misfit::unless(elements > 0, || format!("{} needs no launch", io.shape(0)))?;
    let [rows, channels] = io.dims(0).map(|extent| extent as u32);
    Misfit::unless(channels <= MOST_CHANNELS, || format!("{channels} channels, at most {MOST_CHANNELS} fit a block"))?;
    let threads = channels.div_ceil(EIGHT).next_multiple_of(32);
    match *op {
        LayerNorm::Fwd { residual, eps } => {
            let parameters = Parameters { channels, slice: FORWARD_ROWS, eps: eps.to(), ..forward(residual, io)? };
            let symbol = io.input(0).symbol(FORWARD)?;
            io.launch(KernelCall::linear(symbol, rows.div_ceil(FORWARD_ROWS), threads, &parameters));
        }
        LayerNorm::Bwd => {
            let slice = rows.div_ceil(BUSY).next_multiple_of(ROWS);
            let slices = rows.div_ceil(slice);
            let partials = io.workspace(8 * slices as usize * channels as usize);
            let parameters = Parameters { channels, slice, partials, ..backward(io)? };
            io.launch(KernelCall::linear(io.input(1).symbol(BACKWARD)?, slices, threads, &parameters));
            io.launch(KernelCall::linear(FINISH, (2 * channels).div_ceil(EIGHT), 256, &parameters));
        }
    }
    Ok(())
}

/// Addresses of the forward pass.
fn forward(residual: bool, io: &DeviceIo) -> Result<Parameters, Misfit> {
    let gamma = if residual { 2 } else { 1 };
    Ok(Parameters {
        x: io.input(0).address,
        residual: if residual { io.input(1).address } else { 0 },
        gamma: exact("gamma", io.input(gamma))?,
        beta: exact("beta", io.input(gamma + 1))?,
        out: io.output(0).address,
        mean: exact("mean", io.output(1))?,
        rstd: exact("rstd", io.output(2))?,
        sum: if residual { io.output(3).address } else { 0 },
        extent: io.input(gamma + 2).last_index(),
        ..Parameters::zeroed()
    })
}

/// Addresses of the gradient.
fn backward(io: &DeviceIo) -> Result<Parameters, Misfit> {
    Ok(Parameters {
        x: io.input(1).address,
        mean: exact("mean", io.input(2))?,
        rstd: exact("rstd", io.input(3))?,
        gamma: exact("gamma", io.input(4))?,
        extent: io.input(5).last_index(),
        // It overwrites dy, which it holds on entry.
        out: io.output(0).address,
        dgamma: exact("dgamma", io.output(1))?,
        dbeta: exact("dbeta", io.output(2))?,
        ..Parameters::zeroed()
    })
}

#[cfg(test)]
mod tests {
    use super::{BACKWARD, FINISH, FORWARD, Parameters, run};
    use crate::base::{DType, Spec};
    use crate::ops::layer_norm::LayerNorm;
    use crate::program::device::DeviceCalls;
    use crate::program::{DeviceIo, Misfit, Operation};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FORWARD, BACKWARD].into_iter().flatten().chain([FINISH]));
    }

    fn asked(rows: usize, channels: usize) -> Result<DeviceCalls, Misfit> {
        let [value, row, column] = [Spec::activation([rows, channels]), Spec::exact([rows]), Spec::exact([channels])];
        let inputs = [value, value, row, row, column, Spec::index([3])];
        let typed = |spec: Spec| (spec, DType::F32);
        let outputs = LayerNorm::Bwd.infer(&inputs)?.specs;
        let typed_outputs: Vec<_> = outputs.into_iter().map(typed).collect();
        let mut io = DeviceIo::unplaced(&inputs.map(typed), &typed_outputs);
        run(&LayerNorm::Bwd, &mut io)?;
        Ok(io.finish())
    }

    #[test]
    fn slices_keep_a_device_busy() {
        let calls = asked(20_000, 768).unwrap();
        let grids: Vec<u32> = calls.calls.iter().map(|call| call.grid[0]).collect();
        assert_eq!((grids, calls.calls[0].block[0]), (vec![527, 192], 96), "slices of 38 rows");
        assert_eq!(calls.workspace_bytes, 527 * 2 * 768 * 4);
    }

    #[test]
    fn rows_wider_than_a_block_are_refused() {
        assert!(asked(2, 4096).is_ok() && asked(2, 4097).is_err());
    }
}
