//! The rectified linear unit with a slope below zero (Maas et al., 2013); what detection heads have between their
//! convolutions.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x, of any shape | y = x where x > 0, slope · x elsewhere; may overwrite x |
//! | `Bwd` | dy, y | dx = dy where y > 0, slope · dy elsewhere; may overwrite dy |
//!
//! The slope is not negative, so y is above zero where x is: the gradient needs no x.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Real, Rng, Spec};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeakyRelu {
    /// Forward or backward.
    pub pass: Pass,
    /// The slope where x is not above zero; finite and not negative.
    pub slope: Real,
}

impl LeakyRelu {
    /// The function.
    pub fn fwd(slope: f64) -> Self {
        Self { pass: Pass::Fwd, slope: Real(slope) }
    }
}

impl Operation for LeakyRelu {
    const VARIANTS: usize = 2;

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "leaky_relu.fwd",
            Pass::Bwd => "leaky_relu.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let Real(slope) = self.slope;
        Misfit::unless(slope >= 0.0 && slope.is_finite(), || {
            format!("the slope is {slope}, a finite number not below 0 is needed")
        })?;
        let x = match self.pass {
            Pass::Fwd => {
                let [x] = Misfit::inputs(inputs)?;
                x
            }
            Pass::Bwd => {
                let [dy, y] = Misfit::inputs(inputs)?;
                Misfit::unless(dy == y, || format!("dy is {dy:?}, {y:?} is needed"))?;
                dy
            }
        };
        Misfit::unless(x.is_real(), || format!("{x:?} is not of real numbers"))?;
        Ok(Outputs::new([x]).overwriting(0, 0))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Ok(vec![Some(r.one(Self { pass: Pass::Bwd, ..*self }, &[at.seed(0)?, at.outputs[0]])?)])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
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
        let spec = Spec::activation([size.batch, size.side, size.channels]);
        let forward = Self::fwd(0.1);
        match variant {
            0 => Case::new(forward).normal(spec, 1.0, rng).differentiable(&[0]),
            _ => Case::new(Self { pass: Pass::Bwd, ..forward }).normal(spec, 1.0, rng).normal(spec, 1.0, rng),
        }
    }
}
