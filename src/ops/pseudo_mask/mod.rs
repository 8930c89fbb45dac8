//! The pseudo mask: where the image's attention is highest (paper section 3.3, torch_g2d's `pseudo_mask`).
//!
//! Inputs: map \[B,heads,h,w\], body \[B,H,W\] bytes (if `body`), threshold \[B\] (if `given`). Output: mask \[B,H,W\] in
//! \[0,1\]. Per image: the mean over heads, upsampled to H x W, zero where there is no body; the cut, which is the quantile
//! of all H·W scores, interpolated linearly between the two order statistics beside (H·W − 1) · quantile as
//! `torch.quantile` does, or the image's threshold; m = 1 where there is body and a score is at the cut or above it
//! ([`Compare::AtLeast`]) or above it ([`Compare::Above`]), else 0; with `smooth`, a [`Bilateral`] filter of m. Mask b is
//! that of image (b + `shift`) mod B. A score that is not a number makes the mask of its image zero if the cut is a
//! quantile, else its own pixel. By definition not differentiable.

mod cpu;
pub mod cuda;
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
pub struct PseudoMask {
    /// Rows of the mask.
    pub height: usize,
    /// Columns of the mask.
    pub width: usize,
    /// Part of the pixels that lies below the cut, in [0, 1]; of no account if the cut is given.
    pub quantile: Real,
    /// Whether the cut is an input.
    pub given: bool,
    /// How cells become pixels.
    pub upsample: Upsample,
    /// What a score at the cut becomes.
    pub compare: Compare,
    /// Whether there is a body mask; if not, all is body.
    pub body: bool,
    /// The filter at the end.
    pub smooth: Option<Bilateral>,
    /// How many places further in the batch the image lies whose mask this is; less than there are images.
    pub shift: usize,
}

/// How cells become pixels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Upsample {
    /// The cell a pixel lies in.
    Nearest,
    /// Between the four nearest cell centres; torch's `align_corners=False`.
    Bilinear,
}

/// Which scores belong to the mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compare {
    /// At the cut or above it (the paper).
    AtLeast,
    /// Above the cut (the released code).
    Above,
}

impl Compare {
    /// Whether a score belongs to the mask.
    fn holds<N: Number>(self, score: N, cut: N) -> bool {
        match self {
            Self::AtLeast => score >= cut,
            Self::Above => score > cut,
        }
    }
}

/// A bilateral filter (Tomasi and Manduchi, 1998) over a disc of radius diameter / 2 (rounded down): pixel m becomes Σ w v / Σ w
/// over the pixels v of the disc around it, itself among them, with w = exp(−d² / (2 sigma_space²) − (v − m)² / (2 sigma_value²))
/// at distance d. Pixels outside the image do not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bilateral {
    /// Of the disc, in pixels.
    pub diameter: usize,
    /// In pixels.
    pub sigma_space: Real,
    /// In values of the mask, which are 0 and 1.
    pub sigma_value: Real,
}

impl Bilateral {
    /// Radius of the disc.
    pub(crate) fn radius(self) -> usize {
        self.diameter / 2
    }

    /// Weight of a neighbour at squared distance `distance2` whose value differs by `difference`.
    pub(crate) fn weight<N: Number>(self, distance2: usize, difference: N) -> N {
        let two_squares = |sigma: Real| 2.0 * sigma.0 * sigma.0;
        let near = N::of(-(distance2 as f64) / two_squares(self.sigma_space));
        (near - difference * difference / N::of(two_squares(self.sigma_value))).exp()
    }
}

impl PseudoMask {
    /// The image whose mask is that of place `b` among `batch`.
    pub(crate) fn image(&self, b: usize, batch: usize) -> usize {
        (b + self.shift) % batch
    }

    /// Position of the threshold among the inputs, if it is one.
    pub(crate) fn threshold(&self) -> Option<usize> {
        self.given.then_some(1 + usize::from(self.body))
    }

    /// The positions in sorted order of the two scores beside the quantile, and how far it lies towards the second.
    /// In f64 whatever the number type: this is a constant of the op.
    pub(crate) fn rank(&self) -> (usize, usize, f64) {
        let last = self.height * self.width - 1;
        let rank = (last as f64 * self.quantile.0).min(last as f64);
        (rank as usize, rank.ceil() as usize, rank.fract())
    }

    /// Whether torch multiplies the weights of both axes first: on small planes.
    pub(crate) fn multiplies_weights_first(&self) -> bool {
        self.height + self.width <= 128
    }

