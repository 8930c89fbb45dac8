//! [`Embed`](super::Embed) in WGSL: `kernels/embed.wgsl`. A number to a thread; the gradient of a word, a workgroup, is the
//! sum of the rows that the sorted order names.

use bytemuck::{Pod, Zeroable};

use super::Embed;
use crate::program::{DeviceBuffer, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "words";
/// Numbers of the gradient of the types that a workgroup adds up.
const TYPE_NUMBERS: u32 = 32;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    batch: u32,
    vocabulary: u32,
    positions: u32,
    channels: u32,
}

/// Asks for the dispatches.
pub fn run(op: &Embed, io: &mut ShaderIo) -> Result<(), Misfit> {
    match op {
        Embed::Fwd => forward(io),
        Embed::Bwd { .. } => backward(io),
    }
}

fn forward(io: &mut ShaderIo) -> Result<(), Misfit> {
    let (x, [word, position, token_type]) = (io.output(0), [0, 1, 2].map(|at| io.input(at)));
    let (ids, offsets) = (io.input(3), io.input(5));
    let parameters = parameters([word, position, token_type], x, offsets);
    let bindings = [x, offsets, position, word, token_type, ids].map(|buffer| buffer.binding());
    io.each("embed.fwd", x.spec.shape.elements() as u32, bindings, &parameters);
    Ok(())
}

fn backward(io: &mut ShaderIo) -> Result<(), Misfit> {
    let (dx, [word, position, token_type]) = (io.input(0), [0, 1, 2].map(|at| io.output(at)));
    let parameters = parameters([word, position, token_type], dx, io.input(3));
    let Parameters { vocabulary, positions, channels, .. } = parameters;
    let some = dx.spec.shape.elements() > 0 && positions > 0 && vocabulary > 0;
    Misfit::unless(some, || format!("{} needs no dispatch", dx.spec.shape))?;
    let [ids, order, offsets] = [1, 2, 3].map(|at| io.input(at).binding());
    let [dx, word, position, token_type] = [dx, word, position, token_type].map(|buffer| buffer.binding());
    let starts = io.scratch(4 * (vocabulary as usize + 1));
    let mut ask = |symbol, groups, bindings: &[_]| io.launch(ShaderCall::linear(symbol, groups, bindings, &parameters));
    ask("embed.position_of", (positions * channels).div_ceil(256), &[dx, offsets, position]);
    ask("embed.type_of", (2 * channels).div_ceil(TYPE_NUMBERS), &[position, token_type]);
    ask("embed.starts_of", (vocabulary + 1).div_ceil(256), &[ids, offsets, starts, order]);
    ask("embed.word_of", vocabulary, &[dx, word, starts, order]);
    Ok(())
}

fn parameters(tables: [DeviceBuffer; 3], x: DeviceBuffer, offsets: DeviceBuffer) -> Parameters {
    Parameters {
        batch: offsets.spec.shape.last() as u32 - 1,
        vocabulary: tables[0].spec.shape.rows() as u32,
        positions: tables[1].spec.shape.rows() as u32,
        channels: x.spec.shape.last() as u32,
    }
}
