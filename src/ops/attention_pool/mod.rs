//! Attention pooling: the mean token asks, all tokens answer (paper section 3.2, torch_g2d's `AttentionPool`).
//! The projections around it are `linear` ops. N = height · width cells, I = heads · head size.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Tokens` | x \[B,h,w,D\], positional [N+1,D] | t [B,N+1,D]: mean of the cells, then the cells; plus positional |
//! | `TokensBwd` | dt [B,N+1,D] | dx \[B,h,w,D\], dpositional [N+1,D] |
//! | `Attend` | qkv [B,N+1,3I] | context \[B,I\], map \[B,heads,h,w\], own \[B,heads\] |
//! | `AttendBwd` | d_context \[B,I\], qkv, map, own | d_qkv [B,N+1,3I] |
//!
//! `Attend`, per image and head: p = softmax(q₀ · kᵀ / √head size) over all N+1 tokens, context = p · v,
//! own = p₀ and map = p₁.. (so map alone does not sum to one). Only token 0 has a query that counts: the query part
//! of the other rows gets gradient zero. No gradient passes through map and own.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::kernels::shaders::SUBGROUPS;
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AttentionPool {
    /// Cells to tokens.
    Tokens,
    /// Gradient of `Tokens`.
    TokensBwd {
        /// Rows of cells.
        height: usize,
        /// Cells in a row.
        width: usize,
    },
    /// The query of token 0 against all tokens.
    Attend {
        /// Number of heads.
        heads: usize,
        /// Rows of cells.
        height: usize,
        /// Cells in a row.
        width: usize,
    },
    /// Gradient of `Attend`.
    AttendBwd {
        /// Number of heads.
        heads: usize,
    },
}

/// The extents [B, N+1, 3I] of a real value, held against a number of cells and heads.
fn projections(spec: Spec, cells: usize, heads: usize) -> Result<[usize; 3], Misfit> {
    match *spec.shape.dims() {
        [batch, tokens, wide] if spec.is_real() && tokens == cells + 1 && heads > 0 && wide % (3 * heads) == 0 => {
            Ok([batch, tokens, wide])
        }
        _ => Err(Misfit::new(format!("qkv {spec:?} is no [B,{},3I] with I a multiple of {heads} heads", cells + 1))),
    }
}

