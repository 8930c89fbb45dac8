//! [`MaxPool`](super::MaxPool) in WGSL: `kernels/max_pool.wgsl`. A number to a thread.

use bytemuck::{Pod, Zeroable};

use super::MaxPool;
use crate::program::device::count;
use crate::program::{Misfit, Pass, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "numbers";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    height: u32,
    width: u32,
    rows: u32,
    columns: u32,
    channels: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    count: u32,
}

/// Asks for the dispatch.
pub fn run(op: &MaxPool, io: &mut ShaderIo) -> Result<(), Misfit> {
    let forward = op.pass == Pass::Fwd;
    let (x, y) = if forward { (io.input(0), io.output(0)) } else { (io.input(1), io.input(0)) };
    let [rows, columns] = [1, 2].map(|at| y.spec.shape.dims()[at] as u32);
    let [height, width, channels] = [1, 2, 3].map(|at| x.spec.shape.dims()[at] as u32);
    let out = io.output(0);
    let numbers = out.spec.shape.elements() as u32;
    let parameters = Parameters {
        height,
        width,
        rows,
        columns,
        channels,
        kernel: count("the window", op.kernel)?,
        stride: count("the stride", op.stride)?,
        padding: count("the padding", op.padding)?,
        count: numbers,
    };
    let mut bindings = vec![x.binding(), y.binding()];
    let symbol = if forward {
        "max_pool.fwd"
    } else {
        bindings.push(out.binding());
        "max_pool.bwd"
    };
    io.each(symbol, numbers, bindings, &parameters);
    Ok(())
}
