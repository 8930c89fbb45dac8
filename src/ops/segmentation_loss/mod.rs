//! The loss between decoder logits and the pseudo mask: Dice plus binary cross entropy (paper section 3.3).
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | logits \[B,H,W,1\], mask \[B,H,W\] | loss \[1\], sums \[B,3\] |
//! | `Bwd` | seed \[1\], logits, mask, sums | d_logits \[B,H,W,1\] |
//!
//! dice = mean over images of 1 − (2 Σpt + 1e-5) / (Σp + Σt + 1e-5); bce = mean over pixels of
//! (1 − t) x − log σ(x); how they are combined, and what p is, says [`Form`]. sums = (Σpt, Σp, Σt) of each image, for the
//! backward pass: d dice / dp = (q − 2t) / (Σp + Σt + 1e-5) / B with q = 1 − dice of the image, d bce / dx = (σ(x) − t) / (B·H·W).
//! The mask is by definition not differentiable.

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Rng, Spec};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SegmentationLoss {
    /// Forward or backward.
    pub pass: Pass,
    /// Which loss.
    pub form: Form,
}

/// How Dice and cross entropy are put together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// (dice + bce) / 2 with p = σ(x) (the paper).
    DiceBce,
    /// dice + 0.2 bce with p = x, the raw logits (the released code).
    RawDice02Bce,
}

/// Added to both parts of the Dice quotient.
const SMOOTH: f64 = 1e-5;

impl Form {
    /// Factors of dice and bce.
    pub(crate) fn weights(self) -> [f64; 2] {
        match self {
            Self::DiceBce => [0.5, 0.5],
            Self::RawDice02Bce => [1.0, 0.2],
        }
    }
}

impl SegmentationLoss {
    /// The loss.
    pub fn fwd(form: Form) -> Self {
        Self { pass: Pass::Fwd, form }
    }

    /// Loss of a batch from the sums of each image and the sum of all pixels' cross entropy.
    fn total<N: Number>(self, sums: &[N], bce: N, pixels: usize) -> N {
        let mut dice = N::ZERO;
        for sums in sums.chunks_exact(3) {
            dice += N::ONE - (N::of(2.0) * sums[0] + N::of(SMOOTH)) / (sums[1] + sums[2] + N::of(SMOOTH));
        }
        let images = sums.len() / 3;
        let [dice_weight, bce_weight] = self.form.weights().map(N::of);
        dice_weight * (dice / N::count(images)) + bce_weight * (bce / N::count(images * pixels))
    }
}

impl Operation for SegmentationLoss {
    const VARIANTS: usize = 4;
    // Several chunks of an image.
    const LARGE: &'static [(usize, Size)] = &[(0, Size { batch: 2, side: 70, channels: 1, extra: 70 })];
    const KERNEL: Option<&'static str> = Some("chunks");

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "segmentation_loss.fwd",
            Pass::Bwd => "segmentation_loss.bwd",
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
        Misfit::unless(batch > 0 && height > 0 && width > 0, || "there is no mean over no pixels".into())?;
        let Some((seed, sums)) = rest else {
            return Ok(Outputs::new([Spec::exact([1]), Spec::exact([batch, 3])]));
        };
        Misfit::shape("seed", seed.shape, [1])?;
        Misfit::shape("sums", sums.shape, [batch, 3])?;
        Ok(Outputs::new([logits]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Misfit::unless(at.seeds[1].is_none(), || "no gradient passes through the sums".into())?;
        if !at.wanted[0] {
            return Ok(vec![None, None]);
        }
        let backward = Self { pass: Pass::Bwd, ..*self };
        Ok(vec![Some(r.one(backward, &[at.seed(0)?, at.inputs[0], at.inputs[1], at.outputs[1]])?), None])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        12 * inputs[1].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => reference::fwd(self, io),
            Pass::Bwd => reference::bwd(self, io),
        }
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => cpu::fwd(self, io),
            Pass::Bwd => cpu::bwd(self, io),
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
        let form = [Form::DiceBce, Form::RawDice02Bce][variant % 2];
        let logits = Spec::activation([size.batch, size.side, size.extra, 1]);
        let mask = Spec::exact([size.batch, size.side, size.extra]);
        // Logits above zero keep the raw Dice quotient away from its pole.
        if variant < 2 {
            let case = Case::new(Self::fwd(form)).uniform(logits, 0.2, 3.0, rng);
            return case.uniform(mask, 0.0, 1.0, rng).differentiable(&[0]);
        }
        let case = Case::new(Self { pass: Pass::Bwd, form }).normal(Spec::exact([1]), 1.0, rng);
        let case = case.uniform(logits, -3.0, 3.0, rng).uniform(mask, 0.0, 1.0, rng);
        case.uniform(Spec::exact([size.batch, 3]), 0.5, 5.0, rng)
    }
}
