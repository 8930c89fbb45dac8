//! [`Conv2d`] in WGSL: `kernels/conv2d.wgsl`, implicit products of tiles for every geometry.

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use super::{Conv2d, Pass};
use crate::ops::linear::cuda::parts;
use crate::ops::linear::wgsl::{in_parts, tiles};
use crate::program::device::count;
use crate::program::{Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "gather";

/// The kernels' parameters.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    height: u32,
    width: u32,
    shift: u32,
    channels: u32,
    depth: u32,
    batch: u32,
    rows: u32,
    cols: u32,
    columns: u32,
    outputs: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
    scale: u32,
    weight_depth: u32,
    weight_first: u32,
    part: u32,
    parts: u32,
    tiles: u32,
    with_bias: u32,
    add: u32,
}

/// Asks for the dispatches.
pub fn run(op: &Conv2d, io: &mut ShaderIo) -> Result<(), Misfit> {
    let g = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    g.countable()?;
    match op.pass {
        Pass::Fwd => forward(op, &g, io),
        Pass::Dgrad { .. } => input_gradients(op, &g, io),
        Pass::Wgrad => weight_gradient(&g, io),
    }
}

/// What is the same for all passes; the pixels are those of y.
fn parameters(g: &Geometry) -> Parameters {
    Parameters {
        height: g.height as u32,
        width: g.width as u32,
        shift: g.scale as u32 - 1,
        channels: g.channels as u32,
        depth: g.depth() as u32,
        batch: g.batch as u32,
        rows: g.out_height as u32,
        cols: g.out_width as u32,
        outputs: g.outputs as u32,
        kernel: g.kernel as u32,
        stride: g.stride as u32,
        padding: g.padding as u32,
        scale: 1,
        weight_depth: g.depth() as u32,
        ..Parameters::zeroed()
    }
}

fn forward(op: &Conv2d, g: &Geometry, io: &mut ShaderIo) -> Result<(), Misfit> {
    let skips = usize::from(op.has_skip());
    let (image, weight, out) = (io.input(0).binding(), io.input(1 + skips).binding(), io.output(0).binding());
    let skip = if skips > 0 { io.input(1).binding() } else { io.scratch(4) };
    let bias = if op.bias { io.input(2 + skips).binding() } else { io.scratch(4) };
    let parameters = Parameters { columns: g.outputs as u32, with_bias: u32::from(op.bias), ..parameters(g) };
    let groups = tiles(g.batch * g.out_height * g.out_width, g.outputs)?;
    io.launch(ShaderCall::linear("conv2d.fwd", groups, [image, skip, weight, out, bias], &parameters));
    Ok(())
}

/// d_x, then d_skip: the same kernel for other channels of w.
fn input_gradients(op: &Conv2d, g: &Geometry, io: &mut ShaderIo) -> Result<(), Misfit> {
    let ([dy, weight], unread) = ([0, 1].map(|at| io.input(at).binding()), io.scratch(4));
    for (output, scale, first, columns) in [(0, g.scale, 0, g.channels), (1, 1, g.channels, g.skip)] {
        if columns == 0 {
            continue;
        }
        let (rows, cols) = (g.height / scale, g.width / scale);
        // There are no more classes than pixels; those behind the last row have none.
        let classes = g.stride.min(rows).saturating_mul(g.stride);
        let tiles = tiles(g.batch * rows.div_ceil(g.stride) * cols.div_ceil(g.stride), columns)?;
        let parameters = Parameters {
            height: g.out_height as u32,
            width: g.out_width as u32,
            shift: 0,
            channels: g.outputs as u32,
            depth: g.outputs as u32,
            rows: rows as u32,
            cols: cols as u32,
            columns: columns as u32,
            scale: scale as u32,
            weight_first: first as u32,
            tiles,
            add: u32::from(op.add),
            ..parameters(g)
        };
        let groups = count("workgroups", (tiles as usize).saturating_mul(classes))?;
        let bindings = [dy, unread, weight, io.output(output).binding()];
        io.launch(ShaderCall::linear("conv2d.dgrad", groups, bindings, &parameters));
    }
    Ok(())
}

/// d_w, in parts.
fn weight_gradient(g: &Geometry, io: &mut ShaderIo) -> Result<(), Misfit> {
    let ([dy, image], out) = ([0, 1].map(|at| io.input(at).binding()), io.output(0).binding());
    let skip = if g.skip > 0 { io.input(2).binding() } else { io.scratch(4) };
    let tiles = tiles(g.outputs, g.window())?;
    let (part, parts) = parts(g.batch * g.out_height * g.out_width, tiles as usize);
    let parameters = Parameters {
        columns: g.window() as u32,
        part: part as u32,
        parts: parts as u32,
        tiles,
        ..parameters(g)
    };
    let groups = count("workgroups", tiles as usize * parts)?;
    in_parts(io, (out, g.outputs * g.window()), parts, |io, out| {
        io.launch(ShaderCall::linear("conv2d.wgrad", groups, [image, skip, dy, out], &parameters));
    })
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, Spec};
    use crate::ops::conv2d::{Conv2d, Pass};
    use crate::program::{Operation, ShaderIo};

    /// Entry and workgroups of each call.
    fn calls(op: Conv2d, inputs: &[[usize; 4]]) -> Result<Vec<(&'static str, u32)>, String> {
        let f32s = |specs: &[Spec]| specs.iter().map(|&spec| (spec, DType::F32)).collect::<Vec<_>>();
        let specs: Vec<Spec> = inputs.iter().map(|&dims| Spec::activation(dims)).collect();
        let outputs = op.infer(&specs).map_err(|why| why.to_string())?.specs;
        let mut io = ShaderIo::unplaced(&f32s(&specs), &f32s(&outputs));
        super::run(&op, &mut io).map_err(|why| why.to_string())?;
        Ok(io.finish().calls.iter().map(|call| (call.symbol, call.groups[0])).collect())
    }

    #[test]
    fn workgroups_cover_classes_outputs_and_parts() {
        let strided = Conv2d::fwd(3).stride(2);
        let dgrad = Conv2d { pass: Pass::Dgrad { height: 9, width: 16, channels: 65 }, ..strided };
        assert_eq!(calls(dgrad, &[[2, 5, 8, 32], [32, 3, 3, 65]]).unwrap(), [("conv2d.dgrad", 4 * 2 * 2)]);
        let folded = Conv2d::fwd(3).upsampled(true);
        let dgrad = Conv2d { pass: Pass::Dgrad { height: 16, width: 16, channels: 48 }, ..folded };
        let made = calls(dgrad, &[[2, 32, 32, 32], [32, 3, 3, 64]]).unwrap();
        assert_eq!(made, [("conv2d.dgrad", 8), ("conv2d.dgrad", 32)], "d_x and d_skip");
        let wgrad = Conv2d { pass: Pass::Wgrad, ..Conv2d::fwd(3) };
        let made = calls(wgrad, &[[8, 32, 32, 32], [8, 32, 32, 64]]).unwrap();
        assert_eq!(made, [("conv2d.wgrad", 9 * 52), ("linear.columns", 32 * 9 * 64 / 16)], "52 parts of 160 pixels");
    }

    #[test]
    fn what_the_kernels_cannot_count_is_refused() {
        let side = 1 << 16;
        let refused = calls(Conv2d::fwd(1), &[[1, side, side, 1], [1, 1, 1, 1]]).unwrap_err();
        assert!(refused.contains("4294967296"), "{refused}");
    }
}
