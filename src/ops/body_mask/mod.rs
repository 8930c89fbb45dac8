//! Which pixels of a film are body.
//!
//! | input | output |
//! |---|---|
//! | plane \[B,H,W\] in \[0,1\] | body \[B,H,W\] bytes, 0 or 1 |
//!
//! Per image: the pixels brighter than the threshold; the largest 4-connected component of those (the first in raster
//! order wins a tie); its holes filled, a hole being what is not 4-connected to the border. No bright pixel at all:
//! the whole image. Not differentiable.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;
mod wgsl;

use crate::base::{Kind, Number, Real, Rng, Spec};
use crate::program::{
    Backward, Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BodyMask {
    /// Body is brighter than this.
    pub threshold: Real,
}

impl Operation for BodyMask {
    const VARIANTS: usize = 1;

    fn name(&self) -> &'static str {
        "body_mask"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [plane] = Misfit::inputs(inputs)?;
        let fits = matches!(*plane.shape.dims(), [_, height, width] if height > 0 && width > 0);
        Misfit::unless(fits && plane.kind == Kind::Exact, || format!("plane is {plane:?}, no exact [B,H,W]"))?;
        Ok(Outputs::new([Spec::bytes(plane.shape)]))
    }

    fn vjp(&self, _r: &mut Recorder, _at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Ok(vec![None])
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        vec![Candidate::legal("runs")]
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        cpu::run(self, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[cuda::KERNEL]
    }

    fn run_cuda(&self, _kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        cuda::run(self, io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(_variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let plane = Spec::exact([size.batch, size.side + size.extra, size.side + size.channels]);
        Case::new(Self { threshold: Real(0.4) }).uniform(plane, 0.0, 1.0, rng)
    }
}
