//! The mean over all elements of a loss of one number against one target; for downstream heads.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x, target, weight? (one shape) | loss \[1\] = mean of weight · loss of each |
//! | `Bwd` | seed \[1\], x, target, weight? | dx = seed · weight · slope / count |
//!
//! The count is that of all elements. Of one element, with t its target:
//!
//! | form | loss | slope |
//! |---|---|---|
//! | `BceWithLogits` | e = (1 − t) x − log σ(x) | σ(x) − t |
//! | `SquaredError` | (x − t)² | 2 (x − t) |
//! | `Focal` | σ(−z)² e, z = (2t − 1) x | σ(−z)² ((σ(x) − t) − 2 (2t − 1) σ(z) e) |
//! | [`Detection`](Form::Detection) | of `SquaredError` or `BceWithLogits`, by the element's place | likewise |
//!
//! `Focal` is that of Lin et al., 2017, with γ = 2, for soft targets as MGCA's and GLoRIA's code has it.
//!
//! Target and weight are constants: asking for their gradients is a misfit. They may lack the last extent of x where that
//! is 1, as a mask \[B,H,W\] beside a decoder's logits \[B,H,W,1\]. The mean is over all elements, whatever their weights:
//! who wants another denominator puts it into the weights.

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
    /// Whether every element has a weight.
    pub weighted: bool,
}

/// The loss of one element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// Binary cross entropy between σ(x) and the target.
    BceWithLogits,
    /// The square of the difference.
    SquaredError,
    /// Binary cross entropy, less where the logit is right (γ = 2).
    Focal,
    /// Of a YOLOv3 head, always weighted: x is \[.., anchors · channels\], and each anchor has x, y, width, height,
    /// objectness and classes. Width and height (numbers 2 and 3) have `SquaredError`, the others `BceWithLogits`.
    Detection {
        /// Numbers of an anchor: 5 and the number of classes.
        channels: usize,
    },
}

impl Form {
    /// The form of the element that stands at `at`: never `Detection`.
    fn of(self, at: usize) -> Self {
        match self {
            Self::Detection { channels } if [2, 3].contains(&(at % channels)) => Self::SquaredError,
            Self::Detection { .. } => Self::BceWithLogits,
            other => other,
        }
    }

    /// How kernels know it: which loss, and the numbers of an anchor (0 unless `Detection`).
    fn code(self) -> [u32; 2] {
        match self {
            Self::BceWithLogits => [0, 0],
            Self::SquaredError => [1, 0],
            Self::Focal => [2, 0],
            Self::Detection { channels } => [0, channels as u32],
        }
    }
}

impl ElementwiseLoss {
    /// The mean loss, without weights.
    pub fn fwd(form: Form) -> Self {
        Self { pass: Pass::Fwd, form, weighted: false }
    }

    /// With a weight for every element.
    pub fn weighted(self) -> Self {
        Self { weighted: true, ..self }
    }
}

/// Unless `shape` is that of x, or that of x without a last extent of 1, a misfit that names the input.
fn beside(name: &str, shape: Shape, x: Shape) -> Result<(), Misfit> {
    let fits = shape == x || x.dims().strip_suffix(&[1]) == Some(shape.dims());
    Misfit::unless(fits, || format!("{name} has shape {shape}, {x} is needed, or that without a last extent of 1"))
}

