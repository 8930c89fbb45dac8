//! One step of AdamW (Loshchilov and Hutter 2019) on many parameters, as `torch.optim.AdamW` computes it.
//!
//! Inputs: scalars \[3\] = (learning rate, 1 − β₁ᵗ, 1 − β₂ᵗ), finite \[2\] of the op `finite`, then for every parameter
//! its gradient (if `gradient`), weights w and moments m, v, all of one shape. Outputs: w, m, v of every parameter,
//! updated in place:
//!
//! w ← w (1 − lr · weight decay); m ← lerp(m, g, 1 − β₁); v ← β₂ v + (1 − β₂) g²;
//! w ← w − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//!
//! If finite\[1\] is not 0, or finite\[0\] has overflowed, nothing changes. Without `gradient` the gradient is known to be zero and is not read: the
//! step counts, weights and moments decay.

mod cpu;
pub mod cuda;
mod reference;
#[cfg(test)]
mod tests;
mod wgsl;

use crate::base::{Kind, Number, Real, Rng, Spec};
use crate::program::{Case, DeviceIo, HostIo, Misfit, Operation, Outputs, ShaderIo, Size};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: Real,
    /// Decay of the second moment.
    pub beta2: Real,
    /// Added to the denominator.
    pub eps: Real,
    /// Decay of the weights, times the learning rate.
    pub weight_decay: Real,
    /// Whether there is a gradient; if not, it is known to be zero.
    pub gradient: bool,
}

/// Whether the numbers of the op `finite` permit an update.
fn permitted<N: Number>(finite: &[N]) -> bool {
    finite[1] == N::ZERO && finite[0].is_finite()
}

impl AdamW {
    /// Inputs of one parameter: gradient?, w, m, v.
    fn stride(&self) -> usize {
        3 + usize::from(self.gradient)
    }

    /// Constants of one step.
    fn constants<N: Number>(&self, scalars: &[N]) -> Constants<N> {
        let [rate, correction1, correction2] = [scalars[0], scalars[1], scalars[2]];
        // Complements are taken in f64 and rounded once, as torch does.
        Constants {
            keep: N::ONE - rate * self.weight_decay.to(),
            toward1: N::of(1.0 - self.beta1.0),
            beta1: self.beta1.to(),
            beta2: self.beta2.to(),
            toward2: N::of(1.0 - self.beta2.0),
            root2: correction2.sqrt(),
            eps: self.eps.to(),
            step: rate / correction1,
        }
    }
}

/// What is the same for all numbers of one step.
#[derive(Clone, Copy)]
struct Constants<N> {
    keep: N,
    toward1: N,
    beta1: N,
    beta2: N,
    toward2: N,
    root2: N,
    eps: N,
    step: N,
}

impl<N: Number> Constants<N> {
    /// The step of one weight.
    #[inline(always)]
    fn apply(&self, gradient: N, w: &mut N, m: &mut N, v: &mut N) {
        // torch's lerp goes from the nearer end.
        *m = if self.toward1 < N::of(0.5) {
            *m + self.toward1 * (gradient - *m)
        } else {
            gradient - (gradient - *m) * self.beta1
        };
        *v = self.beta2 * *v + self.toward2 * gradient * gradient;
        *w = self.keep * *w - self.step * (*m / (v.sqrt() / self.root2 + self.eps));
    }
}

impl Operation for AdamW {
    const VARIANTS: usize = 2;
    const KERNEL: Option<&'static str> = Some("chunks");

    fn name(&self) -> &'static str {
        "adamw"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let stride = self.stride();
        Misfit::unless(inputs.len() >= 2 && (inputs.len() - 2).is_multiple_of(stride), || {
            format!("takes scalars, finite and {stride} inputs per parameter, got {} inputs", inputs.len())
        })?;
        for (at, spec) in inputs.iter().enumerate() {
            Misfit::unless(spec.kind == Kind::Exact, || format!("input {at} is {spec:?}, not exact"))?;
        }
        Misfit::shape("scalars", inputs[0].shape, [3])?;
        Misfit::shape("finite", inputs[1].shape, [2])?;
        let (mut specs, mut from) = (Vec::new(), Vec::new());
        for (parameter, group) in inputs[2..].chunks(stride).enumerate() {
            Misfit::unless(group.iter().all(|spec| *spec == group[0]), || {
                format!("parameter {parameter}: gradient, weights and moments differ in shape: {group:?}")
            })?;
            specs.extend([group[0]; 3]);
            let weights = 2 + (parameter + 1) * stride - 3;
            from.extend([weights, weights + 1, weights + 2]);
        }
        let outputs = from.into_iter().enumerate();
        Ok(outputs.fold(Outputs::new(specs), |outputs, (output, input)| outputs.updating(output, input)))
    }

    fn flops(&self, _inputs: &[Spec], outputs: &[Spec]) -> u64 {
        // Per weight, so a third of 15 per output number.
        outputs.iter().map(|spec| 5 * spec.shape.elements() as u64).sum()
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
        let op = Self {
            beta1: Real(0.9),
            beta2: Real(0.999),
            eps: Real(1e-3),
            weight_decay: Real(0.1),
            gradient: variant == 0,
        };
        let mut case = Case::new(op)
            .numbers(Spec::exact([3]), vec![0.05, 1.0 - 0.9f64.powi(3), 1.0 - 0.999f64.powi(3)])
            .numbers(Spec::exact([2]), vec![1.5, 0.0]);
        for spec in [Spec::exact([size.channels, size.side]), Spec::exact([size.extra])] {
            if op.gradient {
                case = case.normal(spec, 1.0, rng);
            }
            case = case.normal(spec, 1.0, rng).normal(spec, 0.3, rng).uniform(spec, 0.0, 0.5, rng);
        }
        case
    }
}
