//! The same numbers as another kind: `Convert { to }` takes x and gives x as an activation or as exact numbers.
//!
//! Only `mixed` stores the two differently; elsewhere this is a copy.

mod reference;

use crate::base::{Kind, Number, Rng, Spec};
use crate::program::{Backward, Case, HostIo, Misfit, Operation, Outputs, Recorder, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Convert {
    /// What the output is: an activation or exact numbers.
    pub to: Kind,
}

impl Operation for Convert {
    const VARIANTS: usize = 2;

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

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let shape = [size.batch, size.side, size.channels];
        let (to, spec) = match variant {
            0 => (Kind::Exact, Spec::activation(shape)),
            _ => (Kind::Activation, Spec::exact(shape)),
        };
        Case::new(Self { to }).normal(spec, 1.0, rng).differentiable(&[0])
    }
}
