//! [`Linear`] in WGSL: `kernels/linear.wgsl`, tiles of any shape. Sums over rows that few workgroups would make are cut into
//! parts and added in order.

use bytemuck::{Pod, Zeroable};

use super::cuda::parts;
use super::{Epilogue, Linear, Pass};
use crate::ops::gelu::wgsl as gelu;
use crate::program::device::count;
use crate::program::{Binding, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
/// Lines and columns of a workgroup's tile.
const TILE: usize = 64;
/// Columns of a workgroup that adds up rows, at most.
const COLUMNS: usize = 64;
/// Columns of one that adds partial sums, at least: many parts are shared by many threads.
const FEW_COLUMNS: usize = 16;
/// Threads of either.
const THREADS: usize = 256;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    rows: u32,
    lines: u32,
    columns: u32,
    depth: u32,
    part: u32,
    parts: u32,
    across: u32,
    batch: u32,
    packed: u32,
    bias: u32,
    add: u32,
}

/// Asks for the dispatches.
pub fn run(op: &Linear, io: &mut ShaderIo) -> Result<(), Misfit> {
    let mut parameters = Parameters { rows: io.shape(0).rows() as u32, ..Parameters::zeroed() };
    let offsets = match op.packed {
        true => {
            let offsets = io.input(io.input_count() - 1);
            let last = offsets.spec.shape.elements().checked_sub(1);
            parameters.batch = last.ok_or_else(|| Misfit::new("there are no offsets"))? as u32;
            parameters.packed = 1;
            offsets.binding()
        }
        false => io.scratch(4),
    };
    match op.pass {
        Pass::Fwd | Pass::Dgrad => map_rows(op, io, parameters, offsets),
        Pass::Wgrad => weight_gradient(io, parameters, offsets),
        Pass::BiasGrad => bias_gradient(io, parameters, offsets),
    }
}

/// y = x · wᵀ + bias or dx = dy · w.
fn map_rows(op: &Linear, io: &mut ShaderIo, parameters: Parameters, offsets: Binding) -> Result<(), Misfit> {
    let parameters = Parameters {
        columns: io.output(0).spec.shape.last() as u32,
        depth: io.shape(0).last() as u32,
        bias: u32::from(op.bias),
        add: u32::from(op.epilogue == Epilogue::Add),
        ..parameters
    };
    let tiles = tiles(parameters.rows as usize, parameters.columns as usize)?;
    let mut bindings = vec![io.input(0).binding(), io.output(0).binding(), offsets, io.input(1).binding()];
    let symbol = match op.pass {
        Pass::Fwd => {
            bindings.push(if op.bias { io.input(2).binding() } else { io.scratch(4) });
            "linear.fwd"
        }
        _ => "linear.dgrad",
    };
    io.launch(ShaderCall::linear(symbol, tiles, bindings, &parameters));
    match op.epilogue {
        Epilogue::Store | Epilogue::Add => {}
        Epilogue::GeluSlope => gelu::times_slope(io, io.input(2), io.output(0), io.input(3)),
        Epilogue::Gelu => gelu::of(io, io.output(0), io.output(1), io.input(io.input_count() - 1)),
    }
    Ok(())
}

/// How many tiles a product has.
pub fn tiles(lines: usize, columns: usize) -> Result<u32, Misfit> {
    count("tiles", lines.div_ceil(TILE).saturating_mul(columns.div_ceil(TILE)))
}

/// Asks for a product of whole matrices: of [lines, depth] and [columns, depth] by `Fwd`, of [lines, depth] and
/// [depth, columns] by `Dgrad`, of [depth, lines] and [depth, columns] by `Wgrad`.
pub fn product(
    io: &mut ShaderIo,
    pass: Pass,
    [lines, columns, depth]: [usize; 3],
    [a, b, out]: [Binding; 3],
) -> Result<(), Misfit> {
    let (groups, unread) = (tiles(lines, columns)?, io.scratch(4));
    let [lines, columns, depth] = [lines, columns, depth].map(|extent| extent as u32);
    let rows = if pass == Pass::Wgrad { depth } else { lines };
    let parameters = Parameters { rows, lines, columns, depth, part: depth, parts: 1, ..Parameters::zeroed() };
    let (symbol, bindings) = match pass {
        Pass::Fwd => ("linear.fwd", vec![a, out, unread, b, unread]),
        Pass::Dgrad => ("linear.dgrad", vec![a, out, unread, b]),
        Pass::Wgrad => ("linear.wgrad", vec![a, out, unread, b]),
        Pass::BiasGrad => return Err(Misfit::new("a sum over rows is no product")),
    };
    io.launch(ShaderCall::linear(symbol, groups, bindings, &parameters));
    Ok(())
}

