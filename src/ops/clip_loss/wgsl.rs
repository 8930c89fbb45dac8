//! [`ClipLoss`] in WGSL: `kernels/clip_loss.wgsl`. Units, similarities and softmaxes are made by both passes; the loss, or
//! the gradient back through them, by the dispatches behind these.

use bytemuck::{Pod, Zeroable};

use super::ClipLoss;
use crate::ops::linear;
use crate::ops::linear::wgsl::product;
use crate::program::device::count;
use crate::program::{Binding, Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "tiles";
/// Parameters of the kernels.
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

/// One of the two sides: its unit vectors and their norms.
struct Side {
    units: Binding,
    norms: Binding,
}

/// Asks for the dispatches.
pub fn run(op: &ClipLoss, io: &mut ShaderIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let [rows, features] = io.dims(first);
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
        Side { units, norms }
    };
    let (image, text) = (side(first), side(first + 1));
    let (s, statistics) = (io.scratch(4 * rows * rows), io.scratch(12 * op.count));
    product(io, linear::Pass::Fwd, [rows, rows, features], [image.units, text.units, s])?;
    io.launch(ShaderCall::linear("clip_loss.softmax", parameters.count, [s, statistics], &parameters));
    match op.pass {
        Pass::Fwd => {
            let [loss, top1, top5] = [0, 1, 2].map(|output| io.output(output).binding());
            io.launch(ShaderCall::linear("clip_loss.finish", 1, [s, statistics, loss, top1, top5], &parameters));
            Ok(())
        }
        Pass::Bwd => bwd(io, &parameters, [s, statistics], [image, text]),
    }
}

/// ds, then of each side ds (or its transpose) times the units of the other, through the normalisation.
fn bwd(
    io: &mut ShaderIo,
    parameters: &Parameters,
    [s, statistics]: [Binding; 2],
    sides: [Side; 2],
) -> Result<(), Misfit> {
    let (rows, features) = (parameters.rows as usize, parameters.features as usize);
    let seed = io.input(0).binding();
    io.each("clip_loss.d_similarities", parameters.rows * parameters.rows, [s, statistics, seed], parameters);
    let d_units = io.scratch(4 * rows * features);
    for (own, pass) in [linear::Pass::Dgrad, linear::Pass::Wgrad].into_iter().enumerate() {
        let (side, other) = (&sides[own], &sides[1 - own]);
        product(io, pass, [rows, features, rows], [s, other.units, d_units])?;
        let bindings = [side.units, side.norms, d_units, io.output(own).binding()];
        io.launch(ShaderCall::linear("clip_loss.bwd", parameters.rows, bindings, parameters));
    }
    Ok(())
}
