//! The same numbers as another kind.
//!
//! | op | input | output |
//! |---|---|---|
//! | `Convert { to }` | x, of any shape | y = x, as an activation or as exact numbers |
//!
//! Its gradient is dy as the kind of x.
//!
//! Only `mixed` stores the two differently; elsewhere this is a copy.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Convert {
    /// What the output is: an activation or exact numbers.
    pub to: Kind,
}

impl Operation for Convert {
    const VARIANTS: usize = 3;

    fn name(&self) -> &'static str {
        "convert"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [x] = Misfit::inputs(inputs)?;
        let out = Spec { kind: self.to, ..x };
        Misfit::unless(x.is_real() && out.is_real(), || format!("cannot make {out:?} of {x:?}"))?;
        Ok(Outputs::new([out]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let back = Self { to: r.spec(at.inputs[0]).kind };
        Ok(vec![Some(r.one(back, &[at.seed(0)?])?)])
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[cuda::KERNEL]
    }

    fn run_cuda(&self, _kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        cuda::run(io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let shape = [size.batch, size.side, size.channels];
        let (to, spec) = match variant {
            0 => (Kind::Exact, Spec::activation(shape)),
            1 => (Kind::Activation, Spec::exact(shape)),
            _ => (Kind::Activation, Spec::activation(shape)),
        };
        Case::new(Self { to }).normal(spec, 1.0, rng).differentiable(&[0])
    }
}
