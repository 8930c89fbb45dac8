//! The cross entropy between the softmax of rows of logits and the number of each row's class, mean over the rows (torch's
//! `cross_entropy`); for downstream heads.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x \[rows,C\], classes \[rows\] integers | loss \[1\] = mean of log Σ exp(x) − x\[class\] |
//! | `Bwd` | seed \[1\], x, classes | dx = seed / rows · (softmax(x) − one-hot) |
//!
//! Every class is in 0..C: who writes this input sees to it.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CrossEntropy {
    /// Forward or backward.
    pub pass: Pass,
}

impl CrossEntropy {
    /// The mean loss.
    pub fn fwd() -> Self {
        Self { pass: Pass::Fwd }
    }
}

impl Operation for CrossEntropy {
    const VARIANTS: usize = 2;
    // More rows than a block has threads, more classes than a warp has lanes.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 3, side: 100, channels: 70, extra: 1 }),
        (1, Size { batch: 3, side: 100, channels: 70, extra: 1 }),
    ];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "cross_entropy.fwd",
            Pass::Bwd => "cross_entropy.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (x, classes) = match self.pass {
            Pass::Fwd => {
                let [x, classes] = Misfit::inputs(inputs)?;
                (x, classes)
            }
            Pass::Bwd => {
                let [seed, x, classes] = Misfit::inputs(inputs)?;
                Misfit::shape("seed", seed.shape, [1])?;
                Misfit::unless(seed.is_real(), || "seed has to be a real number".into())?;
                (x, classes)
            }
        };
        let fits = x.is_real() && x.shape.rank() == 2 && x.shape.rows() > 0 && x.shape.last() > 1;
        Misfit::unless(fits, || format!("x is {x:?}, rows of two real numbers or more are needed"))?;
        Misfit::shape("classes", classes.shape, [x.shape.rows()])?;
        Misfit::unless(classes.kind == Kind::Index, || format!("classes are {classes:?}, integers are needed"))?;
        Ok(Outputs::new([if self.pass == Pass::Fwd { Spec::exact([1]) } else { x }]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        let backward = Self { pass: Pass::Bwd };
        Ok(vec![Some(r.one(backward, &[at.seed(0)?, at.inputs[0], at.inputs[1]])?), None])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        // An exponential counts as 20.
        24 * inputs[usize::from(self.pass == Pass::Bwd)].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => reference::fwd(io),
            Pass::Bwd => reference::bwd(io),
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
        let (rows, count) = (size.batch * size.side, size.channels + 1);
        let x = Spec::activation([rows, count]);
        let classes = (0..rows).map(|_| rng.below(count) as i32).collect();
        let case = match variant {
            0 => Case::new(Self::fwd()).normal(x, 2.0, rng).differentiable(&[0]),
            _ => Case::new(Self { pass: Pass::Bwd }).normal(Spec::exact([1]), 1.0, rng).normal(x, 2.0, rng),
        };
        case.indices([rows], classes)
    }
}
