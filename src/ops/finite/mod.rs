//! Whether gradients may be used, and how long they are: inputs any number of exact values, output \[2\]: the sum of
//! the squares of all their numbers, and how many of those are not finite.

mod cpu;
mod reference;
#[cfg(test)]
mod tests;

use crate::base::{Kind, Number, Rng, Spec};
use crate::program::{Candidate, Case, HostIo, Misfit, Operation, Outputs, Size};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Finite;

impl Operation for Finite {
    const VARIANTS: usize = 1;

    fn name(&self) -> &'static str {
        "finite"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        for (at, spec) in inputs.iter().enumerate() {
            Misfit::unless(spec.kind == Kind::Exact, || format!("input {at} is {spec:?}, not exact"))?;
        }
        Ok(Outputs::new([Spec::exact([2])]))
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        inputs.iter().map(|spec| 2 * spec.shape.elements() as u64).sum()
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        vec![Candidate::legal("chunks")]
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        cpu::run(io);
    }

    fn case(_variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        Case::new(Self)
            .normal(Spec::exact([size.channels, size.side]), 1.0, rng)
            .normal(Spec::exact([size.batch]), 1.0, rng)
            .normal(Spec::exact([17 * size.extra]), 1.0, rng)
    }
}
