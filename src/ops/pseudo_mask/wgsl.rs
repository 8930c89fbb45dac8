//! [`PseudoMask`] in WGSL: `kernels/pseudo_mask.wgsl`. Scores, in place the pixels that reach the cut, the filter.

use bytemuck::{Pod, Zeroable};

use super::{Compare, PseudoMask, Upsample, reference};
use crate::program::{Binding, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "radix";

/// The largest radius whose weights make a small table.
const MOST_RADIUS: usize = 255;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    images: u32,
    heads: u32,
    cells: u32,
    columns: u32,
    height: u32,
    width: u32,
    below: u32,
    above: u32,
    factor: f32,
    from_above: u32,
    strict: u32,
    bilinear: u32,
    products: u32,
    everywhere: u32,
    radius: u32,
    given: u32,
    shift: u32,
    /// A zero that compilers do not know.
    zero: u32,
}

/// Two neighbouring cells along an axis, and their weights.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Taps {
    cells: [u32; 2],
    weights: [f32; 2],
}

/// Asks for the dispatches; for none if there are no images.
pub fn run(op: &PseudoMask, io: &mut ShaderIo) -> Result<(), Misfit> {
    let map = io.input(0);
    let [images, heads, rows, columns] = io.dims(0);
    // The mask has as many.
    let pixels = io.output(0).spec.shape.elements() as u32;
    let radius = op.smooth.map_or(0, |filter| filter.radius());
    Misfit::unless(radius <= MOST_RADIUS, || format!("a filter of radius {radius}, at most {MOST_RADIUS} fits"))?;
    if images == 0 {
        return Ok(());
    }
    let (below, above, weight) = op.rank();
    // torch's lerp goes from the nearer end.
    let from_above = weight >= 0.5;
    let parameters = Parameters {
        images: images as u32,
        heads: heads as u32,
        cells: (rows * columns) as u32,
        columns: columns as u32,
        height: op.height as u32,
        width: op.width as u32,
        below: below as u32,
        above: above as u32,
        factor: if from_above { -((1.0 - weight) as f32) } else { weight as f32 },
        from_above: u32::from(from_above),
        strict: u32::from(op.compare == Compare::Above),
        bilinear: u32::from(op.upsample == Upsample::Bilinear),
        products: u32::from(op.multiplies_weights_first()),
        everywhere: u32::from(!op.body),
        radius: radius as u32,
        given: u32::from(op.given),
        shift: op.shift as u32,
        zero: 0,
    };
    let body = if op.body { io.input(1).binding() } else { io.table(&[0; 4]) };
    let threshold = match op.threshold() {
        Some(input) => io.input(input).binding(),
        None => io.table(&[0; 4]),
    };
    let (taps, weights) = (io.table(&taps(op, rows, columns)), weights(op, io));
    let (means, plane) = (io.scratch(4 * images * rows * columns), io.scratch(4 * pixels as usize));
    let mask = io.output(0).binding();
    let mut launch = |symbol, groups, bindings: &[Binding]| {
        io.launch(ShaderCall::linear(symbol, groups, bindings, &parameters));
    };
    launch("pseudo_mask.mean", (parameters.images * parameters.cells).div_ceil(256), &[map.binding(), means]);
    launch("pseudo_mask.score", pixels.div_ceil(256), &[plane, body, means, taps]);
    launch("pseudo_mask.choose", parameters.images, &[plane, body, threshold]);
    launch("pseudo_mask.smoothen", pixels.div_ceil(256), &[plane, mask, weights]);
    Ok(())
}

/// Of each row of pixels, then of each column. They are computed here because a shader's compiler may round otherwise.
fn taps(op: &PseudoMask, rows: usize, columns: usize) -> Vec<u8> {
    let of = |pixel: usize, pixels: usize, cells: usize| match op.upsample {
        Upsample::Nearest => Taps { cells: [(pixel * cells / pixels) as u32; 2], weights: [1.0, 0.0] },
        Upsample::Bilinear => {
            let [(first, first_weight), (second, second_weight)] = reference::taps::<f32>(pixel, pixels, cells);
            Taps { cells: [first as u32, second as u32], weights: [first_weight, second_weight] }
        }
    };
    let down = (0..op.height).map(|y| of(y, op.height, rows));
    let taps: Vec<Taps> = down.chain((0..op.width).map(|x| of(x, op.width, columns))).collect();
    bytemuck::cast_slice(&taps).to_vec()
}

/// For each squared distance the weights of an equal pixel and of one of the other kind; without a filter, of the pixel
/// itself.
fn weights(op: &PseudoMask, io: &mut ShaderIo) -> Binding {
    let Some(filter) = op.smooth else { return io.table(bytemuck::bytes_of(&[1.0f32; 2])) };
    let weights = (0..=filter.radius() * filter.radius())
        .flat_map(|distance2| [0.0f32, 1.0].map(|difference| filter.weight(distance2, difference)));
    io.table(bytemuck::cast_slice(&weights.collect::<Vec<_>>()))
}