    /// The quantile between its two order statistics: torch's lerp, which goes from the nearer end, so that the cut
    /// equals two equal scores exactly.
    fn cut<N: Number>(below: N, above: N, weight: f64) -> N {
        if weight < 0.5 {
            below + N::of(weight) * (above - below)
        } else {
            above - (above - below) * N::of(1.0 - weight)
        }
    }
}

impl Operation for PseudoMask {
    const VARIANTS: usize = 8;
    // More pixels than a workgroup has threads.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 2, side: 400, channels: 5, extra: 3 }),
        (3, Size { batch: 2, side: 400, channels: 5, extra: 3 }),
    ];

    fn name(&self) -> &'static str {
        "pseudo_mask"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let wanted = 1 + usize::from(self.body) + usize::from(self.given);
        Misfit::unless(inputs.len() == wanted, || format!("takes {wanted} inputs, got {}", inputs.len()))?;
        let map = inputs[0];
        let &[batch, heads, rows, columns] = map.shape.dims() else {
            return Err(Misfit::new(format!("map has shape {}, [B,heads,h,w] is needed", map.shape)));
        };
        Misfit::unless(map.is_real() && heads > 0 && rows > 0 && columns > 0, || format!("map {map:?} has no cells"))?;
        Misfit::unless(self.height > 0 && self.width > 0, || "the mask has no pixels".into())?;
        Misfit::unless((0.0..=1.0).contains(&self.quantile.0), || {
            format!("the quantile is {:?}, not between 0 and 1", self.quantile)
        })?;
        if let Some(smooth) = self.smooth {
            let positive = smooth.diameter > 0 && smooth.sigma_space.0 > 0.0 && smooth.sigma_value.0 > 0.0;
            Misfit::unless(positive, || format!("{smooth:?} has to be positive throughout"))?;
        }
        Misfit::unless(self.shift < batch.max(1), || {
            format!("{} places further there is no other image: there are {batch}", self.shift)
        })?;
        if let Some(at) = self.threshold() {
            Misfit::shape("threshold", inputs[at].shape, [batch])?;
            Misfit::unless(inputs[at].is_real(), || format!("threshold is {:?}, no real numbers", inputs[at].kind))?;
        }
        let mask = [batch, self.height, self.width];
        if self.body {
            Misfit::shape("body", inputs[1].shape, mask)?;
            Misfit::unless(inputs[1].kind == Kind::Bytes, || format!("body is {:?}, not bytes", inputs[1].kind))?;
        }
        Ok(Outputs::new([Spec::exact(mask)]))
    }

    fn vjp(&self, _r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Ok(vec![None; at.inputs.len()])
    }

    fn flops(&self, _inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let disc = self.smooth.map_or(0, |smooth| smooth.diameter * smooth.diameter) as u64;
        outputs[0].shape.elements() as u64 * (3 * disc + 2)
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        vec![Candidate::legal("images")]
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        cpu::run(self, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[cuda::COUNTING, cuda::RADIX]
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        cuda::run(self, kernel, io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let (rows, columns) = (1 + size.side % 4 + size.side / 25, 1 + size.channels % 3);
        let (height, width) = (4 * rows + size.extra % 2, 4 * columns);
        let smooth = Bilateral { diameter: 5, sigma_space: Real(1.5), sigma_value: Real(0.8) };
        let op = Self {
            height,
            width,
            // The third quantile is the highest score. Few cells leave nothing above a high quantile.
            quantile: Real([0.85, 0.6, 1.0, 0.7, 0.4, 0.6, 0.5, 0.5][variant]),
            given: variant >= 6,
            upsample: [Upsample::Nearest, Upsample::Bilinear][variant % 2],
            compare: [Compare::AtLeast, Compare::AtLeast, Compare::AtLeast, Compare::Above][variant.min(3)],
            body: !(4..=6).contains(&variant),
            smooth: (variant != 3 && variant != 4).then_some(smooth),
            shift: if variant % 4 == 3 { size.batch / 2 } else { 0 },
        };
        let map = Spec::exact([size.batch, 1 + size.extra % 4, rows, columns]);
        let mut case = Case::new(op).uniform(map, 0.0, 1.0, rng);
        if op.body {
            let shape = [size.batch, height, width];
            let body = (0..size.batch * height * width).map(|_| u8::from(rng.chance(0.7))).collect();
            case = case.bytes(shape, body);
        }
        if op.given { case.uniform(Spec::exact([size.batch]), 0.4, 0.6, rng) } else { case }
    }
}
