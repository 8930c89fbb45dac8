//! [`SegmentationLoss`](super::SegmentationLoss) in WGSL: `kernels/segmentation_loss.wgsl`. The pixels of an image are summed
//! in chunks, the chunks in their order.

use bytemuck::{Pod, Zeroable};

use super::{Form, SegmentationLoss};
use crate::program::{Misfit, Pass, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "chunks";
/// Pixels of a chunk, which a workgroup sums.
const CHUNK: u32 = 4096;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    images: u32,
    pixels: u32,
    chunks: u32,
    raw: u32,
    dice_weight: f32,
    bce_weight: f32,
}

/// Asks for the dispatches of a pass.
pub fn run(op: &SegmentationLoss, io: &mut ShaderIo) -> Result<(), Misfit> {
    let first = usize::from(op.pass == Pass::Bwd);
    let (logits, mask) = (io.input(first), io.input(first + 1));
    let [images, height, width] = io.dims(first + 1);
    let all = (images * height * width) as u32;
    let pixels = all / images as u32;
    let [dice_weight, bce_weight] = op.form.weights().map(|weight| weight as f32);
    let raw = u32::from(op.form == Form::RawDice02Bce);
    let chunks = pixels.div_ceil(CHUNK);
    let parameters = Parameters { images: images as u32, pixels, chunks, raw, dice_weight, bce_weight };
    let (logits, mask) = (logits.binding(), mask.binding());
    match op.pass {
        Pass::Fwd => {
            let (loss, sums) = (io.output(0).binding(), io.output(1).binding());
            let groups = parameters.images * chunks;
            let partials = io.scratch(16 * groups as usize);
            io.launch(ShaderCall::linear("segmentation_loss.fwd", groups, [logits, mask, partials], &parameters));
            io.launch(ShaderCall::linear("segmentation_loss.finish", 1, [loss, sums, partials], &parameters));
        }
        Pass::Bwd => {
            let [seed, sums] = [0, 3].map(|input| io.input(input).binding());
            let bindings = [logits, mask, io.output(0).binding(), sums, seed];
            io.each("segmentation_loss.bwd", all, bindings, &parameters);
        }
    }
    Ok(())
}
