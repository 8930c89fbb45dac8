//! [`CrossEntropy`](super::CrossEntropy) in WGSL: `kernels/cross_entropy.wgsl`. A thread to a row; the losses of rows are
//! added by one workgroup.

use bytemuck::{Pod, Zeroable};

use super::CrossEntropy;
use crate::program::{Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "rows";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    rows: u32,
    count: u32,
}

/// Asks for the dispatches.
pub fn run(op: &CrossEntropy, io: &mut ShaderIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let [rows, count] = io.dims(first).map(|extent| extent as u32);
    let parameters = Parameters { rows, count };
    let [x, classes] = [first, first + 1].map(|input| io.input(input).binding());
    let out = io.output(0).binding();
    match op.pass {
        Pass::Fwd => {
            let losses = io.scratch(4 * rows as usize);
            io.each("cross_entropy.fwd", rows, [losses, x, classes], &parameters);
            io.launch(ShaderCall::linear("cross_entropy.finish", 1, [losses, out], &parameters));
        }
        Pass::Bwd => {
            let seed = io.input(0).binding();
            io.each("cross_entropy.bwd", rows, [out, x, classes, seed], &parameters);
        }
    }
    Ok(())
}
