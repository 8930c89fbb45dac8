//! Sums of values of one shape, in the order of the list. Only the reverse pass and the total loss record these.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Add { scale }` | a, b (one shape) | a + scale · b, which may overwrite a |
//! | `Scale { scale }` | b | scale · b |
//! | `Fill { value }` | | value \[1\]: the seed of the reverse pass |
//!
//! By scale · b: d_a = dy, d_b = scale · dy.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Real, Rng, Spec};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Accumulate {
    /// a + scale · b.
    Add {
        /// Factor of the second input.
        scale: Real,
    },
    /// scale · b.
    Scale {
        /// The factor.
        scale: Real,
    },
    /// A constant of shape \[1\].
    Fill {
        /// The constant.
        value: Real,
    },
}

impl Operation for Accumulate {
    const VARIANTS: usize = 3;

    fn name(&self) -> &'static str {
        match self {
            Self::Add { .. } => "accumulate.add",
            Self::Scale { .. } => "accumulate.scale",
            Self::Fill { .. } => "accumulate.fill",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        match self {
            Self::Add { .. } => {
                let [a, b] = Misfit::inputs(inputs)?;
                Misfit::unless(a == b && a.is_real(), || format!("cannot add {b:?} to {a:?}"))?;
                Ok(Outputs::new([a]).overwriting(0, 0))
            }
            Self::Scale { .. } => {
                let [b] = Misfit::inputs(inputs)?;
                Misfit::unless(b.is_real(), || format!("cannot scale {b:?}"))?;
                Ok(Outputs::new([b]))
            }
            Self::Fill { .. } => {
                let [] = Misfit::inputs(inputs)?;
                Ok(Outputs::new([Spec::exact([1])]))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let seed = at.seed(0)?;
        match *self {
            Self::Add { scale } => {
                let second = if at.wanted[1] { Some(r.one(Self::Scale { scale }, &[seed])?) } else { None };
                Ok(vec![at.wanted[0].then_some(seed), second])
            }
            Self::Scale { scale } => Ok(vec![Some(r.one(Self::Scale { scale }, &[seed])?)]),
            Self::Fill { .. } => Ok(vec![]),
        }
    }

    fn flops(&self, _inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let elements = outputs[0].shape.elements() as u64;
        match self {
            Self::Add { .. } => 2 * elements,
            Self::Scale { .. } => elements,
            Self::Fill { .. } => 0,
        }
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
        match variant {
            0 => Case::new(Self::Add { scale: Real(0.7) })
                .normal(spec, 1.0, rng)
                .normal(spec, 1.0, rng)
                .differentiable(&[0, 1]),
            1 => Case::new(Self::Scale { scale: Real(-1.3) }).normal(spec, 1.0, rng).differentiable(&[0]),
            _ => Case::new(Self::Fill { value: Real(1.0) }),
        }
    }
}
