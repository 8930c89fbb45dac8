//! The contrastive loss between images and reports (paper section 3.1; Radford et al., 2021), and how often the right report
//! is found.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | image \[N,D\], text \[N,D\] | loss \[1\], top1 \[1\], top5 \[1\] |
//! | `Bwd` | seed \[1\], image, text | d_image \[N,D\], d_text \[N,D\] |
//!
//! S = î · t̂ᵀ / temperature with v̂ = v / max(‖v‖, 1e-12). Of the N rows, `offset..offset + count` are this rank's
//! own; the others are negatives gathered from elsewhere. loss = mean over own rows i of
//! −log softmax(S[i, :])\[i\] (image to text) and of −log softmax(S[:, i])\[i\] (text to image), combined by
//! [`Directions`]. top-k: the share of own images for which fewer than k texts are strictly more similar than
//! their own, so that identical reports count as hits. No gradient passes through top1 and top5.
//!
//! `Bwd`: dS\[i, j\] = seed / (count · temperature) · (softmax(S[i, :])\[j\] − δᵢⱼ) for own i, and likewise by columns, each by its
//! direction's factor; d_î = Σⱼ dS\[i, j\] · t̂ⱼ, d_t̂ⱼ = Σᵢ dS\[i, j\] · îᵢ; through v̂ = v / ‖v‖: dv = (dv̂ − v̂ (v̂ · dv̂)) / ‖v‖.

mod cuda;
mod reference;
mod wgsl;

pub(super) use reference::log_sum_exp;

use crate::base::{Number, Real, Rng, Spec};
use crate::kernels::shaders::SUBGROUPS;
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClipLoss {
    /// Forward or backward.
    pub pass: Pass,
    /// Which directions count.
    pub directions: Directions,
    /// Divides the similarities.
    pub temperature: Real,
    /// This rank's first row.
    pub offset: usize,
    /// How many rows are this rank's.
    pub count: usize,
}

/// Which directions of the contrast count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Directions {
    /// Image to text plus text to image (the released code).
    TwoWaySum,
    /// Half of that.
    TwoWayMean,
    /// Image to text alone (the paper's formula).
    ImageToText,
}

impl Directions {
    /// Factors of image to text and of text to image.
    pub(crate) fn weights(self) -> [f64; 2] {
        match self {
            Self::TwoWaySum => [1.0, 1.0],
            Self::TwoWayMean => [0.5, 0.5],
            Self::ImageToText => [1.0, 0.0],
        }
    }
}

impl ClipLoss {
    /// The loss over rows `offset..offset + count`.
    pub fn fwd(directions: Directions, temperature: f64, offset: usize, count: usize) -> Self {
        Self { pass: Pass::Fwd, directions, temperature: Real(temperature), offset, count }
    }
}

impl Operation for ClipLoss {
    const VARIANTS: usize = 6;
    // Several tiles of rows and of features.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 20, side: 50, channels: 70, extra: 1 }),
        (3, Size { batch: 20, side: 50, channels: 70, extra: 1 }),
        (4, Size { batch: 20, side: 50, channels: 70, extra: 1 }),
    ];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "clip_loss.fwd",
            Pass::Bwd => "clip_loss.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (image, text) = match self.pass {
            Pass::Fwd => {
                let [image, text] = Misfit::inputs(inputs)?;
                (image, text)
            }
            Pass::Bwd => {
                let [seed, image, text] = Misfit::inputs(inputs)?;
                Misfit::shape("seed", seed.shape, [1])?;
                Misfit::unless(seed.is_real(), || "seed has to be a real number".into())?;
                (image, text)
            }
        };
        let fits = image.is_real() && text.is_real() && image.shape.rank() == 2 && image.shape.last() > 0;
        Misfit::unless(fits, || format!("image {image:?} and text {text:?} have to be real and [N,D]"))?;
        Misfit::shape("text", text.shape, image.shape)?;
        let rows = image.shape.rows();
        let own = self.offset.checked_add(self.count).is_some_and(|end| end <= rows);
        Misfit::unless(own && self.count > 0, || {
            format!("{} rows from row {} are not among {rows} rows", self.count, self.offset)
        })?;
        Misfit::unless(self.temperature.0 > 0.0, || format!("the temperature is {:?}, not above 0", self.temperature))?;
        Ok(match self.pass {
            Pass::Fwd => Outputs::new([Spec::exact([1]); 3]),
            Pass::Bwd => Outputs::new([image, text]),
        })
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Misfit::unless(at.seeds[1].is_none() && at.seeds[2].is_none(), || {
            "no gradient passes through top1 and top5".into()
        })?;
        let backward = Self { pass: Pass::Bwd, ..*self };
        let gradients = r.node(backward, &[at.seed(0)?, at.inputs[0], at.inputs[1]])?;
        Ok(gradients.iter().zip(at.wanted).map(|(&gradient, &wanted)| wanted.then_some(gradient)).collect())
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let image = inputs[inputs.len() - 1].shape;
        let products = 2 * image.rows() as u64 * image.elements() as u64;
        match self.pass {
            Pass::Fwd => products,
            Pass::Bwd => 3 * products,
        }
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
        &[SUBGROUPS, wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        // Own rows in the middle of others' for the first direction; all rows for the rest.
        let rows = size.batch + size.side;
        let directions = [Directions::TwoWaySum, Directions::TwoWayMean, Directions::ImageToText][variant % 3];
        let (offset, count) = if variant.is_multiple_of(3) { (size.side / 2, size.batch) } else { (0, rows) };
        let forward = Self::fwd(directions, 0.3, offset, count);
        let spec = Spec::activation([rows, size.channels + 1]);
        if variant < 3 {
            Case::new(forward).normal(spec, 1.0, rng).normal(spec, 1.0, rng).differentiable(&[0, 1])
        } else {
            Case::new(Self { pass: Pass::Bwd, ..forward })
                .normal(Spec::exact([1]), 1.0, rng)
                .normal(spec, 1.0, rng)
                .normal(spec, 1.0, rng)
        }
    }
}