impl Operation for ElementwiseLoss {
    const VARIANTS: usize = 2 * FORMS.len();
    // More pieces than a block has threads.
    const LARGE: &'static [(usize, Size)] = &[(0, Size { batch: 1, side: 750, channels: 750, extra: 1 })];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "elementwise_loss.fwd",
            Pass::Bwd => "elementwise_loss.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let first = usize::from(self.pass == Pass::Bwd);
        let count = first + 2 + usize::from(self.weighted);
        Misfit::unless(inputs.len() == count, || format!("takes {count} inputs, got {}", inputs.len()))?;
        Misfit::unless(inputs.iter().all(Spec::is_real), || "all inputs have to be real numbers".into())?;
        let x = inputs[first];
        inputs[..first].iter().try_for_each(|seed| Misfit::shape("seed", seed.shape, [1]))?;
        beside("target", inputs[first + 1].shape, x.shape)?;
        inputs[first + 2..].iter().try_for_each(|weight| beside("weight", weight.shape, x.shape))?;
        Misfit::unless(!x.shape.dims().contains(&0), || "there is no mean of no numbers".into())?;
        if let Form::Detection { channels } = self.form {
            Misfit::unless(self.weighted, || "the loss of a detection head needs weights".into())?;
            Misfit::unless(channels >= 5 && x.shape.last().is_multiple_of(channels), || {
                format!("x has {} numbers in a place, no multiple of {channels}, which has to be 5 at least", x.shape.last())
            })?;
        }
        Ok(Outputs::new([if self.pass == Pass::Fwd { Spec::exact([1]) } else { x }]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        let constants = !at.wanted[1..].contains(&true);
        Misfit::unless(constants, || "target and weight have no gradient: they have to be constants".into())?;
        let backward = Self { pass: Pass::Bwd, ..*self };
        let inputs: Vec<Value> = [at.seed(0)?].into_iter().chain(at.inputs.iter().copied()).collect();
        let mut gradients = vec![None; at.inputs.len()];
        gradients[0] = Some(r.one(backward, &inputs)?);
        Ok(gradients)
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let each = match self.form {
            Form::BceWithLogits | Form::Detection { .. } => 8,
            Form::SquaredError => 3,
            Form::Focal => 16,
        };
        each * inputs[usize::from(self.pass == Pass::Bwd)].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => reference::fwd(self, io),
            Pass::Bwd => reference::bwd(self, io),
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
        let (form, weighted) = FORMS[variant % FORMS.len()];
        let channels = match form {
            Form::Detection { channels } => channels * (1 + size.channels % 3),
            _ => size.channels,
        };
        let shape: Shape = [size.batch, size.side, channels].into();
        // A cross entropy with weights is that of a decoder's logits.
        let decoder = form == Form::BceWithLogits && weighted;
        let x = Spec::activation(if decoder { [size.batch, size.side, channels, 1].into() } else { shape });
        // Targets and weights of both kinds.
        let target = if form == Form::SquaredError { Spec::activation(shape) } else { Spec::exact(shape) };
        let weight = if decoder { Spec::activation(shape) } else { Spec::exact(shape) };
        let op = Self { weighted, ..Self::fwd(form) };
        let case = if variant < FORMS.len() {
            Case::new(op).normal(x, 2.0, rng).differentiable(&[0])
        } else {
            Case::new(Self { pass: Pass::Bwd, ..op }).normal(Spec::exact([1]), 1.0, rng).normal(x, 2.0, rng)
        };
        let case = case.uniform(target, 0.0, 1.0, rng);
        if weighted { case.uniform(weight, 0.0, 2.0, rng) } else { case }
    }
}

/// Forms of the test cases, and whether they are weighted.
const FORMS: [(Form, bool); 5] = [
    (Form::BceWithLogits, false),
    (Form::SquaredError, false),
    (Form::Focal, false),
    (Form::BceWithLogits, true),
    (Form::Detection { channels: 7 }, true),
];

#[cfg(test)]
mod tests {
    use super::{ElementwiseLoss, Form};
    use crate::base::Spec;
    use crate::program::Operation;

    #[test]
    fn constants_may_lack_a_last_extent_of_one_and_no_other() {
        let op = ElementwiseLoss::fwd(Form::BceWithLogits);
        let fits = |x: Spec, target: Spec| op.infer(&[x, target]).is_ok();
        assert!(fits(Spec::activation([2, 3, 4, 1]), Spec::exact([2, 3, 4])));
        assert!(!fits(Spec::activation([2, 3, 4, 1]), Spec::exact([2, 3, 1, 4])));
        assert!(!fits(Spec::activation([2, 3, 4, 2]), Spec::exact([2, 3, 4])));
        assert!(!fits(Spec::activation([2, 3, 4]), Spec::exact([2, 3, 4, 1])));
    }

    #[test]
    fn a_detection_head_has_weights_and_whole_anchors() {
        let op = |channels| ElementwiseLoss::fwd(Form::Detection { channels });
        let x = Spec::activation([2, 12]);
        assert!(op(6).weighted().infer(&[x; 3]).is_ok());
        assert!(op(6).infer(&[x; 2]).is_err() && op(4).weighted().infer(&[x; 3]).is_err());
        assert!(op(7).weighted().infer(&[x; 3]).is_err());
    }
}
