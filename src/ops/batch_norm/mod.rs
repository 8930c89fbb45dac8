//! BatchNorm over all rows of a channels-last value (Ioffe and Szegedy, 2015), with what follows it: a residual sum
//! and a ReLU.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Train` | x [.., C], (gamma, beta \[C\])?, residual?, offsets? | y, mean \[C\], var \[C\] |
//! | `Apply` | x, mean, var \[C\], (gamma, beta)?, residual?, offsets? | y |
//! | `Running` | mean, var, running_mean, running_var \[C\], batches \[1\], offsets? | the last three, updated |
//! | `Backward` | dy, x, mean, var, gamma?, beta? or y?, offsets? | dx, d_residual?, (dgamma, dbeta)? |
//!
//! y = relu?(gamma · x̂ + beta + residual), x̂ = (x - mean) / √(var + eps). `Train` takes mean and (biased) variance of
//! the batch, `Apply` takes them as given constants (running statistics). Rows are all but the last extent, or, if
//! `packed`, the real rows of [capacity, C] (the text projector's `real-tokens`); the rest is neither read nor written.
//!
//! `Running`: running = (1 - momentum) · running + momentum · batch, with the variance n / (n - 1) as in torch.
//!
//! `Backward`: g = dy where y > 0 (with ReLU) or dy; with a residual it takes y, without one it finds the sign of y anew
//! ([`Gate`]), which takes beta for it and no pass over memory. dbeta = Σ g, dgamma = Σ g · x̂, d_residual = g and
//! dx = gamma / √(var + eps) · (g - dbeta / n - x̂ · dgamma / n), or without the last two terms if mean and variance
//! were constants. d_residual, or else dx, may overwrite dy.

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Number, Real, Rng, Spec};
use crate::ops::rows::{self, Packing};
use crate::program::host::CaseData;
use crate::program::{Backward, Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// By what `Backward` tells where the ReLU let numbers through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gate {
    /// There was no ReLU.
    Open,
    /// There was no residual: the sign of gamma · x̂ + beta, from x by the expression of the forward pass, before it is rounded
    /// as it is stored. Takes beta if `affine`.
    Normalised,
    /// The sign of y as it was stored. Takes y.
    Output,
}

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BatchNorm {
    /// Normalises by the statistics of the batch and gives them out.
    Train {
        /// Whether gamma and beta are there.
        affine: bool,
        /// Whether negative results become zero.
        relu: bool,
        /// Whether a value is added before the ReLU.
        residual: bool,
        /// Whether only the rows before the last offset exist.
        packed: bool,
        /// Added to the variance.
        eps: Real,
    },
    /// Normalises by given statistics.
    Apply {
        /// As in [`Self::Train`].
        affine: bool,
        /// As in [`Self::Train`].
        relu: bool,
        /// As in [`Self::Train`].
        residual: bool,
        /// As in [`Self::Train`].
        packed: bool,
        /// As in [`Self::Train`].
        eps: Real,
    },
    /// Moves the running statistics.
    Running {
        /// Weight of the batch.
        momentum: Real,
        /// Rows that the statistics of the batch were taken over; not looked at if `packed`.
        rows: usize,
        /// Whether the number of rows is the last offset.
        packed: bool,
    },
    /// Gradient of `Train` or `Apply`.
    Backward {
        /// As in [`Self::Train`].
        affine: bool,
        /// What the ReLU is known by.
        gate: Gate,
        /// Whether d_residual is given out; only with [`Gate::Output`], for without a ReLU it is dy.
        residual: bool,
        /// As in [`Self::Train`].
        packed: bool,
        /// As in [`Self::Train`].
        eps: Real,
        /// Whether mean and variance were constants, as in `Apply`.
        constant: bool,
    },
}

/// Where the inputs of a pass stand.
struct Positions {
    x: usize,
    gamma: Option<usize>,
    beta: Option<usize>,
    residual: Option<usize>,
    /// y, whose sign gates the gradient.
    gate: Option<usize>,
    offsets: Option<usize>,
    count: usize,
}

impl BatchNorm {
    fn positions(&self) -> Positions {
        let (x, fixed, affine, beta, residual, gate, packed) = match *self {
            Self::Train { affine, residual, packed, .. } => (0, 1, affine, affine, residual, false, packed),
            Self::Apply { affine, residual, packed, .. } => (0, 3, affine, affine, residual, false, packed),
            Self::Running { packed, .. } => (0, 5, false, false, false, false, packed),
            Self::Backward { affine, gate, packed, .. } => {
                (1, 4, affine, affine && gate == Gate::Normalised, false, gate == Gate::Output, packed)
            }
        };
        let mut count = fixed;
        let mut next = |there: bool| {
            count += usize::from(there);
            there.then(|| count - 1)
        };
        let [gamma, beta, residual, gate, offsets] = [affine, beta, residual, gate, packed].map(&mut next);
        Positions { x, gamma, beta, residual, gate, offsets, count }
    }

