//! The Gaussian error linear unit in its exact form (Hendrycks and Gimpel, 2016; what BERT uses).
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x [rows, C], offsets [B+1] | y = x · Φ(x), Φ(x) = (1 + erf(x / √2)) / 2 |
//! | `Bwd` | dy, x [rows, C], offsets [B+1] | dx = dy · (Φ(x) + x · φ(x)), φ(x) = exp(-x² / 2) / √(2π); may overwrite dy |
//!
//! Rows from the last offset on are neither read nor written.

mod cpu;
pub(super) mod cuda;
mod reference;
pub(super) mod wgsl;

pub(super) use self::reference::{distribution, slope};

use crate::base::{Number, Rng, Spec};
use crate::ops::rows::{self, Packing};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gelu {
    /// The function.
    Fwd,
    /// Its gradient.
    Bwd,
}

impl Operation for Gelu {
    const VARIANTS: usize = 2;
    const KERNEL: Option<&'static str> = Some("blocked");

    fn name(&self) -> &'static str {
        match self {
            Self::Fwd => "gelu.fwd",
            Self::Bwd => "gelu.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        match self {
            Self::Fwd => {
                let [x, offsets] = Misfit::inputs(inputs)?;
                rows::packed("x", x, offsets)?;
                Ok(Outputs::new([x]))
            }
            Self::Bwd => {
                let [dy, x, offsets] = Misfit::inputs(inputs)?;
                rows::packed("x", x, offsets)?;
                Misfit::unless(dy == x, || format!("dy is {dy:?}, {x:?} is needed"))?;
                Ok(Outputs::new([x]).overwriting(0, 0))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        match self {
            Self::Fwd => Ok(vec![Some(r.one(Self::Bwd, &[at.seed(0)?, at.inputs[0], at.inputs[1]])?), None]),
            Self::Bwd => Err(Misfit::new("gelu.bwd has no gradient rule")),
        }
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let elements = inputs[0].shape.elements() as u64;
        // An error function or exponential counts as 20.
        match self {
            Self::Fwd => 24 * elements,
            Self::Bwd => 50 * elements,
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self {
            Self::Fwd => reference::fwd(io),
            Self::Bwd => reference::bwd(io),
        }
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        match self {
            Self::Fwd => cpu::fwd(io),
            Self::Bwd => cpu::bwd(io),
        }
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

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let Packing { offsets, extent, capacity } = Packing::draw(size, rng);
        let spec = Spec::activation([capacity, size.channels]);
        let case = match variant {
            0 => Case::new(Self::Fwd).normal(spec, 2.0, rng).differentiable(&[0]),
            _ => Case::new(Self::Bwd).normal(spec, 1.0, rng).normal(spec, 2.0, rng),
        };
        case.indices([offsets.len()], offsets).packed(capacity, extent)
    }
}
