//! [`BatchNorm`] in WGSL: `kernels/batch_norm.wgsl`. Rows are cut into slices; what a slice adds up is merged in order. A
//! workgroup has the rows of a slice and up to 64 channels, one to a thread.

use bytemuck::{Pod, Zeroable};

use super::{BatchNorm, Gate};
use crate::base::Shape;
use crate::program::device::count;
use crate::program::{Binding, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "channels";
const THREADS: u32 = 256;
/// Channels of a workgroup, at most.
const ACROSS: u32 = 64;
/// Channels of a workgroup that adds up slices, at most: there are few slices for many threads.
const FEW: u32 = 16;
/// Workgroups that keep a large device busy while they add up.
const BUSY: u32 = 1024;
/// Rows that a thread reads at a time for the statistics; a slice of a sum is a multiple.
const AT_A_TIME: u32 = 8;
/// Rows of a thread that makes a result of each: what it needs for its channel is read once.
const ROWS: u32 = 16;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    rows: u32,
    channels: u32,
    across: u32,
    slice: u32,
    batch: u32,
    packed: u32,
    affine: u32,
    relu: u32,
    residual: u32,
    gated: u32,
    keep: u32,
    constant: u32,
    eps: f32,
    momentum: f32,
}

/// Asks for the dispatches of a pass.
pub fn run(op: &BatchNorm, io: &mut ShaderIo) -> Result<(), Misfit> {
    let at = op.positions();
    let offsets = at.offsets.map(|input| io.input(input));
    let parameters = Parameters {
        channels: count("channels", io.shape(at.x).last())?,
        batch: offsets.map_or(0, |offsets| offsets.spec.shape.last() as u32 - 1),
        packed: u32::from(offsets.is_some()),
        affine: u32::from(at.gamma.is_some()),
        residual: u32::from(at.residual.is_some()),
        ..Parameters::zeroed()
    };
    let unread = io.scratch(4);
    let offsets = offsets.map_or(unread, |offsets| offsets.binding());
    match *op {
        BatchNorm::Train { relu, eps, .. } | BatchNorm::Apply { relu, eps, .. } => {
            let parameters = Parameters { relu: u32::from(relu), eps: eps.to(), ..parameters };
            forward(op, io, parameters, [offsets, unread])
        }
        BatchNorm::Running { momentum, rows, .. } => {
            let parameters = Parameters { momentum: momentum.to(), rows: count("rows", rows)?, ..parameters };
            let [mean, variance] = [0, 1].map(|input| io.input(input).binding());
            let [running_mean, running_variance, batches] = [0, 1, 2].map(|output| io.output(output).binding());
            let bindings = [offsets, running_mean, mean, variance, running_variance, batches];
            let groups = parameters.channels.div_ceil(THREADS).max(1);
            io.launch(ShaderCall::linear("batch_norm.running", groups, bindings, &parameters));
            Ok(())
        }
        BatchNorm::Backward { gate, residual, eps, constant, .. } => {
            let (keep, constant) = (u32::from(residual), u32::from(constant));
            let gated = match gate {
                Gate::Open => 0,
                Gate::Output => 1,
                Gate::Normalised => 2,
            };
            backward(op, io, Parameters { gated, keep, constant, eps: eps.to(), ..parameters }, [offsets, unread])
        }
    }
}

impl Parameters {
    /// For x of this shape, in slices for adding up: as many as keep a device busy.
    fn summed(self, x: Shape) -> Result<Self, Misfit> {
        Misfit::unless(count("the count of numbers", x.elements())? > 0, || format!("{x} needs no dispatch"))?;
        let across = self.channels.next_power_of_two().min(ACROSS);
        let wanted = (BUSY / self.channels.div_ceil(across)).max(1);
        let rows = x.rows() as u32;
        let slice = rows.div_ceil(wanted).next_multiple_of(THREADS / across * AT_A_TIME);
        Ok(Self { rows, across, slice, ..self })
    }

    /// Bytes of the partial sums, two for each channel of each slice.
    fn partial_bytes(&self) -> usize {
        8 * self.rows.div_ceil(self.slice) as usize * self.channels as usize
    }

    /// In slices for a result of each number.
    fn mapped(self) -> Self {
        Self { slice: THREADS / self.across * ROWS, ..self }
    }

    /// A workgroup for each slice of each part of the channels.
    fn slices(&self, symbol: &'static str, bindings: impl Into<Vec<Binding>>) -> ShaderCall {
        let groups = self.rows.div_ceil(self.slice) * self.channels.div_ceil(self.across);
        ShaderCall::linear(symbol, groups, bindings, self)
    }

