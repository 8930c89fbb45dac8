//! [`BodyMask`] on CUDA: `kernels/body_mask.cu`, a block for each image.

use bytemuck::{Pod, Zeroable};

use super::BodyMask;
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernel within the op.
pub const KERNEL: &str = "runs";
const SYMBOL: &str = "body_mask_fwd_f32_runs_sm80";
const THREADS: u32 = 512;

/// Parameters of the kernel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    plane: u64,
    body: u64,
    work: u64,
    height: u32,
    width: u32,
    threshold: f32,
    unused: u32,
}

/// Asks for the launch; for none if there are no images.
pub fn run(op: &BodyMask, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (plane, body) = (io.input(0), io.output(0));
    Misfit::unless(plane.dtype == DType::F32, || format!("plane is {}, f32 is needed", plane.dtype.name()))?;
    let [images, height, width] = io.dims(0);
    // Two planes of bits, a name for each pixel and one behind each line, the border's name, a size behind the last.
    let names = height.saturating_mul(width.saturating_add(1)).saturating_add(2);
    let words = names.saturating_add(2 * height * width.div_ceil(32));
    count("words of workspace for an image", words)?;
    let images = count("images", images)?;
    if images == 0 {
        return Ok(());
    }
    let parameters = Parameters {
        plane: plane.address,
        body: body.address,
        work: io.workspace(4 * words * images as usize),
        height: height as u32,
        width: width as u32,
        threshold: op.threshold.to(),
        unused: 0,
    };
    io.launch(KernelCall::linear(SYMBOL, images, THREADS, &parameters));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Parameters, SYMBOL};

    #[test]
    fn the_kernel_declares_the_same_parameters() {
        let (_, entry) = crate::kernels::find(SYMBOL).expect("it ships");
        let parameters = (size_of::<Parameters>(), align_of::<Parameters>());
        assert_eq!(parameters, (entry.parameter_bytes, entry.parameter_align));
    }
}
