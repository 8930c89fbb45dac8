//! The mean over the pixels of an image (torch's `adaptive_avg_pool2d(x, 1)`).
//!
//! | pass | input | output |
//! |---|---|---|
//! | `Fwd` | x \[B,H,W,C\] | y \[B,C\] = Σ over pixels of x / (H·W) |
//! | `Bwd` | dy \[B,C\] | dx \[B,H,W,C\] = dy / (H·W), the same for every pixel |

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Rng, Shape, Spec};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpatialMean {
    /// y.
    Fwd,
    /// dx.
    Bwd {
        /// H.
        height: usize,
        /// W.
        width: usize,
    },
}

impl Operation for SpatialMean {
    const VARIANTS: usize = 2;
    const KERNEL: Option<&'static str> = Some("images");

    fn name(&self) -> &'static str {
        match self {
            Self::Fwd => "spatial_mean.fwd",
            Self::Bwd { .. } => "spatial_mean.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [input] = Misfit::inputs(inputs)?;
        let shape: Option<Shape> = match (self, input.shape.dims()) {
            (Self::Fwd, &[batch, _, _, channels]) => Some([batch, channels].into()),
            (&Self::Bwd { height, width }, &[batch, channels]) => Some([batch, height, width, channels].into()),
            _ => None,
        };
        let shape = shape.filter(|_| input.is_real() && input.shape.elements() > 0);
        let shape = shape.ok_or_else(|| Misfit::new(format!("cannot take {input:?}")))?;
        Misfit::unless(shape.elements() > 0, || "an image without pixels has no mean".into())?;
        Ok(Outputs::new([Spec { shape, kind: input.kind }]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let (&Self::Fwd, &[_, height, width, _]) = (self, r.shape(at.inputs[0]).dims()) else {
            return Err(Misfit::new(format!("{} has no gradient rule", self.name())));
        };
        Ok(vec![Some(r.one(Self::Bwd { height, width }, &[at.seed(0)?])?)])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        inputs[0].shape.elements() as u64
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
        let (height, width) = (side, side + 1);
        match variant {
            0 => Case::new(Self::Fwd)
                .normal(Spec::activation([batch, height, width, channels]), 1.0, rng)
                .differentiable(&[0]),
            _ => Case::new(Self::Bwd { height, width }).normal(Spec::activation([batch, channels]), 1.0, rng),
        }
    }
}
