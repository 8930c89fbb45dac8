//! The text encoder: transformers' BertModel without its pooler and without dropout, on packed rows.

use std::ops::Range;

use super::batch::{Rows, Texts};
use super::config::Config;
use super::init::Scheme;
use super::layer::{Dense, layer_norm};
use crate::base::Spec;
use crate::ops::attention::Attention;
use crate::ops::embed::Embed;
use crate::ops::gelu::Gelu;
use crate::program::record::{FileLayout, RecordError, Role};
use crate::program::{Misfit, Recorder, Value};

/// Records embeddings and all layers, or, of texts that come as states, the layers that learn. Returns token states
/// [rows, text_hidden]. The first [`Config::frozen_text_layers`] layers do not learn; the embeddings do, unless they are frozen
/// ([`Config::frozen_embeddings`]).
pub fn encoder(r: &mut Recorder, config: &Config, texts: &Texts) -> Result<Value, RecordError> {
    let x = match texts.rows {
        Rows::Tokens { .. } => frozen(r, config, texts)?,
        Rows::States(x) => x,
    };
    layers(r, config, texts, config.frozen_text_layers..config.text_layers, x)
}

/// Records embeddings and the layers that do not learn. Returns token states [rows, text_hidden].
///
/// # Errors
/// If the texts come as states.
pub fn frozen(r: &mut Recorder, config: &Config, texts: &Texts) -> Result<Value, RecordError> {
    let x = r.scope("embeddings", |r| embeddings(r, config, texts))?;
    layers(r, config, texts, 0..config.frozen_text_layers, x)
}

fn layers(
    r: &mut Recorder,
    config: &Config,
    texts: &Texts,
    which: Range<usize>,
    mut x: Value,
) -> Result<Value, RecordError> {
    for at in which {
        let layer = Layer { config, texts, trainable: at >= config.frozen_text_layers };
        x = r.scope(format!("encoder.layer.{at}"), |r| layer.record(r, x))?;
    }
    Ok(x)
}

fn embeddings(r: &mut Recorder, config: &Config, texts: &Texts) -> Result<Value, RecordError> {
    let width = config.text_hidden;
    let (plain, padded) = (Scheme::Text.weight(width, width), Scheme::Text.embedding(width));
    let role = Role::Parameter { trainable: !config.frozen_embeddings };
    let mut table = |name: &str, rows: usize, init| {
        r.scope(name, |r| r.state("weight", Spec::exact([rows, width]), role, init, FileLayout::Same))
    };
    let word = table("word_embeddings", config.vocab_size, padded);
    let position = table("position_embeddings", config.max_positions, plain);
    let token_type = table("token_type_embeddings", 2, plain);
    let Rows::Tokens { ids, order } = texts.rows else {
        let misfit = Misfit::new("texts that come as states have no tokens to embed");
        return Err(RecordError { scope: "embeddings".into(), op: "embed".into(), misfit });
    };
    let x = r.one(Embed::Fwd, &[word, position, token_type, ids, order, texts.offsets])?;
    r.scope("LayerNorm", |r| layer_norm(r, x, None, texts.offsets, !config.frozen_embeddings))
}

struct Layer<'a> {
    config: &'a Config,
    texts: &'a Texts,
    trainable: bool,
}

impl Layer<'_> {
    fn record(&self, r: &mut Recorder, x: Value) -> Result<Value, RecordError> {
        let width = self.config.text_hidden;
        let context = r.scope("attention.self", |r| self.attend(r, x))?;
        let y = self.dense(r, "attention.output.dense", context, width)?;
        let x = self.add_norm(r, "attention.output.LayerNorm", y, x)?;
        let y = self.dense(r, "intermediate.dense", x, self.config.text_intermediate)?;
        let y = r.scope("intermediate", |r| r.one(Gelu::Fwd, &[y, self.texts.offsets]))?;
        let y = self.dense(r, "output.dense", y, width)?;
        self.add_norm(r, "output.LayerNorm", y, x)
    }

    fn attend(&self, r: &mut Recorder, x: Value) -> Result<Value, RecordError> {
        let width = self.config.text_hidden;
        let query = self.dense(r, "query", x, width)?;
        let key = self.dense(r, "key", x, width)?;
        let value = self.dense(r, "value", x, width)?;
        let op = Attention::fwd(self.config.text_heads);
        Ok(r.node(op, &[query, key, value, self.texts.offsets, self.texts.lengths])?[0])
    }

    fn dense(&self, r: &mut Recorder, name: &str, x: Value, out: usize) -> Result<Value, RecordError> {
        let (trainable, offsets) = (self.trainable, Some(self.texts.offsets));
        r.scope(name, |r| Dense { scheme: Scheme::Text, trainable, offsets, ..Dense::xavier() }.record(r, x, out))
    }

    fn add_norm(&self, r: &mut Recorder, name: &str, x: Value, residual: Value) -> Result<Value, RecordError> {
        r.scope(name, |r| layer_norm(r, x, Some(residual), self.texts.offsets, self.trainable))
    }
}
