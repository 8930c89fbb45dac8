//! [`Convert`](super::Convert) in WGSL: numbers of every kind are f32, so it is the copy of `kernels/memory.wgsl`.

use crate::program::{Misfit, ShaderIo};

/// Name of the kernel within the op.
pub const KERNEL: &str = "copy";

/// Asks for the dispatch.
pub fn run(io: &mut ShaderIo) -> Result<(), Misfit> {
    let (x, y) = (io.input(0), io.output(0));
    let count = x.spec.shape.elements() as u32;
    io.each("memory.copy", count, [x, y].map(|buffer| buffer.binding()), &count);
    Ok(())
}