/// dw = dyᵀ · x, in parts.
fn weight_gradient(io: &mut ShaderIo, parameters: Parameters, offsets: Binding) -> Result<(), Misfit> {
    let [dy, x, out] = [io.input(0), io.input(1), io.output(0)].map(|value| value.binding());
    let (lines, columns) = (io.shape(0).last(), io.shape(1).last());
    let tiles = tiles(lines, columns)?;
    let (part, parts) = parts(parameters.rows as usize, tiles as usize);
    let groups = count("workgroups", tiles as usize * parts)?;
    let [lines, columns, part] = [lines, columns, part].map(|extent| extent as u32);
    let parameters = Parameters { lines, columns, part, parts: parts as u32, ..parameters };
    in_parts(io, (out, lines as usize * columns as usize), parts, |io, out| {
        io.launch(ShaderCall::linear("linear.wgrad", groups, [dy, out, offsets, x], &parameters));
    })
}

/// db, in parts.
fn bias_gradient(io: &mut ShaderIo, parameters: Parameters, offsets: Binding) -> Result<(), Misfit> {
    let (dy, out, columns) = (io.input(0).binding(), io.output(0).binding(), io.shape(0).last());
    let across = columns.next_power_of_two().min(COLUMNS);
    let pieces = columns.div_ceil(across);
    let (part, parts) = parts(parameters.rows as usize, pieces);
    let parameters = Parameters {
        columns: columns as u32,
        part: part as u32,
        parts: parts as u32,
        across: across as u32,
        ..parameters
    };
    let groups = count("workgroups", pieces * parts)?;
    in_parts(io, (out, columns), parts, |io, out| {
        io.launch(ShaderCall::linear("linear.columns", groups, [dy, out, offsets], &parameters));
    })
}

/// Where the results of all parts, of `size` numbers each, go, and, once they are there, adds them up into `out`.
pub fn in_parts(
    io: &mut ShaderIo,
    (out, size): (Binding, usize),
    parts: usize,
    make: impl FnOnce(&mut ShaderIo, Binding),
) -> Result<(), Misfit> {
    if parts == 1 {
        make(io, out);
        return Ok(());
    }
    count("the numbers of partial sums", size.saturating_mul(parts))?;
    let (partials, unread) = (io.scratch(4 * size * parts), io.scratch(4));
    make(io, partials);
    // No more threads to a column than there are parts.
    let across = size.next_power_of_two().min((THREADS / parts.next_power_of_two().min(THREADS)).max(FEW_COLUMNS));
    let parameters = Parameters {
        rows: parts as u32,
        columns: size as u32,
        part: parts as u32,
        parts: 1,
        across: across as u32,
        ..Parameters::zeroed()
    };
    let groups = size.div_ceil(across) as u32;
    io.launch(ShaderCall::linear("linear.columns", groups, [partials, out, unread], &parameters));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, Spec};
    use crate::ops::linear::{Linear, Pass};
    use crate::program::{Operation, ShaderCall, ShaderIo};

    fn calls(op: Linear, inputs: &[[usize; 2]]) -> (Vec<ShaderCall>, usize) {
        let f32s = |specs: &[Spec]| specs.iter().map(|&spec| (spec, DType::F32)).collect::<Vec<_>>();
        let specs: Vec<Spec> = inputs.iter().map(|&dims| Spec::exact(dims)).collect();
        let mut io = ShaderIo::unplaced(&f32s(&specs), &f32s(&op.infer(&specs).unwrap().specs));
        super::run(&op, &mut io).unwrap();
        let asked = io.finish();
        (asked.calls, asked.workspace_bytes)
    }

    #[test]
    fn workgroups_cover_tiles_and_parts() {
        let groups =
            |op, inputs: &[[usize; 2]]| calls(op, inputs).0.iter().map(|call| call.groups[0]).collect::<Vec<_>>();
        assert_eq!(groups(Linear::fwd(), &[[65, 8], [129, 8]]), [6]);
        let wgrad = Linear { pass: Pass::Wgrad, ..Linear::fwd() };
        let inputs = [[1 << 14, 64], [1 << 14, 65]];
        assert_eq!(groups(wgrad, &inputs), [512, 64 * 65 / 16], "2 tiles, 256 parts of 64 rows");
        assert_eq!(calls(wgrad, &inputs).1, 256 + 4 * 256 * 64 * 65 + 256, "with two values that are not read");
        assert_eq!(groups(wgrad, &[[32, 8], [32, 8]]), [1]);
        assert_eq!(groups(Linear::bias_grad(), &[[1 << 14, 3]]), [512, 1], "parts of 32 rows");
    }
}
