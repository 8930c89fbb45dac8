//! [`Linear`] on CUDA: `kernels/linear.cu`, tiles of any shape. Sums over rows that few blocks would make are cut into parts
//! and added in order.

use bytemuck::{Pod, Zeroable};

use super::{Epilogue, Linear, Pass};
use crate::base::DType;
use crate::ops::gelu::cuda as gelu;
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "any";
/// Of each pass, by storage type.
const FWD: [&str; 2] = ["linear_fwd_f32_any_sm80", "linear_fwd_bf16_any_sm80"];
const DGRAD: [&str; 2] = ["linear_dgrad_f32_any_sm80", "linear_dgrad_bf16_any_sm80"];
const WGRAD: [&str; 2] = ["linear_wgrad_f32_any_sm80", "linear_wgrad_bf16_any_sm80"];
const BIAS_GRAD: [&str; 2] = ["linear_bias_grad_f32_any_sm80", "linear_bias_grad_bf16_any_sm80"];
const SUM: &str = "linear_sum_f32_partials_sm80";
/// Threads of a block.
const THREADS: usize = 256;
/// Rows and columns of a block's tile.
const TILE: [usize; 2] = [128, 64];
/// Blocks that a sum over rows is cut into, about: several for each multiprocessor.
const BLOCKS: usize = 512;
/// Rows of a part are a multiple of this.
const PART: usize = 32;

/// Parameters of the matrix products.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Product {
    a: u64,
    b: u64,
    bias: u64,
    extent: u64,
    out: u64,
    rows: u32,
    lines: u32,
    columns: u32,
    depth: u32,
    column_tiles: u32,
    part: u32,
    vector_a: u32,
    vector_b: u32,
    vector_out: u32,
    wide: u32,
    add: u32,
    unused: u32,
}

/// Parameters of the sum over rows.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Bias {
    dy: u64,
    extent: u64,
    out: u64,
    rows: u32,
    features: u32,
    part: u32,
    vector: u32,
    span: u32,
    advance: u32,
}

/// Parameters of the sum of partials.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Partials {
    partials: u64,
    out: u64,
    size: u32,
    count: u32,
}

/// Whether these are all stored as bf16, or all as f32; anything else no kernel takes.
pub fn narrow(operands: &[DeviceBuffer]) -> Result<bool, Misfit> {
    let all = |dtype| operands.iter().all(|operand| operand.dtype == dtype);
    let dtypes = || operands.iter().map(|operand| operand.dtype.name()).collect::<Vec<_>>().join(", ");
    Misfit::unless(all(DType::Bf16) || all(DType::F32), || {
        format!("operands are {}, all f32 or all bf16 are needed", dtypes())
    })?;
    Ok(all(DType::Bf16))
}

/// Whether an output is f32, where it may also be as the operands.
pub fn wide(output: DeviceBuffer, narrow: bool) -> Result<bool, Misfit> {
    let dtype = output.dtype;
    Misfit::unless(dtype == DType::F32 || narrow && dtype == DType::Bf16, || {
        format!("the output is {}, which no kernel writes", dtype.name())
    })?;
    Ok(dtype == DType::F32)
}

/// Whether rows of that length consist of whole pieces of 16 bytes.
pub fn whole(length: usize, wide: bool) -> u32 {
    u32::from(length.is_multiple_of(if wide { 4 } else { 8 }))
}

/// How a sum over `rows` is cut, of which `tiles` blocks work on each part: rows of a part, and how many there are.
pub fn parts(rows: usize, tiles: usize) -> (usize, usize) {
    let wanted = BLOCKS.div_ceil(tiles.max(1)).min(rows.div_ceil(PART)).max(1);
    let part = rows.div_ceil(wanted).next_multiple_of(PART);
    (part, rows.div_ceil(part))
}

/// Where the results of all parts, of `size` numbers each, go, and, once they are there, adds them up into `out`. The parts
/// are those of [`parts`].
pub fn in_parts(
    io: &mut DeviceIo,
    (out, size): (u64, usize),
    (part, parts): (usize, usize),
    make: impl FnOnce(&mut DeviceIo, u64) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    if parts == 1 {
        return make(io, out);
    }
    let partials = io.workspace(4 * size * parts);
    make(io, partials)?;
    io.partial(part);
    io.launch(sum_parts(partials, (out, size), parts)?);
    Ok(())
}

