//! Whether gradients may be used, and how long they are.
//!
//! | inputs | output |
//! |---|---|
//! | g₁, g₂, …: any number of exact values, of any shapes | \[2\]: Σ of the squares of all their numbers, how many numbers are not finite |
//!
//! The last `losses` inputs are losses: they count where they are not finite, and are no part of the sum.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::kernels::shaders::SUBGROUPS;
use crate::program::{Case, DeviceIo, HostIo, Misfit, Operation, Outputs, ShaderIo, Size};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Finite {
    /// How many of the last inputs are losses: counted where not finite, but no part of the sum of squares.
    pub losses: usize,
}

impl Operation for Finite {
    const VARIANTS: usize = 1;
    // Inputs of several pieces.
    const LARGE: &'static [(usize, Size)] = &[(0, Size { batch: 3, side: 9, channels: 1000, extra: 300 })];
    const KERNEL: Option<&'static str> = Some("chunks");

    fn name(&self) -> &'static str {
        "finite"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        Misfit::unless(self.losses <= inputs.len(), || format!("takes {} losses and gradients", self.losses))?;
        for (at, spec) in inputs.iter().enumerate() {
            Misfit::unless(spec.kind == Kind::Exact, || format!("input {at} is {spec:?}, not exact"))?;
        }
        Ok(Outputs::new([Spec::exact([2])]))
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        inputs.iter().map(|spec| 2 * spec.shape.elements() as u64).sum()
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
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
        &[SUBGROUPS, wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(_variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        Case::new(Self { losses: 1 })
            .normal(Spec::exact([size.channels, size.side]), 1.0, rng)
            .normal(Spec::exact([size.batch]), 1.0, rng)
            .normal(Spec::exact([17 * size.extra]), 1.0, rng)
            .normal(Spec::exact([1]), 1.0, rng)
    }
}
