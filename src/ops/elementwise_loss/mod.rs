//! The mean over all elements of a loss of one number against one target; for downstream heads.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x, target (one shape) | loss \[1\] |
//! | `Bwd` | seed \[1\], x, target | dx |
//!
//! `BceWithLogits`: (1 − t) x − log σ(x). `SquaredError`: (x − t)². The target is a constant: asking for its gradient
//! is a misfit. It may lack the last extent of x where that is 1, as a mask \[B,H,W\] beside a decoder's map \[B,H,W,1\].

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Rng, Shape, Spec};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

pub(super) use reference::{bce_with_logits, sigmoid};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ElementwiseLoss {
    /// Forward or backward.
    pub pass: Pass,
    /// Which loss.
    pub form: Form,
}

/// The loss of one element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// Binary cross entropy between σ(x) and the target.
    BceWithLogits,
    /// The square of the difference.
    SquaredError,
}

impl ElementwiseLoss {
    /// The mean loss.
    pub fn fwd(form: Form) -> Self {
        Self { pass: Pass::Fwd, form }
    }
}

/// Unless `shape` is that of x, or that of x without a last extent of 1, a misfit that names the input.
fn beside(name: &str, shape: Shape, x: Shape) -> Result<(), Misfit> {
    let fits = shape == x || x.dims().strip_suffix(&[1]) == Some(shape.dims());
    Misfit::unless(fits, || format!("{name} has shape {shape}, {x} is needed, or that without a last extent of 1"))
}

impl Operation for ElementwiseLoss {
    const VARIANTS: usize = 4;

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "elementwise_loss.fwd",
            Pass::Bwd => "elementwise_loss.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (x, target) = match self.pass {
            Pass::Fwd => {
                let [x, target] = Misfit::inputs(inputs)?;
                (x, target)
            }
            Pass::Bwd => {
                let [seed, x, target] = Misfit::inputs(inputs)?;
                Misfit::shape("seed", seed.shape, [1])?;
                (x, target)
            }
        };
        Misfit::unless(inputs.iter().all(Spec::is_real), || "all inputs have to be real numbers".into())?;
        beside("target", target.shape, x.shape)?;
        Misfit::unless(!x.shape.dims().contains(&0), || "there is no mean of no numbers".into())?;
        Ok(Outputs::new([if self.pass == Pass::Fwd { Spec::exact([1]) } else { x }]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Misfit::unless(!at.wanted[1], || "the target has no gradient: it has to be a constant".into())?;
        let backward = Self { pass: Pass::Bwd, ..*self };
        Ok(vec![Some(r.one(backward, &[at.seed(0)?, at.inputs[0], at.inputs[1]])?), None])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let each = match self.form {
            Form::BceWithLogits => 8,
            Form::SquaredError => 3,
        };
        each * inputs[inputs.len() - 1].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => reference::fwd(self.form, io),
            Pass::Bwd => reference::bwd(self.form, io),
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
        let form = [Form::BceWithLogits, Form::SquaredError][variant % 2];
        let x = Spec::activation([size.batch, size.side, size.channels]);
        // Targets of both kinds.
        let target = if form == Form::SquaredError { x } else { Spec::exact(x.shape) };
        if variant < 2 {
            let case = Case::new(Self::fwd(form)).normal(x, 2.0, rng);
            case.uniform(target, 0.0, 1.0, rng).differentiable(&[0])
        } else {
            let case = Case::new(Self { pass: Pass::Bwd, form }).normal(Spec::exact([1]), 1.0, rng);
            case.normal(x, 2.0, rng).uniform(target, 0.0, 1.0, rng)
        }
    }
}
