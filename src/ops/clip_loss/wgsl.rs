//! [`ClipLoss`] in WGSL: `kernels/clip_loss.wgsl`. Units, similarities and softmaxes are made by both passes; the loss, or
//! the gradient back through them, by the dispatches behind these.

use bytemuck::{Pod, Zeroable};

use super::ClipLoss;
use crate::program::device::count;
use crate::program::{Binding, Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
/// Rows and columns of a tile.
const TILE: u32 = 64;

/// Parameters of all kernels but the product.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    rows: u32,
    features: u32,
    offset: u32,
    count: u32,
    temperature: f32,
    weights: [f32; 2],
}

/// Parameters of the product.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Product {
    rows: u32,
    columns: u32,
    depth: u32,
    /// How far numbers of a row, and of the depth, of the left matrix lie apart.
    left: [u32; 2],
    /// How far numbers of the depth, and of a column, of the right one.
    right: [u32; 2],
    divisor: f32,
}

impl Product {
    fn launch(self, io: &mut ShaderIo, matrices: [Binding; 3]) {
        let tiles = self.rows.div_ceil(TILE) * self.columns.div_ceil(TILE);
        io.launch(ShaderCall::linear("clip_loss.product", tiles, matrices, &self));
    }
}

/// One of the two sides: its unit vectors and their norms.
struct Side {
    units: Binding,
    norms: Binding,
}

/// Asks for the dispatches.
pub fn run(op: &ClipLoss, io: &mut ShaderIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let [rows, features] = io.dims(first);
    count("numbers of a side", rows.saturating_mul(features))?;
    count("similarities", rows.saturating_mul(rows))?;
    let parameters = Parameters {
        rows: rows as u32,
        features: features as u32,
        offset: op.offset as u32,
        count: op.count as u32,
        temperature: op.temperature.to(),
        weights: op.directions.weights().map(|weight| weight as f32),
    };
    let mut side = |input: usize| {
        let x = io.input(input);
        let (units, norms) = (io.scratch(4 * rows * features), io.scratch(4 * rows));
        let bindings = [units, norms, x.binding()];
        io.launch(ShaderCall::linear("clip_loss.normalise", parameters.rows, bindings, &parameters));
        Ok::<Side, Misfit>(Side { units, norms })
    };
    let (image, text) = (side(first)?, side(first + 1)?);
    let (s, statistics) = (io.scratch(4 * rows * rows), io.scratch(12 * op.count));
    let Parameters { rows, features, count, temperature, .. } = parameters;
    Product { rows, columns: rows, depth: features, left: [features, 1], right: [1, features], divisor: temperature }
        .launch(io, [image.units, text.units, s]);
    io.launch(ShaderCall::linear("clip_loss.softmax", count, [s, statistics], &parameters));
    match op.pass {
        Pass::Fwd => {
            let [loss, top1, top5] = [0, 1, 2].map(|output| io.output(output).binding());
            io.launch(ShaderCall::linear("clip_loss.finish", 1, [s, statistics, loss, top1, top5], &parameters));
        }
        Pass::Bwd => bwd(io, &parameters, [s, statistics], [image, text]),
    }
    Ok(())
}

/// ds, then of each side ds (or its transpose) times the units of the other, through the normalisation.
fn bwd(io: &mut ShaderIo, parameters: &Parameters, [s, statistics]: [Binding; 2], sides: [Side; 2]) {
    let Parameters { rows, features, .. } = *parameters;
    let seed = io.input(0).binding();
    let groups = (rows * rows).div_ceil(256);
    io.launch(ShaderCall::linear("clip_loss.d_similarities", groups, [s, statistics, seed], parameters));
    let d_units = io.scratch(4 * rows as usize * features as usize);
    for (own, left) in [[rows, 1], [1, rows]].into_iter().enumerate() {
        let (side, other) = (&sides[own], &sides[1 - own]);
        Product { rows, columns: features, depth: rows, left, right: [features, 1], divisor: 1.0 }
            .launch(io, [s, other.units, d_units]);
        let bindings = [side.units, side.norms, d_units, io.output(own).binding()];
        io.launch(ShaderCall::linear("clip_loss.bwd", rows, bindings, parameters));
    }
}