/// The launch that adds up so many partial sums of `size` numbers each into `out`.
pub fn sum_parts(partials: u64, (out, size): (u64, usize), parts: usize) -> Result<KernelCall, Misfit> {
    let parameters = Partials { partials, out, size: count("the result", size)?, count: count("parts", parts)? };
    Ok(KernelCall::linear(SUM, parameters.size.div_ceil(32), THREADS as u32, &parameters))
}

/// How many partial sums a call of [`sum_parts`] adds up; `None` of another kernel.
pub fn summed(call: &KernelCall) -> Option<usize> {
    let told = (call.symbol == SUM).then(|| bytemuck::pod_read_unaligned::<Partials>(&call.parameters))?;
    Some(told.count as usize)
}

/// Asks for the launches.
pub fn run(op: &Linear, io: &mut DeviceIo) -> Result<(), Misfit> {
    let extent = match op.packed {
        true => {
            let offsets = io.input(io.input_count() - 1);
            let last = offsets.spec.shape.elements().checked_sub(1);
            offsets.address + 4 * last.ok_or_else(|| Misfit::new("there are no offsets"))? as u64
        }
        false => 0,
    };
    match op.pass {
        Pass::Fwd | Pass::Dgrad => map_rows(op, io, extent),
        Pass::Wgrad => weight_gradient(io, extent),
        Pass::BiasGrad => bias_gradient(io, extent),
    }
}

/// y = x · wᵀ + bias or dx = dy · w.
fn map_rows(op: &Linear, io: &mut DeviceIo, extent: u64) -> Result<(), Misfit> {
    let (a, weight, out) = (io.input(0), io.input(1), io.output(0));
    let narrow = narrow(&[a, weight])?;
    let wide = wide(out, narrow)?;
    let (rows, depth, columns) = (a.spec.shape.rows(), a.spec.shape.last(), out.spec.shape.last());
    let (symbols, weight_row) = if op.pass == Pass::Fwd { (FWD, depth) } else { (DGRAD, columns) };
    let tiles = [rows.div_ceil(TILE[0]), columns.div_ceil(TILE[1])];
    let parameters = Product {
        a: a.address,
        b: weight.address,
        bias: if op.bias { io.input(2).address } else { 0 },
        extent,
        out: out.address,
        rows: count("rows", rows)?,
        lines: 0,
        columns: count("columns", columns)?,
        depth: count("features", depth)?,
        column_tiles: tiles[1] as u32,
        part: 0,
        vector_a: whole(depth, !narrow),
        vector_b: whole(weight_row, !narrow),
        vector_out: whole(columns, wide),
        wide: u32::from(wide),
        add: u32::from(op.epilogue == Epilogue::Add),
        unused: 0,
    };
    let blocks = count("tiles", tiles[0].saturating_mul(tiles[1]))?;
    io.launch(KernelCall::linear(symbols[usize::from(narrow)], blocks, THREADS as u32, &parameters));
    match op.epilogue {
        Epilogue::Store | Epilogue::Add => Ok(()),
        Epilogue::GeluSlope => gelu::times_slope(io, io.input(2), out, extent),
        Epilogue::Gelu => gelu::of(io, out, io.output(1), extent),
    }
}

