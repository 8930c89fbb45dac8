//! [`Attention`] on CUDA: `kernels/attention.cu`, a block for each tile of rows of a head of a sequence. The gradient is two
//! kernels, dq (and δ, which the other needs), then dk with dv: each number of a result is the sum of one thread.

use bytemuck::{Pod, Zeroable};

use super::Attention;
use super::warpgroups::Extents;
use crate::base::DType;
use crate::ops::linear::cuda::{narrow, whole};
use crate::ops::linear::predicted::{CLOCK, ISSUED, MULTIPROCESSORS, Work, moved};
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
/// Of each kernel, by storage type.
const FWD: [&str; 2] = ["attention_fwd_f32_any_sm80", "attention_fwd_bf16_any_sm80"];
const DQ: [&str; 2] = ["attention_bwd_f32_dq_sm80", "attention_bwd_bf16_dq_sm80"];
const DKV: [&str; 2] = ["attention_bwd_f32_dkv_sm80", "attention_bwd_bf16_dkv_sm80"];
const THREADS: u32 = 128;
/// Rows of a tile, and features of a chunk.
const TILE: usize = 64;
/// Instructions of warps for two tiles in bf16 whose heads have 64 features, as counted: forward, and both kernels of the gradient.
const FWD_INSTRUCTIONS: f64 = 5750.0;
const BWD_INSTRUCTIONS: f64 = 16_340.0;
/// lse and δ of a tile, in the gradient's shared memory.
const STATISTICS: usize = 2 * 4 * TILE;

/// Parameters of all kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    q: u64,
    k: u64,
    v: u64,
    d_context: u64,
    context: u64,
    offsets: u64,
    lengths: u64,
    lse: u64,
    delta: u64,
    out: u64,
    second: u64,
    sequences: u32,
    heads: u32,
    depth: u32,
    chunks: u32,
    vector: u32,
    scale: f32,
}

/// What the launches of a pass have in common.
struct Launches {
    parameters: Parameters,
    narrow: bool,
    blocks: u32,
}

impl Launches {
    fn new(
        heads: usize,
        [q, k, v]: [DeviceBuffer; 3],
        [offsets, lengths]: [DeviceBuffer; 2],
        lse: DeviceBuffer,
    ) -> Result<Self, Misfit> {
        let narrow = narrow(&[q, k, v])?;
        Misfit::unless(lse.dtype == DType::F32, || format!("lse is {}, f32 is needed", lse.dtype.name()))?;
        let (rows, depth) = (q.spec.shape.rows(), q.spec.shape.last() / heads);
        let (sequences, chunks) = (lengths.spec.shape.elements(), depth.div_ceil(TILE));
        count("rows", rows)?;
        let blocks = (rows / TILE + sequences).saturating_mul(heads).saturating_mul(chunks);
        let parameters = Parameters {
            q: q.address,
            k: k.address,
            v: v.address,
            offsets: offsets.address,
            lengths: lengths.address,
            lse: lse.address,
            sequences: count("sequences", sequences)?,
            heads: count("heads", heads)?,
            depth: count("features of a head", depth)?,
            chunks: chunks as u32,
            vector: whole(depth, !narrow),
            scale: (1.0 / (depth as f64).sqrt()) as f32,
            ..Parameters::zeroed()
        };
        Ok(Self { parameters, narrow, blocks: count("blocks", blocks)? })
    }

    /// A launch with this many tiles in shared memory, beside the one that f32 needs for its attention.
    fn launch(&self, io: &mut DeviceIo, symbols: [&'static str; 2], tiles: usize, more: usize) {
        let (tiles, bytes) = if self.narrow { (tiles, 2) } else { (tiles + 1, 4) };
        let call = KernelCall::linear(symbols[usize::from(self.narrow)], self.blocks, THREADS, &self.parameters);
        io.launch(KernelCall { shared_bytes: (tiles * TILE * (TILE * bytes + 16) + more) as u32, ..call });
    }

    /// Tells how long the kernels are predicted to take, bound by instructions; only where others take the same values.
    fn predict(&self, io: &mut DeviceIo, extents: &Extents, instructions: f64) {
        if self.narrow && self.parameters.depth as usize == TILE {
            let tiles = extents.tiles();
            let rounds = extents.items().saturating_mul(tiles).div_ceil(MULTIPROCESSORS);
            let busy = (rounds * tiles) as f64 * instructions / (ISSUED * CLOCK);
            io.predict(Work { busy, moved: moved(io), again: 0.0 }.seconds());
        }
    }
}

/// Asks for the launches; for none if there are no numbers.
pub fn run(op: &Attention, io: &mut DeviceIo) -> Result<(), Misfit> {
    if io.shape(0).elements() == 0 {
        return Ok(());
    }
    match op.pass {
        Pass::Fwd => fwd(op.heads, io),
        Pass::Bwd => bwd(op.heads, io),
    }
}

fn fwd(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [q, k, v, offsets, lengths] = [0, 1, 2, 3, 4].map(|input| io.input(input));
    let context = io.output(0);
    narrow(&[q, context])?;
    let mut launches = Launches::new(heads, [q, k, v], [offsets, lengths], io.output(1))?;
    launches.parameters.out = context.address;
    launches.launch(io, FWD, 3, 0);
    launches.predict(io, &Extents::new(heads, q, lengths), FWD_INSTRUCTIONS);
    Ok(())
}

fn bwd(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [d_context, q, k, v, context, lse, offsets, lengths] = [0, 1, 2, 3, 4, 5, 6, 7].map(|input| io.input(input));
    let [dq, dk, dv] = [0, 1, 2].map(|output| io.output(output));
    narrow(&[q, d_context, context, dq, dk, dv])?;
    let mut launches = Launches::new(heads, [q, k, v], [offsets, lengths], lse)?;
    launches.parameters.d_context = d_context.address;
    launches.parameters.context = context.address;
    launches.parameters.delta = io.workspace(4 * lse.spec.shape.elements());
    launches.parameters.out = dq.address;
    launches.launch(io, DQ, 4, STATISTICS);
    launches.parameters.out = dk.address;
    launches.parameters.second = dv.address;
    launches.launch(io, DKV, 4, STATISTICS);
    launches.predict(io, &Extents::new(heads, q, lengths), BWD_INSTRUCTIONS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DKV, DQ, FWD, Parameters};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FWD, DQ, DKV].into_iter().flatten());
    }
}
