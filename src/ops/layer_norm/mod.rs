//! LayerNorm over the features of each packed row (Ba, Kiros, Hinton, 2016), with the residual sum before it.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd { residual, eps }` | x, residual? [rows, C], gamma, beta \[C\], offsets [B+1] | y [rows, C], mean, rstd [rows], sum? [rows, C] |
//! | `Bwd` | dy, s [rows, C], mean, rstd [rows], gamma \[C\], offsets [B+1] | dx [rows, C], dgamma, dbeta \[C\] |
//!
//! s = x + residual (`sum`, given out if there is a residual) or x; y = gamma · (s - mean) · rstd + beta with
//! rstd = 1 / √(var + eps), the variance being that of the population. With ŝ = (s - mean) · rstd and g = dy · gamma:
//! dx = rstd · (g - mean(g) - ŝ · mean(g · ŝ)), which is the gradient by x and by the residual alike and may overwrite
//! dy; dgamma = Σ dy · ŝ, dbeta = Σ dy over the real rows. Rows from the last offset on are neither read nor written.

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Real, Rng, Spec};
use crate::kernels::shaders::SUBGROUPS;
use crate::ops::rows::{self, Packing};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LayerNorm {
    /// Normalises.
    Fwd {
        /// Adds a second value first.
        residual: bool,
        /// Added to the variance.
        eps: Real,
    },
    /// Gradient.
    Bwd,
}

impl LayerNorm {
    /// Forward of one value; `eps` is added to the variance (1e-12 in BERT).
    pub fn fwd(eps: f64) -> Self {
        Self::Fwd { residual: false, eps: Real(eps) }
    }

    /// The same of the sum of two values, which is given out too.
    pub fn residual(self) -> Self {
        match self {
            Self::Fwd { eps, .. } => Self::Fwd { residual: true, eps },
            Self::Bwd => self,
        }
    }

    /// Specs that [`Self::Bwd`] takes, checked.
    fn infer_bwd(inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [dy, s, mean, rstd, gamma, offsets] = Misfit::inputs(inputs)?;
        let [rows, channels] = rows::packed("x", s, offsets)?;
        Misfit::unless(dy == s, || format!("dy is {dy:?}, {s:?} is needed"))?;
        rows::real("mean", mean, [rows])?;
        rows::real("rstd", rstd, [rows])?;
        rows::real("gamma", gamma, [channels])?;
        Ok(Outputs::new([s, Spec::exact([channels]), Spec::exact([channels])]).overwriting(0, 0))
    }
}

impl Operation for LayerNorm {
    const VARIANTS: usize = 3;
    // Slices of several rows, in blocks of several warps; whole and ragged groups of channels.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 2, side: 9, channels: 262, extra: 1 }),
        (0, Size { batch: 2, side: 9, channels: 263, extra: 1 }),
        (2, Size { batch: 8, side: 400, channels: 262, extra: 1 }),
        (2, Size { batch: 8, side: 400, channels: 263, extra: 1 }),
    ];
    const KERNEL: Option<&'static str> = Some("blocked");

    fn name(&self) -> &'static str {
        match self {
            Self::Fwd { .. } => "layer_norm.fwd",
            Self::Bwd => "layer_norm.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (x, gamma, beta, offsets) = match *self {
            Self::Bwd => return Self::infer_bwd(inputs),
            Self::Fwd { residual: false, .. } => Misfit::inputs(inputs).map(|[x, g, b, offsets]| (x, g, b, offsets))?,
            Self::Fwd { residual: true, .. } => {
                let [x, residual, gamma, beta, offsets] = Misfit::inputs(inputs)?;
                Misfit::unless(residual == x, || format!("the residual is {residual:?}, {x:?} is needed"))?;
                (x, gamma, beta, offsets)
            }
        };
        let [rows, channels] = rows::packed("x", x, offsets)?;
        rows::real("gamma", gamma, [channels])?;
        rows::real("beta", beta, [channels])?;
        let mut specs = vec![x, Spec::exact([rows]), Spec::exact([rows])];
        specs.extend(matches!(self, Self::Fwd { residual: true, .. }).then_some(x));
        Ok(Outputs::new(specs))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let &Self::Fwd { residual, .. } = self else { return Err(Misfit::new("layer_norm.bwd has no gradient rule")) };
        Misfit::unless(at.seeds[1..].iter().all(Option::is_none), || "only y carries a gradient".into())?;
        let (s, gamma) = if residual { (at.outputs[3], 2) } else { (at.inputs[0], 1) };
        let inputs = [at.seed(0)?, s, at.outputs[1], at.outputs[2], at.inputs[gamma], at.inputs[gamma + 2]];
        let gradients = r.node(Self::Bwd, &inputs)?;
        let mut contributions = vec![Some(gradients[0]); gamma];
        contributions.extend([Some(gradients[1]), Some(gradients[2]), None]);
        Ok(contributions)
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let elements = inputs[0].shape.elements() as u64;
        match self {
            Self::Fwd { residual, .. } => (8 + u64::from(*residual)) * elements,
            Self::Bwd => 15 * elements,
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match *self {
            Self::Fwd { residual, eps } => reference::fwd(residual, eps, io),
            Self::Bwd => reference::bwd(io),
        }
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        match *self {
            Self::Fwd { residual, eps } => cpu::fwd(residual, eps, io),
            Self::Bwd => cpu::bwd(io),
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
        let Packing { offsets, extent, capacity } = Packing::draw(size, rng);
        // One feature would make y constant; two make it ±1 but for eps.
        let channels = size.channels + 2;
        let (x, rows) = (Spec::activation([capacity, channels]), Spec::exact([capacity]));
        let vector = Spec::exact([channels]);
        let case = match variant {
            0 => Case::new(Self::fwd(1e-12)).normal(x, 1.0, rng).normal(vector, 1.0, rng).normal(vector, 1.0, rng),
            1 => Case::new(Self::fwd(1e-5).residual())
                .normal(x, 1.0, rng)
                .normal(x, 1.0, rng)
                .normal(vector, 1.0, rng)
                .normal(vector, 1.0, rng),
            _ => Case::new(Self::Bwd)
                .normal(x, 1.0, rng)
                .normal(x, 1.0, rng)
                .normal(rows, 1.0, rng)
                .uniform(rows, 0.5, 2.0, rng)
                .normal(vector, 1.0, rng),
        };
        let differentiable: &[usize] = [&[0, 1, 2][..], &[0, 1, 2, 3], &[]][variant];
        case.indices([offsets.len()], offsets).differentiable(differentiable).packed(capacity, extent)
    }
}
