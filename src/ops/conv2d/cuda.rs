//! [`Conv2d`] on CUDA: `kernels/conv2d.cu`, implicit products of tiles for every geometry.

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use super::{Conv2d, Pass};
use crate::base::DType;
use crate::ops::linear::cuda::{in_parts, narrow, parts, whole, wide};
use crate::ops::linear::predicted::{CLOCK, ISSUED, MULTIPROCESSORS, Work, moved};
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "gather";
/// Of each pass: f32, bf16, and bf16 with few columns.
const FWD: [&str; 3] = ["conv2d_fwd_f32_128x64_sm80", "conv2d_fwd_bf16_128x64_sm80", "conv2d_fwd_bf16_128x32_sm80"];
const DGRAD: [&str; 3] =
    ["conv2d_dgrad_f32_128x64_sm80", "conv2d_dgrad_bf16_128x64_sm80", "conv2d_dgrad_bf16_128x32_sm80"];
const WGRAD: [&str; 3] =
    ["conv2d_wgrad_f32_128x64_sm80", "conv2d_wgrad_bf16_128x64_sm80", "conv2d_wgrad_bf16_128x32_sm80"];
/// Rows of a block's tile.
const ROWS: usize = 128;
/// Numbers of the inner extent in a step in bf16, and the warp instructions of one of a block with 64 columns and with 32: as counted,
/// about (benches/results/counters-full.json). They last longer than its products.
const STEP: usize = 32;
const INSTRUCTIONS: [f64; 2] = [1700.0, 1350.0];
/// How many times as many it takes, as counted, about, where the image's numbers are not brought eight at a time.
const SINGLY: f64 = 4.0;
/// Classes of pixels that a grid can have, for strides up to 255.
const CLASSES: usize = 65535;

/// The kernels' parameters.
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
#[repr(C)]
struct Parameters {
    image: u64,
    skip: u64,
    other: u64,
    bias: u64,
    out: u64,
    height: u32,
    width: u32,
    shift: u32,
    channels: u32,
    depth: u32,
    batch: u32,
    rows: u32,
    cols: u32,
    columns: u32,
    column_tiles: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    scale: u32,
    weight_depth: u32,
    weight_first: u32,
    part: u32,
    vector_image: u32,
    vector_other: u32,
    vector_out: u32,
    wide: u32,
    add: u32,
}

/// Asks for the launches.
pub fn run(op: &Conv2d, io: &mut DeviceIo) -> Result<(), Misfit> {
    let g = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    g.countable()?;
    // Of single pixels the products come first wherever they are legal, and f32 no other kernel takes: there is nothing to choose.
    if io.input(0).dtype == DType::Bf16 && (g.kernel > 1 || g.stride > 1) {
        io.predict(seconds(op, &g, io));
    }
    match op.pass {
        Pass::Fwd => forward(op, &g, io),
        Pass::Dgrad { .. } => input_gradients(op, &g, io),
        Pass::Wgrad => weight_gradient(&g, io),
    }
}

/// Seconds that the kernels for bf16 are predicted to take on Hopper: what instructions take, or memory.
fn seconds(op: &Conv2d, g: &Geometry, io: &DeviceIo) -> f64 {
    let of_y = g.batch * g.out_height * g.out_width;
    let taps = g.kernel * g.kernel;
    let (rows, columns, inner) = match op.pass {
        Pass::Fwd => (of_y, [g.outputs, 0], g.window()),
        Pass::Dgrad { .. } => {
            (g.batch * g.height * g.width, [g.channels, g.skip], taps * g.outputs / (g.stride * g.stride))
        }
        Pass::Wgrad => (g.window(), [g.outputs, 0], of_y),
    };
    let image = if matches!(op.pass, Pass::Dgrad { .. }) { [g.outputs, 0] } else { [g.channels, g.skip] };
    let singly = if image.iter().all(|&channels| whole(channels, false) == 1) { 1.0 } else { SINGLY };
    let busy = |columns: usize| {
        let few = usize::from(columns <= 32);
        let tiles = rows.div_ceil(ROWS) * columns.div_ceil([64, 32][few]);
        let (part, parts) = if op.pass == Pass::Wgrad { parts(inner, tiles) } else { (inner, 1) };
        let rounds = (tiles * parts).div_ceil(MULTIPROCESSORS);
        (rounds * part.div_ceil(STEP)) as f64 * INSTRUCTIONS[few] * singly / (ISSUED * CLOCK)
    };
    let busy = columns.map(busy).iter().sum();
    Work { busy, moved: moved(io), again: 0.0 }.seconds()
}

