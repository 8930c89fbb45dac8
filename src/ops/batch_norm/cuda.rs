//! [`BatchNorm`](super::BatchNorm) on CUDA: `kernels/batch_norm.cu`. Rows are cut into slices; what a slice adds up is
//! merged in order. A block has the rows of a slice and up to 256 channels, eight to a thread.

use bytemuck::{Pod, Zeroable};

use super::{BatchNorm, Gate};
use crate::base::Shape;
use crate::program::device::{count, exact};
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "eights";
const STATISTICS: [&str; 2] = ["batch_norm_statistics_f32_eights_sm80", "batch_norm_statistics_bf16_eights_sm80"];
const MOMENTS: &str = "batch_norm_moments_f32_columns_sm80";
const APPLY: [&str; 2] = ["batch_norm_apply_f32_eights_sm80", "batch_norm_apply_bf16_eights_sm80"];
const SUMS: [&str; 2] = ["batch_norm_sums_f32_eights_sm80", "batch_norm_sums_bf16_eights_sm80"];
const TOTALS: &str = "batch_norm_totals_f32_columns_sm80";
const GRADIENT: [&str; 2] = ["batch_norm_gradient_f32_eights_sm80", "batch_norm_gradient_bf16_eights_sm80"];
const RUNNING: &str = "batch_norm_running_f32_channels_sm80";
const THREADS: u32 = 256;
/// Channels of a thread, and of a block that adds up slices.
const EIGHT: u32 = 8;
/// Threads side by side along the channels, at most.
const ACROSS: u32 = 32;
/// Blocks that keep a large device busy while they add up: eight for each of 132 multiprocessors.
const BUSY: u32 = 1056;
/// Rows that a thread reads at a time for the statistics; a slice of a sum is a multiple.
const AT_A_TIME: u32 = 4;
/// Rows of a thread that makes a result of each: what it needs for its channels is read once.
const ROWS: u32 = 16;

/// Parameters of all kernels but that of the running statistics.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    residual: u64,
    gate: u64,
    out: u64,
    g: u64,
    mean: u64,
    var: u64,
    gamma: u64,
    beta: u64,
    dgamma: u64,
    dbeta: u64,
    partials: u64,
    totals: u64,
    extent: u64,
    rows: u32,
    channels: u32,
    across_bits: u32,
    parts: u32,
    slice: u32,
    eps: f32,
    relu: u32,
    keep: u32,
    constant: u32,
    unused: u32,
}

/// Parameters of the kernel of the running statistics.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Running {
    mean: u64,
    var: u64,
    running_mean: u64,
    running_var: u64,
    batches: u64,
    extent: u64,
    rows: u32,
    channels: u32,
    momentum: f32,
    unused: u32,
}

/// Asks for the launches of a pass.
pub fn run(op: &BatchNorm, io: &mut DeviceIo) -> Result<(), Misfit> {
    match *op {
        BatchNorm::Train { relu, eps, .. } | BatchNorm::Apply { relu, eps, .. } => forward(op, relu, eps.to(), io),
        BatchNorm::Running { momentum, rows, .. } => running(op, momentum.to(), rows, io),
        BatchNorm::Backward { gate, residual, eps, constant, .. } => {
            backward(op, gate, residual, eps.to(), constant, io)
        }
    }
}

impl Parameters {
    /// What follows from the inputs alone.
    fn new(op: &BatchNorm, eps: f32, io: &DeviceIo) -> Result<Self, Misfit> {
        let (at, shape) = (op.positions(), io.shape(op.positions().x));
        let f32s = |name: &str, input: Option<usize>| input.map_or(Ok(0), |input| exact(name, io.input(input)));
        let address = |input: Option<usize>| input.map_or(0, |input| io.input(input).address);
        let (across_bits, parts) = parts(shape)?;
        Ok(Self {
            x: io.input(at.x).address,
            residual: address(at.residual),
            gate: address(at.gate),
            gamma: f32s("gamma", at.gamma)?,
            beta: f32s("beta", at.beta)?,
            extent: at.offsets.map_or(0, |offsets| io.input(offsets).last_index()),
            rows: shape.rows() as u32,
            channels: shape.last() as u32,
            across_bits,
            parts,
            eps,
            ..Self::zeroed()
        })
    }

    /// Rows of a block of which each thread has one.
    fn step(&self) -> u32 {
        THREADS >> self.across_bits
    }

    /// In slices for adding up: as many as keep a device busy.
    fn summed(self) -> Self {
        let least = self.step() * AT_A_TIME;
        let wanted = (BUSY / self.parts).max(1);
        Self { slice: self.rows.div_ceil(wanted).next_multiple_of(least), ..self }
    }

    /// Bytes of the partial sums, two for each channel of each slice.
    fn partial_bytes(&self) -> usize {
        8 * self.rows.div_ceil(self.slice) as usize * self.channels as usize
    }

    /// In slices for a result of each number.
    fn mapped(self) -> Self {
        Self { slice: self.step() * ROWS, ..self }
    }