    /// A workgroup for a few channels of all slices.
    fn columns(self, symbol: &'static str, bindings: impl Into<Vec<Binding>>) -> ShaderCall {
        let across = self.across.min(FEW);
        ShaderCall::linear(symbol, self.channels.div_ceil(across), bindings, &Self { across, ..self })
    }
}

/// What may be missing is bound as `unread`.
fn forward(
    op: &BatchNorm,
    io: &mut ShaderIo,
    parameters: Parameters,
    [offsets, unread]: [Binding; 2],
) -> Result<(), Misfit> {
    let at = op.positions();
    let summed = parameters.summed(io.shape(0))?;
    let [gamma, beta, residual] =
        [at.gamma, at.beta, at.residual].map(|input| input.map_or(unread, |input| io.input(input).binding()));
    let (x, y) = (io.input(0).binding(), io.output(0).binding());
    let train = matches!(op, BatchNorm::Train { .. });
    let [mean, variance] = [1, 2].map(|at| if train { io.output(at) } else { io.input(at) }.binding());
    if train {
        let partials = io.scratch(summed.partial_bytes());
        io.launch(summed.slices("batch_norm.statistics", [offsets, x, partials]));
        io.launch(summed.columns("batch_norm.moments", [offsets, partials, mean, variance]));
    }
    let bindings = [offsets, x, mean, variance, gamma, beta, residual, y];
    io.launch(summed.mapped().slices("batch_norm.apply", bindings));
    Ok(())
}

/// As [`forward`].
fn backward(
    op: &BatchNorm,
    io: &mut ShaderIo,
    parameters: Parameters,
    [offsets, unread]: [Binding; 2],
) -> Result<(), Misfit> {
    let at = op.positions();
    let summed = parameters.summed(io.shape(1))?;
    let keep = summed.keep as usize;
    // Whatever the gate is found by besides x: y, or beta.
    let [gamma, gate] =
        [at.gamma, at.gate.or(at.beta)].map(|input| input.map_or(unread, |input| io.input(input).binding()));
    let [x, mean, variance] = [1, 2, 3].map(|input| io.input(input).binding());
    // It overwrites dy, which it holds on entry.
    let g = io.output(keep).binding();
    let dx = if keep > 0 { io.output(0).binding() } else { unread };
    let affine = at.gamma.is_some();
    let [dgamma, dbeta] = [1, 2].map(|output| if affine { io.output(output + keep).binding() } else { unread });
    let (partials, totals) = (io.scratch(summed.partial_bytes()), io.scratch(20 * summed.channels as usize));
    io.launch(summed.slices("batch_norm.sums", [offsets, x, g, gate, mean, partials, gamma, variance]));
    let bindings = [offsets, partials, mean, variance, gamma, totals, dgamma, dbeta];
    io.launch(summed.columns("batch_norm.sum_up", bindings));
    // Where the first kernel writes d_residual, that is gated already.
    let gated = if keep > 0 { 0 } else { summed.gated };
    let mapped = Parameters { gated, ..summed.mapped() };
    io.launch(mapped.slices("batch_norm.gradient", [offsets, x, g, gate, totals, dx, gamma]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, Real, Spec};
    use crate::ops::batch_norm::BatchNorm;
    use crate::program::ShaderIo;
    use crate::program::device::DeviceCalls;

    #[test]
    fn slices_keep_a_device_busy() {
        let asked = |shape: [usize; 4]| -> DeviceCalls<_> {
            let op = BatchNorm::Train { affine: false, relu: true, residual: false, packed: false, eps: Real(1e-5) };
            let (x, vector) = (Spec::activation(shape), Spec::exact([shape[3]]));
            let [x, vector] = [x, vector].map(|spec| (spec, DType::F32));
            let mut io = ShaderIo::unplaced(&[x], &[x, vector, vector]);
            super::run(&op, &mut io).unwrap();
            io.finish()
        };
        let groups = |shape| asked(shape).calls.iter().map(|call| call.groups[0]).collect::<Vec<_>>();
        assert_eq!(groups([256, 64, 64, 256])[..2], [4 * 256, 16], "slices of 4096 rows");
        assert_eq!(groups([256, 8, 8, 2048]), [32 * 32, 128, 32 * 256], "slices of 512 and of 64 rows");
        assert_eq!(groups([1, 1, 2, 9]), [1, 1, 1]);
        assert_eq!(asked([256, 64, 64, 256]).workspace_bytes, 256 + 8 * 256 * 256);
    }
}