/// What is the same for all passes; the pixels are those of y.
fn parameters(g: &Geometry, narrow: bool, columns: usize) -> (Parameters, usize) {
    let few = narrow && columns <= 32;
    let pieces = whole(g.channels, !narrow) & whole(g.skip, !narrow);
    let parameters = Parameters {
        height: g.height as u32,
        width: g.width as u32,
        shift: g.scale as u32 - 1,
        channels: g.channels as u32,
        depth: g.depth() as u32,
        batch: g.batch as u32,
        rows: g.out_height as u32,
        cols: g.out_width as u32,
        columns: columns as u32,
        column_tiles: columns.div_ceil(if few { 32 } else { 64 }) as u32,
        kernel: g.kernel as u32,
        stride: g.stride as u32,
        padding: g.padding as u32,
        scale: 1,
        vector_image: pieces,
        ..Parameters::zeroed()
    };
    (parameters, usize::from(narrow) + usize::from(few))
}

/// A launch for so many rows of the product, with `layers` blocks for each tile.
fn launch(io: &mut DeviceIo, symbol: &'static str, p: &Parameters, rows: usize, layers: usize) -> Result<(), Misfit> {
    let blocks = count("tiles", rows.div_ceil(ROWS).saturating_mul(p.column_tiles as usize))?;
    if blocks > 0 {
        io.launch(KernelCall { grid: [blocks, layers as u32, 1], ..KernelCall::linear(symbol, blocks, 256, p) });
    }
    Ok(())
}

fn forward(op: &Conv2d, g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let skips = usize::from(op.has_skip());
    let operands: Vec<_> = (0..2 + skips).map(|at| io.input(at)).collect();
    let (narrow, out) = (narrow(&operands)?, io.output(0));
    let wide = wide(out, narrow)?;
    let (common, form) = parameters(g, narrow, g.outputs);
    let parameters = Parameters {
        image: operands[0].address,
        skip: if skips > 0 { operands[1].address } else { 0 },
        other: operands[1 + skips].address,
        bias: if op.bias { io.input(2 + skips).address } else { 0 },
        out: out.address,
        vector_other: whole(g.window(), !narrow),
        vector_out: whole(g.outputs, wide),
        wide: u32::from(wide),
        ..common
    };
    launch(io, FWD[form], &parameters, g.batch * g.out_height * g.out_width, 1)
}

/// d_x, then d_skip: the same kernel for other channels of w.
fn input_gradients(op: &Conv2d, g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let operands = [io.input(0), io.input(1)];
    let narrow = narrow(&operands)?;
    let classes = g.stride.saturating_mul(g.stride);
    Misfit::unless(classes <= CLASSES, || format!("stride {} is more than 255", g.stride))?;
    for (output, scale, first, columns) in [(0, g.scale, 0, g.channels), (1, 1, g.channels, g.skip)] {
        if columns == 0 {
            continue;
        }
        let out = io.output(output);
        let wide = wide(out, narrow)?;
        let (common, form) = parameters(g, narrow, columns);
        let (rows, cols) = (g.height / scale, g.width / scale);
        let parameters = Parameters {
            image: operands[0].address,
            other: operands[1].address,
            out: out.address,
            height: g.out_height as u32,
            width: g.out_width as u32,
            shift: 0,
            channels: g.outputs as u32,
            depth: g.outputs as u32,
            rows: rows as u32,
            cols: cols as u32,
            scale: scale as u32,
            weight_depth: g.depth() as u32,
            weight_first: first as u32,
            vector_image: whole(g.outputs, !narrow),
            vector_other: whole(g.depth(), !narrow) & whole(first, !narrow) & whole(columns, !narrow),
            vector_out: whole(columns, wide),
            wide: u32::from(wide),
            add: u32::from(op.add),
            ..common
        };
        let pixels = g.batch * rows.div_ceil(g.stride) * cols.div_ceil(g.stride);
        launch(io, DGRAD[form], &parameters, pixels, classes)?;
    }
    Ok(())
}

