//! [`DiceLoss`](super::DiceLoss) in WGSL: `kernels/dice_loss.wgsl`. Sums of workgroups are added by one.

use bytemuck::{Pod, Zeroable};

use super::{DiceLoss, Form};
use crate::program::{Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "parts";
/// Pixels of a part, which a workgroup sums.
const PART: u32 = 2048;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    count: u32,
    parts: u32,
    log: u32,
}

/// Asks for the dispatches.
pub fn run(op: &DiceLoss, io: &mut ShaderIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let count = io.shape(first).elements() as u32;
    let parts = count.div_ceil(PART);
    let parameters = Parameters { count, parts, log: u32::from(op.form == Form::Log) };
    let [logits, mask] = [first, first + 1].map(|input| io.input(input).binding());
    let out = io.output(0).binding();
    match op.pass {
        Pass::Fwd => {
            let (partials, sums) = (io.scratch(12 * parts as usize), io.output(1).binding());
            io.launch(ShaderCall::linear("dice_loss.fwd", parts, [logits, mask, partials], &parameters));
            io.launch(ShaderCall::linear("dice_loss.finish", 1, [out, sums, partials], &parameters));
        }
        Pass::Bwd => {
            let [seed, sums] = [0, 3].map(|input| io.input(input).binding());
            io.each("dice_loss.bwd", count, [logits, mask, out, sums, seed], &parameters);
        }
    }
    Ok(())
}
