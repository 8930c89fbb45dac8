//! The whole: G2D as in the paper's figure 1, and the recordings made of it.

use super::batch::{Batch, Images, Shapes};
use super::config::Config;
use super::layer::Statistics;
use super::{attention_pool, bert, losses, projection, resnet, unet};
use crate::program::record::RecordError;
use crate::program::{Misfit, Recorder, Value};

/// What the model makes of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Outputs {
    /// [batch, projection_dim], not normalised.
    pub image_embedding: Value,
    /// [batch, projection_dim], not normalised.
    pub text_embedding: Value,
    /// Each head's attention on the deepest cells, [batch, heads, side / 32, side / 32].
    pub attention_map: Value,
    /// [batch, side, side, 1].
    pub segmentation_logits: Value,
}

/// Which loss is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before `warmup_steps`: the contrastive loss alone. The decoder runs and its statistics move.
    Warmup,
    /// Both losses.
    Full,
}

/// Records the model on a batch.
pub fn forward(
    r: &mut Recorder,
    config: &Config,
    batch: &Batch,
    statistics: Statistics,
) -> Result<Outputs, RecordError> {
    let features = features(r, config, &batch.images, statistics)?;
    let (image_embedding, attention_map) = image(r, config, &features, statistics)?;
    let segmentation_logits = r.scope("img_model", |r| unet::decoder(r, config, &features, statistics))?;
    let text_embedding = text(r, config, batch, statistics)?;
    Ok(Outputs { image_embedding, text_embedding, attention_map, segmentation_logits })
}

/// The image encoder's five maps.
fn features(r: &mut Recorder, config: &Config, images: &Images, mode: Statistics) -> Result<Vec<Value>, RecordError> {
    r.scope("img_model.encoder", |r| resnet::encoder(r, config, images.image, mode))
}

/// Image embedding and attention map from the deepest map.
fn image(
    r: &mut Recorder,
    config: &Config,
    features: &[Value],
    statistics: Statistics,
) -> Result<(Value, Value), RecordError> {
    let deepest = features[features.len() - 1];
    let projected = r.scope("proj_v", |r| projection::image(r, config, deepest, statistics))?;
    r.scope("attnpool", |r| attention_pool::attention_pool(r, config, projected))
}

/// Text embedding.
fn text(r: &mut Recorder, config: &Config, batch: &Batch, statistics: Statistics) -> Result<Value, RecordError> {
    let tokens = r.scope("lm_model", |r| bert::encoder(r, config, &batch.texts))?;
    r.scope("proj_t", |r| projection::text(r, config, tokens, &batch.texts, statistics))
}

/// Records a training step up to its gradients; [`optimize`](super::optimize) makes it whole. Outputs: `out.*` as in
/// the specification, `loss.contrastive`, `loss.segmentation`, `loss.total`, `top1`, `top5`.
pub fn record_step(config: &Config, shapes: &Shapes, phase: Phase) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let batch = Batch::declare(r, config, shapes)?;
    let out = forward(r, config, &batch, Statistics::Batch)?;
    let mask = r.scope("mask", |r| losses::pseudo_mask(r, config, out.attention_map, batch.images.plane))?;
    let (total, segmentation, [contrastive, top1, top5]) = r.scope("loss", |r| {
        let segmentation = losses::segmentation(r, config, out.segmentation_logits, mask)?;
        let contrastive = losses::contrastive(r, config, out.image_embedding, out.text_embedding)?;
        let weight = if phase == Phase::Full { config.segmentation_weight } else { 0.0 };
        Ok((losses::total(r, contrastive[0], segmentation, weight)?, segmentation, contrastive))
    })?;
    outputs(r, &out, mask);
    for (name, value) in [
        ("loss.contrastive", contrastive),
        ("loss.segmentation", segmentation),
        ("loss.total", total),
        ("top1", top1),
        ("top5", top5),
    ] {
        r.output(name, value);
    }
    r.differentiate(total)?;
    Ok(recorder)
}

/// Records the model in use, with running statistics: every output of the step but the losses (`out.*`).
pub fn record_evaluate(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let batch = Batch::declare(r, config, shapes)?;
    let out = forward(r, config, &batch, Statistics::Running)?;
    let mask = r.scope("mask", |r| losses::pseudo_mask(r, config, out.attention_map, batch.images.plane))?;
    outputs(r, &out, mask);
    Ok(recorder)
}

/// Makes what the model makes readable, under the specification's names.
fn outputs(r: &mut Recorder, out: &Outputs, mask: Value) {
    r.output("out.image_embedding", out.image_embedding);
    r.output("out.text_embedding", out.text_embedding);
    r.output("out.attention_map", out.attention_map);
    r.output("out.segmentation_logits", out.segmentation_logits);
    r.output("out.pseudo_mask", mask);
}

/// Records the segmentation of films alone (`out.segmentation_logits`) with running statistics.
pub fn record_segment(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let images = Images::declare(r, config, shapes)?;
    let features = features(r, config, &images, Statistics::Running)?;
    let logits = r.scope("img_model", |r| unet::decoder(r, config, &features, Statistics::Running))?;
    r.output("out.segmentation_logits", logits);
    Ok(recorder)
}

/// An empty recording for a configuration and a batch that can be.
fn begin(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let fail = |misfit| RecordError { scope: "batch".into(), op: "shapes".into(), misfit };
    config.validate().map_err(|error| fail(Misfit::new(error.to_string())))?;
    shapes.check(config).map_err(fail)?;
    Ok(Recorder::new())
}