/// d_w, in parts.
fn weight_gradient(g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let operands: Vec<_> = (0..io.input_count()).map(|at| io.input(at)).collect();
    let (narrow, out) = (narrow(&operands)?, io.output(0));
    Misfit::unless(wide(out, narrow)?, || "d_w is stored as f32".into())?;
    let (common, form) = parameters(g, narrow, g.outputs);
    let tiles = g.window().div_ceil(ROWS).saturating_mul(common.column_tiles as usize);
    let (part, parts) = parts(g.batch * g.out_height * g.out_width, tiles);
    let parameters = Parameters {
        image: operands[1].address,
        skip: operands.get(2).map_or(0, |skip| skip.address),
        other: operands[0].address,
        part: count("pixels of a part", part)?,
        vector_other: whole(g.outputs, !narrow),
        vector_out: whole(g.window(), true),
        wide: 1,
        ..common
    };
    in_parts(io, (out.address, g.outputs * g.window()), (part, parts), |io, out| {
        launch(io, WGRAD[form], &Parameters { out, ..parameters }, g.window(), parts)
    })
}

#[cfg(test)]
mod tests {
    use super::{DGRAD, FWD, Parameters, WGRAD};
    use crate::base::{DType, Kind, Spec};
    use crate::ops::conv2d::{Conv2d, Pass};
    use crate::program::{DeviceIo, KernelCall};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FWD, DGRAD, WGRAD].concat());
    }

    fn calls(op: Conv2d, inputs: &[[usize; 4]]) -> Result<(Vec<KernelCall>, usize), String> {
        use crate::program::Operation;
        let specs: Vec<Spec> = inputs.iter().map(|&dims| Spec::activation(dims)).collect();
        let outputs = op.infer(&specs).map_err(|why| why.to_string())?.specs;
        let stored = |spec: &Spec| (*spec, if spec.kind == Kind::Exact { DType::F32 } else { DType::Bf16 });
        let typed = |specs: &[Spec]| specs.iter().map(stored).collect::<Vec<_>>();
        let mut io = DeviceIo::unplaced(&typed(&specs), &typed(&outputs));
        super::run(&op, &mut io).map_err(|why| why.to_string())?;
        let asked = io.finish();
        Ok((asked.calls, asked.workspace_bytes))
    }

    #[test]
    fn grids_cover_classes_outputs_and_parts() {
        let strided = Conv2d::fwd(3).stride(2);
        let dgrad = Conv2d { pass: Pass::Dgrad { height: 9, width: 16, channels: 65 }, ..strided };
        let (made, _) = calls(dgrad, &[[2, 5, 8, 32], [32, 3, 3, 65]]).unwrap();
        assert_eq!(made.iter().map(|call| (call.symbol, call.grid)).collect::<Vec<_>>(), [(DGRAD[1], [2, 4, 1])]);
        let folded = Conv2d::fwd(3).upsampled(true);
        let dgrad = Conv2d { pass: Pass::Dgrad { height: 16, width: 16, channels: 48 }, ..folded };
        let (made, _) = calls(dgrad, &[[2, 32, 32, 32], [32, 3, 3, 64]]).unwrap();
        let launched: Vec<_> = made.iter().map(|call| (call.symbol, call.grid)).collect();
        assert_eq!(launched, [(DGRAD[1], [4, 1, 1]), (DGRAD[2], [16, 1, 1])], "d_x and d_skip");
        let wgrad = Conv2d { pass: Pass::Wgrad, ..Conv2d::fwd(3) };
        let (made, workspace) = calls(wgrad, &[[8, 32, 32, 32], [8, 32, 32, 64]]).unwrap();
        assert_eq!((made[0].symbol, made[0].grid), (WGRAD[2], [5, 86, 1]), "86 parts of 96 pixels");
        assert_eq!((made.len(), workspace), (2, 86 * 4 * 32 * 9 * 64));
    }

    #[test]
    fn what_the_kernels_cannot_count_is_refused() {
        let side = 1 << 16;
        let refused = calls(Conv2d::fwd(1), &[[1, side, side, 1], [1, 1, 1, 1]]).unwrap_err();
        assert!(refused.contains("pixels of the image"), "{refused}");
        let dgrad = Conv2d { pass: Pass::Dgrad { height: 1, width: 1, channels: 1 }, ..Conv2d::fwd(1).stride(256) };
        assert!(calls(dgrad, &[[1, 1, 1, 1], [1, 1, 1, 1]]).unwrap_err().contains("stride"));
    }
}
