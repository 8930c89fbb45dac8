//! The maximum over windows of an image (torch's `max_pool2d`). Padding never wins.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x \[B,H,W,C\] | y \[B,Ho,Wo,C\] |
//! | `Bwd` | dy \[B,Ho,Wo,C\], x | dx \[B,H,W,C\]: each dy goes to the first maximum of its window, row by row |
//!
//! y\[b, i, j, c\] = max over u, v below k of x\[b, i·s − p + u, j·s − p + v, c\] with windows of k x k pixels (`kernel`),
//! s apart (`stride`), which stand up to p over the edge (`padding`); Ho = ⌊(H + 2p − k) / s⌋ + 1, Wo alike.

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
pub struct MaxPool {
    /// What is computed.
    pub pass: Pass,
    /// Side of a window.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Pixels that windows may stand over the edge; at most half a window, so that none lies outside.
    pub padding: usize,
}

impl MaxPool {
    /// The pool behind the first convolution of a ResNet: windows of 3, stride 2, padding 1.
    pub fn fwd() -> Self {
        Self { pass: Pass::Fwd, kernel: 3, stride: 2, padding: 1 }
    }

    /// How many windows there are along a side.
    fn windows(&self, side: usize) -> Result<usize, Misfit> {
        let Self { kernel, stride, padding, .. } = *self;
        let fits = kernel > 0 && stride > 0 && 2 * padding <= kernel && side + 2 * padding >= kernel;
        let why = || format!("windows of {kernel}, stride {stride} and padding {padding} do not fit {side} pixels");
        Misfit::unless(fits && side > 0, why)?;
        Ok((side + 2 * padding - kernel) / stride + 1)
    }

    /// The pixels of window `at` along a side of `side` pixels.
    fn span(&self, at: usize, side: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(side)
    }
}

impl Operation for MaxPool {
    const VARIANTS: usize = 4;
    const KERNEL: Option<&'static str> = Some("rows");

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "max_pool.fwd",
            Pass::Bwd => "max_pool.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let x = match self.pass {
            Pass::Fwd => Misfit::inputs::<1>(inputs)?[0],
            Pass::Bwd => Misfit::inputs::<2>(inputs)?[1],
        };
        let &[batch, height, width, channels] = x.shape.dims() else {
            return Err(Misfit::new(format!("x has shape {}, four extents are needed", x.shape)));
        };
        Misfit::unless(x.is_real() && x.shape.elements() > 0, || format!("x is {x:?}"))?;
        let y = [batch, self.windows(height)?, self.windows(width)?, channels].into();
        match self.pass {
            Pass::Fwd => Ok(Outputs::new([Spec { shape: y, kind: x.kind }])),
            Pass::Bwd => {
                Misfit::shape("dy", inputs[0].shape, y)?;
                Misfit::unless(inputs[0].is_real(), || "dy is not real".into())?;
                Ok(Outputs::new([x]))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        Ok(vec![Some(r.one(Self { pass: Pass::Bwd, ..*self }, &[at.seed(0)?, at.inputs[0]])?)])
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
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let Size { batch, side, channels, .. } = *size;
        let stem = Self::fwd();
        let pool = if variant.is_multiple_of(2) { stem } else { Self { kernel: 2, stride: 1, padding: 0, ..stem } };
        let (height, width) = (side + 1, side + 2);
        let spec = Spec::activation([batch, height, width, channels]);
        // All numbers differ by more than any step of a central difference, so that no maximum changes place.
        let mut order: Vec<f64> = (0..spec.shape.elements()).map(|at| 0.1 * at as f64).collect();
        rng.shuffle(&mut order);
        if variant < 2 {
            return Case::new(pool).numbers(spec, order).differentiable(&[0]);
        }
        // Few different numbers: windows with several maxima.
        let ties = order.iter().map(|number| (number * 10.0) % 3.0).map(f64::floor).collect();
        let windows = |side| (side + 2 * pool.padding - pool.kernel) / pool.stride + 1;
        let dy = Spec::activation([batch, windows(height), windows(width), channels]);
        Case::new(Self { pass: Pass::Bwd, ..pool }).normal(dy, 1.0, rng).numbers(spec, ties)
    }
}
