//! Both projections: 1×1 convolution, batch norm without weights, ReLU, 1×1 convolution.

use super::batch::Texts;
use super::config::Config;
use super::init::Scheme;
use super::layer::{Dense, Norm, Statistics, conv2d};
use crate::base::Kind;
use crate::ops::conv2d::Conv2d;
use crate::ops::rows::Rows;
use crate::program::record::{FileLayout, RecordError};
use crate::program::{Recorder, Value};

/// Records the image projection of `features` [batch, height, width, channels] to [.., projection_dim].
pub fn image(r: &mut Recorder, config: &Config, features: Value, statistics: Statistics) -> Result<Value, RecordError> {
    let (op, scheme) = (Conv2d::fwd(1), Scheme::XavierUniform);
    let x = r.scope("0", |r| conv2d(r, op, &[features], config.projection_hidden, scheme))?;
    let x = r.scope("1", |r| Norm { relu: true, ..Norm::default() }.record(r, x, statistics))?;
    r.scope("3", |r| conv2d(r, op, &[x], config.projection_dim, scheme))
}

/// Records the text projection of token states [rows, text_hidden] to [batch, projection_dim]. The statistics see
/// every row of the batch; of what follows, which is row by row, only \[CLS\] is wanted.
pub fn text(
    r: &mut Recorder,
    config: &Config,
    tokens: Value,
    texts: &Texts,
    statistics: Statistics,
) -> Result<Value, RecordError> {
    let dense = Dense { bias: false, layout: FileLayout::Conv1d, ..Dense::xavier() };
    let offsets = Some(texts.offsets);
    let x = r.scope("0", |r| Dense { offsets, ..dense }.record(r, tokens, config.projection_hidden))?;
    let x = r.scope("1", |r| Norm { relu: true, offsets, ..Norm::default() }.record(r, x, statistics))?;
    let cls = r.scope("cls", |r| r.one(Rows::Fwd, &[x, texts.offsets]))?;
    r.scope("3", |r| Dense { output: Kind::Exact, ..dense }.record(r, cls, config.projection_dim))
}
