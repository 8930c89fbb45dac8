//! [`Ingest`](super::Ingest) on CUDA: `kernels/ingest.cu`. A block augments a film; without augmentation a thread has
//! eight pixels.

use bytemuck::{Pod, Zeroable};

use super::{Ingest, Source};
use crate::program::device::{count, exact};
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "films";
const BYTES: [&str; 2] = ["ingest_bytes_f32_images_sm80", "ingest_bytes_bf16_images_sm80"];
const NUMBERS: [&str; 2] = ["ingest_numbers_f32_eights_sm80", "ingest_numbers_bf16_eights_sm80"];
/// Pixels along a side, at most: f32 has all whole numbers up to there.
const MOST_SIDE: u32 = 1 << 24;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    pixels: u64,
    augmentation: u64,
    plane: u64,
    image: u64,
    height: u32,
    width: u32,
    count: u32,
    means: [f32; 3],
    deviations: [f32; 3],
    unused: u32,
}

/// Asks for the launch.
pub fn run(op: &Ingest, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [images, height, width] = io.dims(0);
    let sides = [count("the height", height)?, count("the width", width)?];
    Misfit::unless(sides.iter().all(|&side| side <= MOST_SIDE), || {
        format!("films of {height} x {width} pixels, sides of {MOST_SIDE} at most are exact")
    })?;
    Misfit::unless(images > 0, || "no image needs no launch".into())?;
    count("pixels of a film", height.saturating_mul(width))?;
    let channels = op.normalise.channels();
    let parameters = Parameters {
        height: sides[0],
        width: sides[1],
        means: channels.map(|(mean, _)| mean as f32),
        deviations: channels.map(|(_, deviation)| deviation as f32),
        ..Parameters::zeroed()
    };
    let call = match op.source {
        Source::Bytes => {
            let image = io.output(1);
            let parameters = Parameters {
                pixels: io.input(0).address,
                augmentation: exact("augmentation", io.input(1))?,
                plane: exact("plane", io.output(0))?,
                image: image.address,
                ..parameters
            };
            KernelCall::linear(image.symbol(BYTES)?, count("films", images)?, 1024, &parameters)
        }
        Source::Numbers => {
            let image = io.output(0);
            let count = count("pixels of all films", io.shape(0).elements())?;
            let plane = exact("plane", io.input(0))?;
            let parameters = Parameters { plane, image: image.address, count, ..parameters };
            KernelCall::linear(image.symbol(NUMBERS)?, count.div_ceil(2048), 256, &parameters)
        }
    };
    io.launch(call);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BYTES, NUMBERS, Parameters};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([BYTES, NUMBERS].into_iter().flatten());
    }
}