    /// A block for each slice of each part of the channels.
    fn slices(&self, symbols: [&'static str; 2], x: DeviceBuffer) -> Result<KernelCall, Misfit> {
        let blocks = self.rows.div_ceil(self.slice) as usize * self.parts as usize;
        Ok(KernelCall::linear(x.symbol(symbols)?, count("blocks", blocks)?, THREADS, self))
    }

    /// A block for eight channels of all slices.
    fn columns(&self, symbol: &'static str) -> KernelCall {
        KernelCall::linear(symbol, self.channels.div_ceil(EIGHT), THREADS, self)
    }
}

/// How the channels of these rows are dealt: the power of two of threads side by side, and how many times these.
fn parts(shape: Shape) -> Result<(u32, u32), Misfit> {
    Misfit::unless(count("the count of numbers", shape.elements())? > 0, || format!("{shape} needs no launch"))?;
    let groups = (shape.last() as u32).div_ceil(EIGHT);
    let across = groups.next_power_of_two().min(ACROSS);
    Ok((across.ilog2(), groups.div_ceil(across)))
}

fn forward(op: &BatchNorm, relu: bool, eps: f32, io: &mut DeviceIo) -> Result<(), Misfit> {
    let train = matches!(op, BatchNorm::Train { .. });
    let x = io.input(0);
    let [mean, var] = [1, 2].map(|at| if train { io.output(at) } else { io.input(at) });
    let parameters = Parameters {
        out: io.output(0).address,
        mean: exact("mean", mean)?,
        var: exact("var", var)?,
        relu: u32::from(relu),
        ..Parameters::new(op, eps, io)?
    };
    if train {
        let summed = parameters.summed();
        let summed = Parameters { partials: io.workspace(summed.partial_bytes()), ..summed };
        io.launch(summed.slices(STATISTICS, x)?);
        io.launch(summed.columns(MOMENTS));
    }
    io.launch(parameters.mapped().slices(APPLY, x)?);
    Ok(())
}

fn backward(op: &BatchNorm, gate: Gate, residual: bool, eps: f32, constant: bool, io: &mut DeviceIo) -> Result<(), Misfit> {
    let x = io.input(1);
    let second = usize::from(residual);
    let affine = io.output_count() > 1 + second;
    let vector = |at: usize| if affine { exact("a gradient", io.output(at)) } else { Ok(0) };
    let parameters = Parameters {
        out: io.output(0).address,
        // It overwrites dy, which it holds on entry.
        g: io.output(second).address,
        mean: exact("mean", io.input(2))?,
        var: exact("var", io.input(3))?,
        dgamma: vector(1 + second)?,
        dbeta: vector(2 + second)?,
        relu: u32::from(gate == Gate::Normalised),
        keep: u32::from(residual),
        constant: u32::from(constant),
        ..Parameters::new(op, eps, io)?
    };
    let summed = parameters.summed();
    let partials = io.workspace(summed.partial_bytes());
    let totals = io.workspace(8 * summed.channels as usize);
    let summed = Parameters { partials, totals, ..summed };
    io.launch(summed.slices(SUMS, x)?);
    io.launch(summed.columns(TOTALS));
    // Where the first kernel writes d_residual, that is g already.
    let gate = if residual { 0 } else { summed.gate };
    io.launch(Parameters { gate, ..summed.mapped() }.slices(GRADIENT, x)?);
    Ok(())
}

fn running(op: &BatchNorm, momentum: f32, rows: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let parameters = Running {
        mean: exact("mean", io.input(0))?,
        var: exact("var", io.input(1))?,
        running_mean: exact("running_mean", io.output(0))?,
        running_var: exact("running_var", io.output(1))?,
        batches: io.output(2).address,
        extent: op.positions().offsets.map_or(0, |offsets| io.input(offsets).last_index()),
        rows: count("rows", rows)?,
        channels: count("channels", io.shape(0).last())?,
        momentum,
        unused: 0,
    };
    // One block at least: it counts the batch.
    io.launch(KernelCall::linear(RUNNING, parameters.channels.div_ceil(THREADS).max(1), THREADS, &parameters));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{APPLY, GRADIENT, MOMENTS, Parameters, RUNNING, Running, STATISTICS, SUMS, TOTALS, run};
    use crate::base::{DType, Real, Spec};
    use crate::ops::batch_norm::BatchNorm;
    use crate::program::DeviceIo;
    use crate::program::device::DeviceCalls;

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        let symbols = [STATISTICS, APPLY, SUMS, GRADIENT].into_iter().flatten().chain([MOMENTS, TOTALS]);
        crate::kernels::assert_parameters::<Parameters>(symbols);
        crate::kernels::assert_parameters::<Running>([RUNNING]);
    }

    fn asked(shape: [usize; 4]) -> DeviceCalls {
        let op = BatchNorm::Train { affine: false, relu: true, residual: false, packed: false, eps: Real(1e-5) };
        let (x, vector) = (Spec::activation(shape), Spec::exact([shape[3]]));
        let outputs = [(x, DType::Bf16), (vector, DType::F32), (vector, DType::F32)];
        let mut io = DeviceIo::unplaced(&[(x, DType::Bf16)], &outputs);
        run(&op, &mut io).unwrap();
        io.finish()
    }

    #[test]
    fn slices_keep_a_device_busy() {
        let grids = |shape| asked(shape).calls.iter().map(|call| call.grid[0]).collect::<Vec<_>>();
        assert_eq!(grids([256, 64, 64, 256]), [1024, 32, 8192], "8 rows at a time: slices of 1024, and of 128");
        assert_eq!(grids([256, 8, 8, 2048]), [8 * 128, 256, 8 * 128]);
        assert_eq!(grids([1, 1, 2, 9]), [1, 2, 1]);
        assert_eq!(asked([256, 64, 64, 256]).workspace_bytes, 8 * 1024 * 256);
    }
}