    /// Rows that exist in this launch.
    fn rows<N: Number>(&self, io: &HostIo<'_, N>) -> usize {
        match (self.positions(), self) {
            (Positions { offsets: Some(offsets), .. }, _) => io.extent(offsets),
            (_, &Self::Running { rows, .. }) => rows,
            (Positions { x, .. }, _) => io.shape(x).rows(),
        }
    }

    fn infer_running(inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let vector = [inputs[0].shape.last()];
        for (name, &spec) in ["mean", "var", "running_mean", "running_var"].into_iter().zip(&inputs[..4]) {
            rows::real(name, spec, vector)?;
        }
        inputs.get(5).map_or(Ok(()), |&offsets| rows::offsets(offsets))?;
        Misfit::unless(inputs[4] == Spec::index([1]), || format!("batches has to be a count, got {:?}", inputs[4]))?;
        Ok(Outputs::new(&inputs[2..5]).updating(0, 2).updating(1, 3).updating(2, 4))
    }
}

impl Operation for BatchNorm {
    const VARIANTS: usize = 14;

    fn name(&self) -> &'static str {
        match self {
            Self::Train { .. } => "batch_norm.train",
            Self::Apply { .. } => "batch_norm.apply",
            Self::Running { .. } => "batch_norm.running",
            Self::Backward { .. } => "batch_norm.backward",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let at = self.positions();
        Misfit::unless(inputs.len() == at.count, || format!("takes {} inputs, got {}", at.count, inputs.len()))?;
        if let Self::Running { .. } = self {
            return Self::infer_running(inputs);
        }
        let (x, vector) = (inputs[at.x], Spec::exact([inputs[at.x].shape.last()]));
        Misfit::unless(x.is_real(), || format!("x has to be real numbers, got {x:?}"))?;
        if let Some(offsets) = at.offsets {
            rows::packed("x", x, inputs[offsets])?;
        }
        let statistics = if let Self::Train { .. } = self { None } else { Some(at.x + 1) };
        let vectors = [statistics, statistics.map(|mean| mean + 1), at.gamma, at.beta];
        for (name, vector_at) in ["mean", "var", "gamma", "beta"].into_iter().zip(vectors) {
            rows::real(name, vector_at.map_or(vector, |at| inputs[at]), vector.shape)?;
        }
        for (name, alike) in [("residual", at.residual), ("y", at.gate), ("dy", (at.x == 1).then_some(0))] {
            let spec = alike.map_or(x, |at| inputs[at]);
            Misfit::unless(spec == x, || format!("{name} is {spec:?}, {x:?} is needed"))?;
        }
        match *self {
            Self::Train { .. } => {
                Misfit::unless(x.shape.rows() >= 2, || {
                    format!("the batch has one value per channel ({}): use a larger batch or image", x.shape)
                })?;
                Ok(Outputs::new([x, vector, vector]))
            }
            Self::Backward { affine, gate, residual, .. } => {
                Misfit::unless(gate == Gate::Output || !residual, || {
                    "d_residual needs y as the gate: without a ReLU it is dy itself".into()
                })?;
                let mut specs = vec![x; 1 + usize::from(residual)];
                specs.extend([vector; 2].into_iter().filter(|_| affine));
                Ok(Outputs::new(specs).overwriting(usize::from(residual), 0))
            }
            _ => Ok(Outputs::new([x])),
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let (&Self::Train { affine, relu, packed, eps, .. } | &Self::Apply { affine, relu, packed, eps, .. }, here) =
            (self, self.positions())
        else {
            return Err(Misfit::new(format!("{} has no gradient rule", self.name())));
        };
        Misfit::unless(at.seeds[1..].iter().all(Option::is_none), || "only y carries a gradient".into())?;
        let constant = matches!(self, Self::Apply { .. });
        let (mean, var) = if constant { (at.inputs[1], at.inputs[2]) } else { (at.outputs[1], at.outputs[2]) };
        let dy = at.seed(0)?;
        let residual = relu && here.residual.is_some_and(|input| at.wanted[input]);
        let (gate, by) = match (relu, here.residual) {
            (false, _) => (Gate::Open, None),
            (true, None) => (Gate::Normalised, here.beta.map(|input| at.inputs[input])),
            (true, Some(_)) => (Gate::Output, Some(at.outputs[0])),
        };
        let mut inputs = vec![dy, at.inputs[0], mean, var];
        inputs.extend(here.gamma.map(|input| at.inputs[input]));
        inputs.extend(by);
        inputs.extend(here.offsets.map(|input| at.inputs[input]));
        let gradients = r.node(Self::Backward { affine, gate, residual, packed, eps, constant }, &inputs)?;
        let mut contributions = vec![None; at.inputs.len()];
        contributions[0] = Some(gradients[0]);
        if let Some(input) = here.residual {
            contributions[input] = Some(if residual { gradients[1] } else { dy });
        }
        if let (Some(gamma), Some(beta)) = (here.gamma, here.beta) {
            contributions[gamma] = Some(gradients[gradients.len() - 2]);
            contributions[beta] = Some(gradients[gradients.len() - 1]);
        }
        Ok(contributions)
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let elements = inputs[self.positions().x].shape.elements() as u64;
        match self {
            Self::Train { .. } => 9 * elements,
            Self::Apply { .. } | Self::Running { .. } => 6 * elements,
            Self::Backward { .. } => 12 * elements,
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        match self {
            Self::Running { .. } => Vec::new(),
            _ => vec![Candidate::legal("blocked")],
        }
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
        let eps = Real(1e-5);
        let (affine, residual) = (![2, 5, 10].contains(&variant), [1, 4, 8].contains(&variant));
        let (relu, packed) = (![0, 4].contains(&variant), [2, 5, 6, 9, 10].contains(&variant));
        let gate = match variant {
            7 => Gate::Open,
            8 | 12 => Gate::Output,
            _ => Gate::Normalised,
        };
        let op = match variant {
            0..3 => Self::Train { affine, relu, residual, packed, eps },
            3..6 => Self::Apply { affine, relu, residual, packed, eps },
            6 => Self::Running { momentum: Real(0.1), rows: 0, packed },
            7..11 | 12.. => Self::Backward { affine, gate, residual, packed, eps, constant: variant == 9 },
            11 => Self::Running { momentum: Real(0.3), rows: 2 + size.side, packed },
        };
        op.draw(size, rng)
    }
}

impl BatchNorm {
    /// A test case with inputs in the order in which the pass takes them.
    fn draw(self, size: &Size, rng: &mut Rng) -> Case<Self> {
        let mut packing = Packing::draw(size, rng);
        // At least two real rows.
        packing.offsets.last_mut().into_iter().for_each(|last| *last += 1);
        packing.extent += 1;
        let (at, channels) = (self.positions(), size.channels);
        let vector = Spec::exact([channels]);
        let x = match at.offsets {
            Some(_) => Spec::activation([packing.capacity, channels]),
            None => Spec::activation([size.batch + 1, size.side, 3 * size.side, channels]),
        };
        let running = matches!(self, Self::Running { .. });
        let mut case = Case::new(self);
        for input in 0..at.count {
            let known = [at.gamma, at.beta].contains(&Some(input));
            case = match input {
                4 if running => case.indices([1], vec![41]),
                _ if Some(input) == at.offsets => case.indices([packing.offsets.len()], packing.offsets.clone()),
                1 | 3 if running => case.uniform(vector, 0.5, 2.0, rng),
                _ if running || known || (!matches!(self, Self::Train { .. }) && input == at.x + 1) => {
                    case.normal(vector, 1.0, rng)
                }
                _ if !matches!(self, Self::Train { .. }) && input == at.x + 2 => case.uniform(vector, 0.5, 2.0, rng),
                _ => case.normal(x, 1.0, rng),
            };
        }
        if let Self::Backward { gate: Gate::Normalised, eps, .. } = self {
            case.inputs = away_from_the_gate(case.inputs, &at, eps);
        }
        let forward = matches!(self, Self::Train { .. } | Self::Apply { .. });
        let differentiable: Vec<usize> = [Some(0), at.gamma, at.beta, at.residual].into_iter().flatten().collect();
        let case = if forward { case.differentiable(&differentiable) } else { case };
        if at.offsets.is_some() { case.packed(packing.capacity, packing.extent) } else { case }
    }
}

/// Moves every x at which y is nearly zero, and might round to either side of it, to an eighth from where it is.
fn away_from_the_gate(
    mut inputs: Vec<(Spec, CaseData)>,
    at: &Positions,
    eps: Real,
) -> Vec<(Spec, CaseData)> {
    const APART: f64 = 0.125;
    let vector = |input: Option<usize>, missing: f64| match input.map(|input| &inputs[input].1) {
        Some(CaseData::Numbers(numbers)) => numbers.clone(),
        _ => vec![missing; inputs[at.x].0.shape.last()],
    };
    let [mean, var] = [1, 2].map(|behind| vector(Some(at.x + behind), 0.0));
    let (gamma, beta) = (vector(at.gamma, 1.0), vector(at.beta, 0.0));
    let zero = |c: usize| mean[c] - beta[c] * (var[c] + eps.0).sqrt() / gamma[c];
    let zeros: Vec<f64> = (0..mean.len()).map(zero).collect();
    if let CaseData::Numbers(x) = &mut inputs[at.x].1 {
        for (x, zero) in x.iter_mut().zip(zeros.iter().cycle()) {
            if (*x - zero).abs() < APART {
                *x = zero + APART.copysign(*x - zero);
            }
        }
    }
    inputs
}
