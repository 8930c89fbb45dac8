//! A loss from the Dice coefficient (Milletari et al., 2016) of all pixels of a batch taken together; for downstream
//! segmentation.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | logits \[B,H,W,1\], mask \[B,H,W\] | loss \[1\], sums \[3\] |
//! | `Bwd` | seed \[1\], logits, mask, sums | d_logits \[B,H,W,1\] |
//!
//! With p = σ(logit), t of the mask in \[0, 1\], and sums over the whole batch, D = (2 Σpt + 1) / (Σp + Σt + 1), so that an
//! empty mask that is left empty has D = 1. loss = −ln D or 1 − D, by [`Form`]; sums = (Σpt, Σp, Σt), for the backward
//! pass: d_logits = seed · p (1 − p) · (D − 2t) / (Σp + Σt + 1), over D for −ln D. The mask is a constant: asking for its gradient is a misfit. Unlike
//! [`segmentation_loss`](super::segmentation_loss), whose Dice is the mean of each image's.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Rng, Spec};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DiceLoss {
    /// Forward or backward.
    pub pass: Pass,
    /// Which loss.
    pub form: Form,
}

/// The loss for a coefficient D.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// −ln D (MGCA's code).
    Log,
    /// 1 − D (MedKLIP's code).
    Linear,
}

impl DiceLoss {
    /// The loss.
    pub fn fwd(form: Form) -> Self {
        Self { pass: Pass::Fwd, form }
    }
}

impl Operation for DiceLoss {
    const VARIANTS: usize = 4;
    // More pieces than a block has threads.
    const LARGE: &'static [(usize, Size)] = &[(0, Size { batch: 1, side: 750, channels: 1, extra: 750 })];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "dice_loss.fwd",
            Pass::Bwd => "dice_loss.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (logits, mask, rest) = match self.pass {
            Pass::Fwd => {
                let [logits, mask] = Misfit::inputs(inputs)?;
                (logits, mask, None)
            }
            Pass::Bwd => {
                let [seed, logits, mask, sums] = Misfit::inputs(inputs)?;
                (logits, mask, Some((seed, sums)))
            }
        };
        Misfit::unless(inputs.iter().all(Spec::is_real), || "all inputs have to be real numbers".into())?;
        let &[batch, height, width, 1] = logits.shape.dims() else {
            return Err(Misfit::new(format!("logits have shape {}, [B,H,W,1] is needed", logits.shape)));
        };
        Misfit::shape("mask", mask.shape, [batch, height, width])?;
        Misfit::unless(batch > 0 && height > 0 && width > 0, || "there is no Dice of no pixels".into())?;
        let Some((seed, sums)) = rest else {
            return Ok(Outputs::new([Spec::exact([1]), Spec::exact([3])]));
        };
        Misfit::shape("seed", seed.shape, [1])?;
        Misfit::shape("sums", sums.shape, [3])?;
        Ok(Outputs::new([logits]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Misfit::unless(at.seeds[1].is_none(), || "no gradient passes through the sums".into())?;
        Misfit::unless(!at.wanted[1], || "the mask has no gradient: it has to be a constant".into())?;
        let backward = Self { pass: Pass::Bwd, ..*self };
        Ok(vec![Some(r.one(backward, &[at.seed(0)?, at.inputs[0], at.inputs[1], at.outputs[1]])?), None])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        8 * inputs[usize::from(self.pass == Pass::Bwd)].shape.elements() as u64
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
        let form = [Form::Log, Form::Linear][variant % 2];
        let logits = Spec::activation([size.batch, size.side, size.extra, 1]);
        // Masks of both kinds.
        let shape = [size.batch, size.side, size.extra];
        let mask = if form == Form::Log { Spec::exact(shape) } else { Spec::activation(shape) };
        if variant < 2 {
            let case = Case::new(Self::fwd(form)).normal(logits, 2.0, rng);
            return case.uniform(mask, 0.0, 1.0, rng).differentiable(&[0]);
        }
        let case = Case::new(Self { pass: Pass::Bwd, form }).normal(Spec::exact([1]), 1.0, rng);
        // Of the sums, Σpt is the smallest.
        let sums = vec![rng.uniform(0.5, 2.0), rng.uniform(2.0, 5.0), rng.uniform(2.0, 5.0)];
        case.normal(logits, 2.0, rng).uniform(mask, 0.0, 1.0, rng).numbers(Spec::exact([3]), sums)
    }
}
