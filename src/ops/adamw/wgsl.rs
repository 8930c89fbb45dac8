//! [`AdamW`] in WGSL: `kernels/adamw.wgsl`. A dispatch for each parameter, a number to a thread.

use bytemuck::{Pod, Zeroable};

use super::AdamW;
use crate::program::{Misfit, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "parameters";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Update {
    weight_decay: f32,
    toward1: f32,
    beta1: f32,
    beta2: f32,
    toward2: f32,
    eps: f32,
    count: u32,
}

/// Asks for the dispatches.
pub fn run(op: &AdamW, io: &mut ShaderIo) -> Result<(), Misfit> {
    let symbol = if op.gradient { "adamw.step" } else { "adamw.decay" };
    for parameter in 0..io.output_count() / 3 {
        // Updated in place: weights and moments lie where the outputs do.
        let state = [0, 1, 2].map(|part| io.output(3 * parameter + part));
        let mut buffers = vec![io.input(0), io.input(1)];
        buffers.extend(state);
        buffers.extend(op.gradient.then(|| io.input(2 + parameter * op.stride())));
        let count = state[0].spec.shape.elements() as u32;
        let parameters = Update {
            weight_decay: op.weight_decay.to(),
            toward1: (1.0 - op.beta1.0) as f32,
            beta1: op.beta1.to(),
            beta2: op.beta2.to(),
            toward2: (1.0 - op.beta2.0) as f32,
            eps: op.eps.to(),
            count,
        };
        let bindings: Vec<_> = buffers.iter().map(|buffer| buffer.binding()).collect();
        io.each(symbol, count, bindings, &parameters);
    }
    Ok(())
}
