//! [`BodyMask`] in WGSL: `kernels/body_mask.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::BodyMask;
use crate::program::device::count;
use crate::program::{Binding, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "runs";

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    films: u32,
    height: u32,
    width: u32,
    threshold: f32,
}

/// Asks for the dispatches; for none if there are no films.
pub fn run(op: &BodyMask, io: &mut ShaderIo) -> Result<(), Misfit> {
    let (plane, body) = (io.input(0), io.output(0).binding());
    let [films, height, width] = io.dims(0);
    // A name for each pixel, and the border's.
    let names = films.saturating_mul(height.saturating_mul(width).saturating_add(1));
    count("names of all films' pixels", names)?;
    if films == 0 {
        return Ok(());
    }
    let (labels, sizes) = (io.scratch(4 * names), io.scratch(4 * names));
    let [films, height, width] = [films as u32, height as u32, width as u32];
    let parameters = Parameters { films, height, width, threshold: op.threshold.to() };
    let (lines, pixels) = ((films * height).div_ceil(256), films * height * width);
    let mut launch = |symbol, groups, bindings: &[Binding]| {
        io.launch(ShaderCall::linear(symbol, groups, bindings, &parameters));
    };
    launch("body_mask.bright", lines, &[labels, sizes, plane.binding()]);
    launch("body_mask.join", pixels.div_ceil(256), &[labels]);
    launch("body_mask.count", lines, &[labels, sizes]);
    launch("body_mask.largest", films, &[sizes]);
    launch("body_mask.rest", lines, &[labels, sizes]);
    launch("body_mask.join", pixels.div_ceil(256), &[labels]);
    launch("body_mask.write", pixels.div_ceil(1024), &[labels, sizes, body]);
    Ok(())
}
