//! [`ElementwiseLoss`](super::ElementwiseLoss) in WGSL: `kernels/elementwise_loss.wgsl`. Sums of workgroups are added by one.

use bytemuck::{Pod, Zeroable};

use super::ElementwiseLoss;
use crate::program::{Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "parts";
/// Numbers of a part, which a workgroup sums.
const PART: u32 = 2048;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    count: u32,
    parts: u32,
    form: u32,
    channels: u32,
    weighted: u32,
}

/// Asks for the dispatches.
pub fn run(op: &ElementwiseLoss, io: &mut ShaderIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let first = usize::from(!forward);
    let (x, targets, out) = (io.input(first), io.input(first + 1), io.output(0));
    let count = x.spec.shape.elements() as u32;
    let parts = count.div_ceil(PART);
    let [form, channels] = op.form.code();
    let parameters = Parameters { count, parts, form, channels, weighted: u32::from(op.weighted) };
    let weights = if op.weighted { io.input(first + 2).binding() } else { io.scratch(4) };
    let [x, targets, out] = [x, targets, out].map(|buffer| buffer.binding());
    if forward {
        let partials = io.scratch(4 * parts as usize);
        io.launch(ShaderCall::linear("elementwise_loss.fwd", parts, [x, partials, targets, weights], &parameters));
        io.launch(ShaderCall::linear("elementwise_loss.finish", 1, [partials, out], &parameters));
    } else {
        let seed = io.input(0).binding();
        io.each("elementwise_loss.bwd", count, [x, out, targets, weights, seed], &parameters);
    }
    Ok(())
}