impl Operation for AttentionPool {
    const VARIANTS: usize = 4;
    // More tokens than a workgroup has threads.
    const LARGE: &'static [(usize, Size)] = &[
        (2, Size { batch: 2, side: 100, channels: 20, extra: 3 }),
        (3, Size { batch: 2, side: 100, channels: 20, extra: 3 }),
    ];

    fn name(&self) -> &'static str {
        match self {
            Self::Tokens => "attention_pool.tokens",
            Self::TokensBwd { .. } => "attention_pool.tokens_bwd",
            Self::Attend { .. } => "attention_pool.attend",
            Self::AttendBwd { .. } => "attention_pool.attend_bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        match *self {
            Self::Tokens => {
                let [x, positional] = Misfit::inputs(inputs)?;
                let &[batch, height, width, features] = x.shape.dims() else {
                    return Err(Misfit::new(format!("x has shape {}, [B,h,w,D] is needed", x.shape)));
                };
                Misfit::unless(x.is_real() && height * width > 0, || format!("x {x:?} holds no cells"))?;
                let tokens = height * width + 1;
                Misfit::shape("positional", positional.shape, [tokens, features])?;
                Misfit::unless(positional.kind == Kind::Exact, || "positional has to be exact".into())?;
                Ok(Outputs::new([Spec { shape: [batch, tokens, features].into(), kind: x.kind }]))
            }
            Self::TokensBwd { height, width } => {
                let [dt] = Misfit::inputs(inputs)?;
                let &[batch, tokens, features] = dt.shape.dims() else {
                    return Err(Misfit::new(format!("dt has shape {}, [B,N+1,D] is needed", dt.shape)));
                };
                Misfit::unless(dt.is_real() && height * width > 0 && tokens == height * width + 1, || {
                    format!("dt {dt:?} has not one token more than {height}x{width} cells")
                })?;
                let dx = Spec { shape: [batch, height, width, features].into(), kind: dt.kind };
                Ok(Outputs::new([dx, Spec::exact([tokens, features])]))
            }
            Self::Attend { heads, height, width } => {
                let [qkv] = Misfit::inputs(inputs)?;
                let [batch, _, wide] = projections(qkv, height * width, heads)?;
                let context = Spec { shape: [batch, wide / 3].into(), kind: qkv.kind };
                let map = Spec::exact([batch, heads, height, width]);
                Ok(Outputs::new([context, map, Spec::exact([batch, heads])]))
            }
            Self::AttendBwd { heads } => {
                let [d_context, qkv, map, own] = Misfit::inputs(inputs)?;
                let &[_, _, height, width] = map.shape.dims() else {
                    return Err(Misfit::new(format!("map has shape {}, [B,heads,h,w] is needed", map.shape)));
                };
                let [batch, _, wide] = projections(qkv, height * width, heads)?;
                Misfit::shape("d_context", d_context.shape, [batch, wide / 3])?;
                Misfit::shape("map", map.shape, [batch, heads, height, width])?;
                Misfit::shape("own", own.shape, [batch, heads])?;
                Misfit::unless(inputs.iter().all(Spec::is_real), || "all inputs have to be real numbers".into())?;
                Ok(Outputs::new([qkv]))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        match *self {
            Self::Tokens => {
                let &[_, height, width, _] = r.shape(at.inputs[0]).dims() else {
                    return Err(Misfit::new("x has not four extents"));
                };
                let gradients = r.node(Self::TokensBwd { height, width }, &[at.seed(0)?])?;
                Ok(gradients.iter().zip(at.wanted).map(|(&gradient, &wanted)| wanted.then_some(gradient)).collect())
            }
            Self::Attend { heads, .. } => {
                Misfit::unless(at.seeds[1].is_none() && at.seeds[2].is_none(), || {
                    "no gradient passes through the attention map".into()
                })?;
                let inputs = [at.seed(0)?, at.inputs[0], at.outputs[1], at.outputs[2]];
                Ok(vec![Some(r.one(Self::AttendBwd { heads }, &inputs)?)])
            }
            _ => Err(Misfit::new(format!("{} has no gradient rule", self.name()))),
        }
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let elements = |input: usize| inputs[input].shape.elements() as u64;
        match self {
            Self::Tokens => 2 * elements(0),
            Self::TokensBwd { .. } => 2 * elements(0),
            // A third of qkv is keys, a third is values; a multiply-add for each of their numbers.
            Self::Attend { .. } => elements(0) / 3 * 4,
            Self::AttendBwd { .. } => elements(1) / 3 * 8,
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match *self {
            Self::Tokens => reference::tokens(io),
            Self::TokensBwd { .. } => reference::tokens_bwd(io),
            Self::Attend { heads, .. } => reference::attend(heads, io),
            Self::AttendBwd { heads } => reference::attend_bwd(heads, io),
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
        let (batch, height, width) = (size.batch, size.side, size.extra.min(3));
        let (tokens, features) = (height * width + 1, size.channels);
        let heads = 1 + size.extra % 3;
        let inner = heads * size.channels;
        let qkv = Spec::activation([batch, tokens, 3 * inner]);
        match variant {
            0 => Case::new(Self::Tokens)
                .normal(Spec::activation([batch, height, width, features]), 1.0, rng)
                .normal(Spec::exact([tokens, features]), 1.0, rng)
                .differentiable(&[0, 1]),
            1 => Case::new(Self::TokensBwd { height, width }).normal(
                Spec::activation([batch, tokens, features]),
                1.0,
                rng,
            ),
            2 => Case::new(Self::Attend { heads, height, width }).normal(qkv, 1.0, rng).differentiable(&[0]),
            _ => {
                let shares = 1.0 / tokens as f64;
                Case::new(Self::AttendBwd { heads })
                    .normal(Spec::activation([batch, inner]), 1.0, rng)
                    .normal(qkv, 1.0, rng)
                    .uniform(Spec::exact([batch, heads, height, width]), 0.0, 2.0 * shares, rng)
                    .uniform(Spec::exact([batch, heads]), 0.0, 2.0 * shares, rng)
            }
        }
    }
}
