//! [`Attention`] in WGSL: `kernels/attention.wgsl`, a workgroup for each tile of rows of a head of a sequence. The gradient
//! is dq, then dk with dv: each number of a result is the sum of one thread.

use bytemuck::{Pod, Zeroable};

use super::Attention;
use crate::program::device::count;
use crate::program::{Binding, DeviceBuffer, Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
/// Rows of a tile, and features of a chunk.
const TILE: usize = 64;

/// Parameters of all kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    sequences: u32,
    tiles: u32,
    heads: u32,
    depth: u32,
    chunks: u32,
    scale: f32,
}

/// What the dispatches of a pass have in common.
struct Dispatches {
    parameters: Parameters,
    groups: u32,
    places: Binding,
}

impl Dispatches {
    /// Asks for the first, which finds each tile's sequence.
    fn new(
        heads: usize,
        q: DeviceBuffer,
        offsets: DeviceBuffer,
        lengths: Binding,
        io: &mut ShaderIo,
    ) -> Result<Self, Misfit> {
        let (rows, depth) = (q.spec.shape.rows(), q.spec.shape.last() / heads);
        let (sequences, chunks) = (offsets.spec.shape.last() - 1, depth.div_ceil(TILE));
        let tiles = rows / TILE + sequences;
        let groups = count("workgroups", tiles.saturating_mul(heads).saturating_mul(chunks))?;
        let parameters = Parameters {
            sequences: sequences as u32,
            tiles: tiles as u32,
            heads: heads as u32,
            depth: depth as u32,
            chunks: chunks as u32,
            scale: (1.0 / (depth as f64).sqrt()) as f32,
        };
        let places = io.scratch(16 * tiles);
        let bindings = [offsets.binding(), lengths, places];
        io.each("attention.tiles", parameters.tiles, bindings, &parameters);
        Ok(Self { parameters, groups, places })
    }

    fn launch<const BINDINGS: usize>(&self, io: &mut ShaderIo, symbol: &'static str, bindings: [Binding; BINDINGS]) {
        io.launch(ShaderCall::linear(symbol, self.groups, bindings, &self.parameters));
    }
}

/// Asks for the dispatches; for none if there are no numbers.
pub fn run(op: &Attention, io: &mut ShaderIo) -> Result<(), Misfit> {
    if io.shape(0).elements() == 0 {
        return Ok(());
    }
    match op.pass {
        Pass::Fwd => fwd(op.heads, io),
        Pass::Bwd => bwd(op.heads, io),
    }
}

fn fwd(heads: usize, io: &mut ShaderIo) -> Result<(), Misfit> {
    let (lengths, context, lse) = (io.input(4).binding(), io.output(0).binding(), io.output(1).binding());
    let dispatches = Dispatches::new(heads, io.input(0), io.input(3), lengths, io)?;
    let [q, k, v] = [0, 1, 2].map(|input| io.input(input).binding());
    dispatches.launch(io, "attention.fwd", [q, k, v, dispatches.places, context, lse]);
    Ok(())
}

fn bwd(heads: usize, io: &mut ShaderIo) -> Result<(), Misfit> {
    let [d_context, q, k, v, context, lse, offsets, lengths] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|input| io.input(input).binding());
    let [dq, dk, dv] = [0, 1, 2].map(|output| io.output(output).binding());
    let dispatches = Dispatches::new(heads, io.input(1), io.input(6), lengths, io)?;
    let pairs = io.shape(5).elements();
    let statistics = io.scratch(8 * pairs);
    let bindings = [offsets, context, d_context, lse, statistics];
    io.each("attention.deltas", pairs as u32, bindings, &dispatches.parameters);
    dispatches.launch(io, "attention.dq", [q, k, v, dispatches.places, dq, statistics, d_context]);
    dispatches.launch(io, "attention.dkv", [k, q, d_context, dispatches.places, dk, statistics, v, dv]);
    Ok(())
}
