//! Multi-head self-attention within packed sequences (Vaswani et al., 2017), softmax(q · kᵀ / √D) · v with D = H / heads
//! features per head.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | q, k, v [rows, H], offsets [B+1], lengths \[B\] | context [rows, H], lse [rows, heads] |
//! | `Bwd` | d_context, q, k, v, context [rows, H], lse [rows, heads], offsets [B+1], lengths \[B\] | dq, dk, dv [rows, H] |
//!
//! Queries are all rows of a sequence; keys are its first `lengths[b]` rows, so that a sequence may carry padding that
//! attends but is not attended to (dk and dv are zero there). lse is the logarithm of the softmax's denominator.
//! With p the attention and δ = Σ d_context · context per query and head: dp = d_context · vᵀ, ds = p · (dp - δ) / √D,
//! dq = ds · k, dk = dsᵀ · q, dv = pᵀ · d_context. Rows from the last offset on are neither read nor written.

mod cpu;
mod cuda;
mod reference;
mod warpgroups;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::ops::rows::{self, Packing};
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attention {
    /// Which pass.
    pub pass: Pass,
    /// Into how many heads the features are divided.
    pub heads: usize,
}

impl Attention {
    /// Forward pass with that many heads.
    pub fn fwd(heads: usize) -> Self {
        Self { pass: Pass::Fwd, heads }
    }
}

impl Operation for Attention {
    const VARIANTS: usize = 2;
    // Sequences of several tiles, heads of several chunks of features, in pieces of 16 bytes and not.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 2, side: 150, channels: 72, extra: 2 }),
        (0, Size { batch: 2, side: 150, channels: 70, extra: 2 }),
        (1, Size { batch: 2, side: 150, channels: 72, extra: 2 }),
        (1, Size { batch: 2, side: 150, channels: 70, extra: 2 }),
        // Heads of 64 features, as Hopper's kernels take them, of more tiles than they have stages.
        (0, Size { batch: 2, side: 600, channels: 64, extra: 2 }),
        (1, Size { batch: 2, side: 600, channels: 64, extra: 2 }),
        // Of so many keys that tiles of them take turns, of so few features that there is one chunk of these.
        (0, Size { batch: 4, side: 300, channels: 16, extra: 1 }),
    ];
    const KERNEL: Option<&'static str> = Some("by_head");

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "attention.fwd",
            Pass::Bwd => "attention.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let ([q, k, v, offsets, lengths], saved) = match self.pass {
            Pass::Fwd => (Misfit::inputs(inputs)?, None),
            Pass::Bwd => {
                let [d_context, q, k, v, context, lse, offsets, lengths] = Misfit::inputs(inputs)?;
                ([q, k, v, offsets, lengths], Some((d_context, context, lse)))
            }
        };
        let [rows, features] = rows::packed("q", q, offsets)?;
        Misfit::unless(q == k && q == v, || format!("q, k and v have to be alike, got {q:?}, {k:?} and {v:?}"))?;
        Misfit::unless(self.heads > 0 && features % self.heads == 0, || {
            format!("{features} features cannot be divided into {} heads", self.heads)
        })?;
        Misfit::shape("lengths", lengths.shape, [offsets.shape.last() - 1])?;
        Misfit::unless(lengths.kind == Kind::Index, || format!("lengths have to be integers, got {lengths:?}"))?;
        let Some((d_context, context, lse)) = saved else {
            return Ok(Outputs::new([q, Spec::exact([rows, self.heads])]));
        };
        Misfit::unless(d_context == q && context == q, || {
            format!("d_context and context have to be {q:?}, got {d_context:?} and {context:?}")
        })?;
        rows::real("lse", lse, [rows, self.heads])?;
        Ok(Outputs::new([q, q, q]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let (&[q, k, v, offsets, lengths], &[context, lse]) = (at.inputs, at.outputs) else {
            return Err(Misfit::new("attention.bwd has no gradient rule"));
        };
        Misfit::unless(at.seeds[1].is_none(), || "only the context carries a gradient".into())?;
        let inputs = [at.seed(0)?, q, k, v, context, lse, offsets, lengths];
        let gradients = r.node(Self { pass: Pass::Bwd, ..*self }, &inputs)?;
        Ok(gradients.into_iter().map(Some).chain([None, None]).collect())
    }

    /// As if the rows were divided evenly into sequences without padding.
    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let (x, lengths) = (inputs[0].shape, inputs[inputs.len() - 1].shape);
        let keys = x.rows().div_ceil(lengths.last().max(1));
        let product = 2 * (x.elements() * keys) as u64;
        match self.pass {
            Pass::Fwd => 2 * product,
            Pass::Bwd => 5 * product,
        }
    }

    fn operands(&self) -> &'static [usize] {
        match self.pass {
            Pass::Fwd => &[0, 1, 2],
            Pass::Bwd => &[0, 1, 2, 3],
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => reference::fwd(self.heads, io),
            Pass::Bwd => reference::bwd(self.heads, io),
        }
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        match self.pass {
            Pass::Fwd => cpu::fwd(self.heads, io),
            Pass::Bwd => cpu::bwd(self.heads, io),
        }
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[warpgroups::KERNEL, cuda::KERNEL]
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        if kernel == cuda::KERNEL { cuda::run(self, io) } else { warpgroups::run(self, io) }
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let Packing { offsets, extent, capacity } = Packing::draw(size, rng);
        let lengths: Vec<i32> =
            offsets.windows(2).map(|pair| 1 + rng.below((pair[1] - pair[0]) as usize) as i32).collect();
        let heads = size.extra.min(3);
        let x = Spec::activation([capacity, heads * size.channels]);
        let case = match variant {
            0 => Case::new(Self::fwd(heads)).normal(x, 1.0, rng).normal(x, 1.0, rng).normal(x, 1.0, rng),
            // Logits well below the logarithm of the denominator: an attention above one would drown the rest.
            _ => Case::new(Self { pass: Pass::Bwd, heads })
                .normal(x, 1.0, rng)
                .normal(x, 0.5, rng)
                .normal(x, 0.5, rng)
                .normal(x, 1.0, rng)
                .normal(x, 1.0, rng)
                .uniform(Spec::exact([capacity, heads]), 1.0, 2.0, rng),
        };
        let case = if variant == 0 { case.differentiable(&[0, 1, 2]) } else { case };
        case.indices([offsets.len()], offsets).indices([size.batch], lengths).packed(capacity, extent)
    }
}