/// dw = dyᵀ · x, in parts.
fn weight_gradient(io: &mut DeviceIo, extent: u64) -> Result<(), Misfit> {
    let (dy, x, out) = (io.input(0), io.input(1), io.output(0));
    let narrow = narrow(&[dy, x])?;
    Misfit::unless(wide(out, narrow)?, || "dw is stored as f32".into())?;
    let (rows, lines, columns) = (dy.spec.shape.rows(), dy.spec.shape.last(), x.spec.shape.last());
    let tiles = [lines.div_ceil(TILE[0]), columns.div_ceil(TILE[1])];
    let blocks = count("tiles", tiles[0].saturating_mul(tiles[1]))?;
    let (part, parts) = parts(rows, blocks as usize);
    let mut parameters = Product {
        a: dy.address,
        b: x.address,
        bias: 0,
        extent,
        out: 0,
        rows: count("rows", rows)?,
        lines: count("features of dy", lines)?,
        columns: count("features of x", columns)?,
        depth: 0,
        column_tiles: tiles[1] as u32,
        part: count("rows of a part", part)?,
        vector_a: whole(lines, !narrow),
        vector_b: whole(columns, !narrow),
        vector_out: whole(columns, true),
        wide: 1,
        add: 0,
        unused: 0,
    };
    in_parts(io, (out.address, lines * columns), (part, parts), |io, out| {
        parameters.out = out;
        let call = KernelCall::linear(WGRAD[usize::from(narrow)], blocks, THREADS as u32, &parameters);
        io.launch(KernelCall { grid: [blocks, parts as u32, 1], ..call });
        Ok(())
    })
}

/// How the sum over rows of so many features reads them: in pieces or not, the numbers of a turn, and from turn to turn.
fn turns(features: usize, narrow: bool) -> (bool, usize, usize) {
    let piece: usize = if narrow { 8 } else { 4 };
    // Whole rows and whole pieces: the least common multiple, for a piece is a power of two.
    let both = features * (piece >> features.trailing_zeros().min(piece.trailing_zeros()));
    if both <= piece * THREADS {
        let span = piece * THREADS / both * both;
        (true, span, span)
    } else if features.is_multiple_of(piece) {
        (true, piece * THREADS, features)
    } else {
        (false, THREADS, features)
    }
}

/// db, in parts.
fn bias_gradient(io: &mut DeviceIo, extent: u64) -> Result<(), Misfit> {
    let (dy, out) = (io.input(0), io.output(0));
    let narrow = narrow(&[dy])?;
    Misfit::unless(wide(out, narrow)?, || "db is stored as f32".into())?;
    let (rows, features) = (dy.spec.shape.rows(), dy.spec.shape.last());
    let (vector, span, advance) = turns(features, narrow);
    let blocks = if advance == span { 1 } else { features.div_ceil(span) };
    let (part, parts) = parts(rows, blocks);
    let mut parameters = Bias {
        dy: dy.address,
        extent,
        out: 0,
        rows: count("rows", rows)?,
        features: count("features", features)?,
        part: count("rows of a part", part)?,
        vector: u32::from(vector),
        span: span as u32,
        advance: advance as u32,
    };
    in_parts(io, (out.address, features), (part, parts), |io, out| {
        parameters.out = out;
        let call = KernelCall::linear(BIAS_GRAD[usize::from(narrow)], blocks as u32, THREADS as u32, &parameters);
        io.launch(KernelCall { grid: [blocks as u32, parts as u32, 1], ..call });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{BIAS_GRAD, Bias, DGRAD, FWD, Partials, Product, SUM, WGRAD, parts, turns};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Product>([FWD, DGRAD, WGRAD].concat());
        crate::kernels::assert_parameters::<Bias>(BIAS_GRAD);
        crate::kernels::assert_parameters::<Partials>([SUM]);
    }

    #[test]
    fn parts_fill_the_device_and_cover_the_rows() {
        assert_eq!(parts(1 << 20, 1), (2048, 512));
        assert_eq!(parts(1 << 20, 1000), (1 << 20, 1));
        assert_eq!(parts(33, 1), (32, 2), "parts of 32 rows at least");
        assert_eq!(parts(1, 7), (32, 1));
    }

    #[test]
    fn turns_span_whole_rows_and_pieces_or_a_part_of_a_row() {
        assert_eq!(turns(1, true), (true, 2048, 2048));
        assert_eq!(turns(3, true), (true, 2040, 2040), "85 times 24");
        assert_eq!(turns(768, true), (true, 1536, 1536));
        assert_eq!(turns(3072, true), (true, 2048, 3072));
        assert_eq!(turns(259, true), (false, 256, 259), "rows of 259 start at odd addresses");
        assert_eq!(turns(259, false), (false, 256, 259));
    }
}
