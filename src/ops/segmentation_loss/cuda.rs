//! [`SegmentationLoss`] on CUDA: `ptx/hand/segmentation_loss.ptx`. The pixels of an image are summed in chunks, the chunks
//! in their order.

use bytemuck::{Pod, Zeroable};

use super::{Form, SegmentationLoss};
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit, Pass};

/// Name of the kernels within the op.
pub const KERNEL: &str = "chunks";
const SUMS: &str = "segmentation_loss_sums_any_sm80";
const FINISH: &str = "segmentation_loss_finish_f32_sm80";
const GRADIENT: &str = "segmentation_loss_bwd_any_sm80";
/// Pixels of a chunk: 16 for each thread of a block.
const CHUNK: usize = 4096;
const THREADS: u32 = 256;

/// Parameters of the kernel that sums the pixels of a chunk.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Sums {
    logits: u64,
    mask: u64,
    partials: u64,
    pixels: u32,
    chunks: u32,
    half_logits: u32,
    half_mask: u32,
    wide: u32,
    raw: u32,
}

/// Parameters of the kernel that sums the chunks.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Finish {
    partials: u64,
    loss: u64,
    sums: u64,
    images: u32,
    chunks: u32,
    dice_weight: f32,
    bce_weight: f32,
    image_count: f32,
    pixel_count: f32,
}

/// Parameters of the kernel of the gradient.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Gradient {
    seed: u64,
    logits: u64,
    mask: u64,
    sums: u64,
    d_logits: u64,
    pixels: u32,
    chunks: u32,
    half_logits: u32,
    half_mask: u32,
    wide: u32,
    raw: u32,
    dice: f32,
    bce: f32,
}

/// Extents of the mask, as the kernels count them.
struct Planes {
    images: u32,
    pixels: u32,
    chunks: u32,
    blocks: u32,
    /// Whether every image begins at a multiple of four numbers.
    wide: u32,
}

impl Planes {
    fn new(mask: DeviceBuffer) -> Result<Self, Misfit> {
        let dims = mask.spec.shape.dims();
        let pixels = dims[1] * dims[2];
        count("pixels of all images", dims[0].saturating_mul(pixels))?;
        let chunks = pixels.div_ceil(CHUNK) as u32;
        let (images, pixels) = (dims[0] as u32, pixels as u32);
        Ok(Self { images, pixels, chunks, blocks: images * chunks, wide: u32::from(pixels.is_multiple_of(4)) })
    }
}

/// Whether a value is stored as bf16; if not, it is f32.
fn half(name: &str, buffer: DeviceBuffer) -> Result<u32, Misfit> {
    match buffer.dtype {
        DType::Bf16 => Ok(1),
        DType::F32 => Ok(0),
        other => Err(Misfit::new(format!("{name} is {}, f32 or bf16 is needed", other.name()))),
    }
}

/// Unless a value is stored as f32, the misfit that says so.
fn exact(name: &str, buffer: DeviceBuffer) -> Result<u64, Misfit> {
    Misfit::unless(buffer.dtype == DType::F32, || format!("{name} is {}, f32 is needed", buffer.dtype.name()))?;
    Ok(buffer.address)
}

/// Asks for the launches of a pass.
pub fn run(op: &SegmentationLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    match op.pass {
        Pass::Fwd => forward(op, io),
        Pass::Bwd => backward(op, io),
    }
}

fn forward(op: &SegmentationLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (logits, mask) = (io.input(0), io.input(1));
    let Planes { images, pixels, chunks, blocks, wide } = Planes::new(mask)?;
    let partials = io.workspace(16 * blocks as usize);
    let [dice_weight, bce_weight] = op.form.weights().map(|weight| weight as f32);
    let sums = Sums {
        logits: logits.address,
        mask: mask.address,
        partials,
        pixels,
        chunks,
        half_logits: half("logits", logits)?,
        half_mask: half("mask", mask)?,
        wide,
        raw: u32::from(op.form == Form::RawDice02Bce),
    };
    let finish = Finish {
        partials,
        loss: io.output(0).address,
        sums: io.output(1).address,
        images,
        chunks,
        dice_weight,
        bce_weight,
        image_count: images as f32,
        pixel_count: (images * pixels) as f32,
    };
    io.launch(KernelCall::linear(SUMS, blocks, THREADS, &sums));
    io.launch(KernelCall::linear(FINISH, 1, THREADS, &finish));
    Ok(())
}

fn backward(op: &SegmentationLoss, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (logits, mask) = (io.input(1), io.input(2));
    let Planes { images, pixels, chunks, blocks, wide } = Planes::new(mask)?;
    let [dice_weight, bce_weight] = op.form.weights();
    let gradient = Gradient {
        seed: exact("seed", io.input(0))?,
        logits: logits.address,
        mask: mask.address,
        sums: exact("sums", io.input(3))?,
        d_logits: io.output(0).address,
        pixels,
        chunks,
        half_logits: half("logits", logits)?,
        half_mask: half("mask", mask)?,
        wide,
        raw: u32::from(op.form == Form::RawDice02Bce),
        dice: (dice_weight / f64::from(images)) as f32,
        bce: (bce_weight / (f64::from(images) * f64::from(pixels))) as f32,
    };
    io.launch(KernelCall::linear(GRADIENT, blocks, THREADS, &gradient));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FINISH, Finish, GRADIENT, Gradient, SUMS, Sums, run};
    use crate::base::{DType, Spec};
    use crate::ops::segmentation_loss::{Form, SegmentationLoss};
    use crate::program::DeviceIo;

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Sums>([SUMS]);
        crate::kernels::assert_parameters::<Finish>([FINISH]);
        crate::kernels::assert_parameters::<Gradient>([GRADIENT]);
    }

    #[test]
    fn chunks_cover_every_image() {
        let (logits, mask) = (Spec::activation([3, 65, 64, 1]), Spec::exact([3, 65, 64]));
        let outputs = [(Spec::exact([1]), DType::F32), (Spec::exact([3, 3]), DType::F32)];
        let mut io = DeviceIo::unplaced(&[(logits, DType::Bf16), (mask, DType::F32)], &outputs);
        run(&SegmentationLoss::fwd(Form::DiceBce), &mut io).unwrap();
        let asked = io.finish();
        let grids: Vec<_> = asked.calls.iter().map(|call| (call.symbol, call.grid[0])).collect();
        assert_eq!(grids, [(SUMS, 6), (FINISH, 1)], "two chunks of each image");
        assert_eq!(asked.workspace_bytes, 256, "six rows of four sums");
    }

    #[test]
    fn more_pixels_than_32_bits_count_are_refused() {
        let (logits, mask) = (Spec::activation([2, 1 << 15, 1 << 15, 1]), Spec::exact([2, 1 << 15, 1 << 15]));
        let outputs = [(Spec::exact([1]), DType::F32), (Spec::exact([2, 3]), DType::F32)];
        let mut io = DeviceIo::unplaced(&[(logits, DType::F32), (mask, DType::F32)], &outputs);
        assert!(run(&SegmentationLoss::fwd(Form::DiceBce), &mut io).is_err());
    }
}
