//! [`Embed`](super::Embed) on CUDA: `kernels/embed.cu`. A block to a row; gradients are sums of the rows that the sorted
//! order, the offsets and then the gradients of the positions name.

use bytemuck::{Pod, Zeroable};

use super::Embed;
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "rows";
const FORWARD: [&str; 2] = ["embed_fwd_f32_eights_sm80", "embed_fwd_bf16_eights_sm80"];
const STARTS: &str = "embed_starts_i32_search_sm80";
const WORD: [&str; 2] = ["embed_word_f32_warps_sm80", "embed_word_bf16_warps_sm80"];
const POSITION: [&str; 2] = ["embed_position_f32_warps_sm80", "embed_position_bf16_warps_sm80"];
const TYPE: &str = "embed_type_f32_warps_sm80";
/// Channels of a block of the gradients: eight for each lane of a warp.
const CHANNELS: u32 = 256;
/// Blocks along y, at most.
const MOST_CHUNKS: u32 = 65535;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    word: u64,
    position: u64,
    token_type: u64,
    x: u64,
    ids: u64,
    order: u64,
    offsets: u64,
    starts: u64,
    batch: u32,
    vocabulary: u32,
    positions: u32,
    channels: u32,
}

/// Asks for the launches.
pub fn run(op: &Embed, io: &mut DeviceIo) -> Result<(), Misfit> {
    match op {
        Embed::Fwd => forward(io),
        Embed::Bwd { .. } => backward(io),
    }
}

fn forward(io: &mut DeviceIo) -> Result<(), Misfit> {
    let x = io.output(0);
    let tables = [0, 1, 2].map(|at| io.input(at));
    let parameters = parameters(tables, x, [3, 4, 5].map(|at| io.input(at)))?;
    if x.spec.shape.elements() > 0 {
        io.launch(KernelCall::linear(x.symbol(FORWARD)?, x.spec.shape.rows() as u32, 128, &parameters));
    }
    Ok(())
}

fn backward(io: &mut DeviceIo) -> Result<(), Misfit> {
    let dx = io.input(0);
    let tables = [0, 1, 2].map(|at| io.output(at));
    let mut parameters = parameters(tables, dx, [1, 2, 3].map(|at| io.input(at)))?;
    let Parameters { vocabulary, positions, channels, .. } = parameters;
    let chunks = channels.div_ceil(CHANNELS);
    Misfit::unless(chunks <= MOST_CHUNKS, || format!("{channels} channels, at most {MOST_CHUNKS} x {CHANNELS} fit"))?;
    if channels == 0 {
        return Ok(());
    }
    parameters.starts = io.workspace(4 * (vocabulary as usize + 1));
    let sums =
        |symbol, rows| KernelCall { grid: [rows, chunks, 1], ..KernelCall::linear(symbol, rows, 256, &parameters) };
    if positions > 0 {
        io.launch(sums(dx.symbol(POSITION)?, positions));
    }
    // Sums of what the launch before made.
    io.launch(sums(TYPE, 2));
    if vocabulary > 0 {
        io.launch(KernelCall::linear(STARTS, (vocabulary + 1).div_ceil(256), 256, &parameters));
        io.launch(sums(dx.symbol(WORD)?, vocabulary));
    }
    Ok(())
}

/// All but where words start in the order.
fn parameters(
    tables: [DeviceBuffer; 3],
    x: DeviceBuffer,
    [ids, order, offsets]: [DeviceBuffer; 3],
) -> Result<Parameters, Misfit> {
    for table in tables {
        Misfit::unless(table.dtype == DType::F32, || format!("a table is {}, f32 is needed", table.dtype.name()))?;
    }
    for value in [tables[0], tables[1], x] {
        count("the count of numbers", value.spec.shape.elements())?;
    }
    let [word, position, token_type] = tables;
    Ok(Parameters {
        word: word.address,
        position: position.address,
        token_type: token_type.address,
        x: x.address,
        ids: ids.address,
        order: order.address,
        offsets: offsets.address,
        starts: 0,
        batch: count("the batch", offsets.spec.shape.last() - 1)?,
        vocabulary: count("the vocabulary", word.spec.shape.rows())?,
        positions: count("the count of positions", position.spec.shape.rows())?,
        channels: count("the count of channels", x.spec.shape.last())?,
    })
}

#[cfg(test)]
mod tests {
    use super::{FORWARD, POSITION, Parameters, STARTS, TYPE, WORD};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FORWARD, WORD, POSITION, [STARTS, TYPE]].concat());
    }
}
