//! Attention pooling: the mean cell asks, all cells answer (paper, section 3.2). Its attention becomes the pseudo
//! mask.

use super::config::Config;
use super::init::Scheme;
use super::layer::Dense;
use crate::base::Kind;
use crate::ops::attention_pool::AttentionPool;
use crate::ops::linear::Linear;
use crate::program::record::{Init, RecordError};
use crate::program::{Recorder, Value};

/// Records the pool on `x` [batch, height, width, projection_dim]. Returns the image embedding
/// [batch, projection_dim] and each head's attention on the cells [batch, heads, height, width].
pub fn attention_pool(r: &mut Recorder, config: &Config, x: Value) -> Result<(Value, Value), RecordError> {
    let side = config.image_size / 32;
    let (dim, heads, inner) =
        (config.projection_dim, config.attention_heads, config.attention_heads * config.head_dim());
    let start = Init::Normal((dim as f64).sqrt().recip());
    let positional = r.parameter("positional_embedding", [side * side + 1, dim], start);
    let tokens = r.one(AttentionPool::Tokens, &[x, positional])?;
    let (context, map) = r.scope("mhsa", |r| {
        let init = Scheme::XavierUniform.weight(dim, 3 * inner);
        let weight = r.parameter("in_proj_weight", [3 * inner, dim], init);
        let bias = r.parameter("in_proj_bias", [3 * inner], Init::Constant(0.0));
        let qkv = r.one(Linear::fwd().bias(), &[tokens, weight, bias])?;
        let made = r.node(AttentionPool::Attend { heads, height: side, width: side }, &[qkv])?;
        let out = r.scope("out_proj", |r| Dense::xavier().record(r, made[0], dim))?;
        Ok((out, made[1]))
    })?;
    let pooled = r.scope("c_proj", |r| Dense { output: Kind::Exact, ..Dense::xavier() }.record(r, context, dim))?;
    Ok((pooled, map))
}
