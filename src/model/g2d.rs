//! The whole: G2D as in the paper's figure 1, and the recordings made of it.

use super::batch::{Batch, Images, Reports, Shapes, Texts};
use super::config::{Config, DecoderObjective, MaskBody, MaskSmooth};
use super::layer::Statistics;
use super::{attention_pool, bert, losses, projection, resnet, unet};
use crate::base::Real;
use crate::ops::body_mask::BodyMask;
use crate::ops::spatial_mean::SpatialMean;
use crate::program::record::RecordError;
use crate::program::{Misfit, Recorder, Value};

/// What the model makes of a batch.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// [batch, projection_dim], not normalised.
    pub image_embedding: Value,
    /// [batch, projection_dim], not normalised.
    pub text_embedding: Value,
    /// Each head's attention on the deepest cells, [batch, heads, side / 32, side / 32].
    pub attention_map: Value,
    /// What the decoder gives, [batch, side, side, 1]: logits for each pseudo mask of a film, or the film; nothing without
    /// a decoder.
    pub decoded: Vec<Value>,
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
    let (_, image_embedding, attention_map) = image(r, config, &features, statistics)?;
    let decoded = decoded(r, config, &features, statistics)?;
    let text_embedding = text(r, config, &batch.texts, statistics)?;
    Ok(Outputs { image_embedding, text_embedding, attention_map, decoded })
}

/// Records the image encoder's five maps, at strides 2 to 32 [batch, side / stride, side / stride, channels].
pub fn features(
    r: &mut Recorder,
    config: &Config,
    images: &Images,
    mode: Statistics,
) -> Result<Vec<Value>, RecordError> {
    r.scope("img_model.encoder", |r| resnet::encoder(r, config, images.image, mode))
}

/// The decoder's maps.
fn decoded(
    r: &mut Recorder,
    config: &Config,
    features: &[Value],
    statistics: Statistics,
) -> Result<Vec<Value>, RecordError> {
    let maps = match config.decoder_objective {
        DecoderObjective::None => return Ok(Vec::new()),
        DecoderObjective::Reconstruction => 1,
        DecoderObjective::PseudoSegmentation | DecoderObjective::ShuffledMasks => config.masks(),
    };
    r.scope("img_model", |r| unet::decoder(r, config, features, maps, statistics))
}

/// Projected cells, image embedding and attention map from the deepest map.
fn image(
    r: &mut Recorder,
    config: &Config,
    features: &[Value],
    statistics: Statistics,
) -> Result<(Value, Value, Value), RecordError> {
    let deepest = features[features.len() - 1];
    let cells = r.scope("proj_v", |r| projection::image(r, config, deepest, statistics))?;
    let (embedding, map) = r.scope("attnpool", |r| attention_pool::attention_pool(r, config, cells))?;
    Ok((cells, embedding, map))
}

/// Text embedding.
fn text(r: &mut Recorder, config: &Config, texts: &Texts, statistics: Statistics) -> Result<Value, RecordError> {
    let tokens = r.scope("lm_model", |r| bert::encoder(r, config, texts))?;
    r.scope("proj_t", |r| projection::text(r, config, tokens, texts, statistics))
}

/// What a training step makes before any gradient.
pub(super) struct Trained {
    out: Outputs,
    masks: Vec<Value>,
    /// The decoder's loss \[1\], if there is a decoder.
    pub decoder: Option<Value>,
    /// The contrastive loss, top-1 and top-5, each \[1\].
    pub contrastive: [Value; 3],
}

/// Records a step as far as its two losses.
pub(super) fn record_losses(
    config: &Config,
    shapes: &Shapes,
    reports: Reports,
    statistics: Statistics,
) -> Result<(Recorder, Trained), RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let objective = config.decoder_objective;
    if objective == DecoderObjective::ShuffledMasks && shapes.batch == 1 {
        let why = "decoder_objective is shuffled-masks; a batch of one film has no other film's mask: give at least 2";
        return Err(refused(why));
    }
    let batch = Batch::declare(r, config, shapes, reports)?;
    let out = forward(r, config, &batch, statistics)?;
    let masks = r.scope("mask", |r| losses::masks(r, config, objective, out.attention_map, batch.images.plane))?;
    let (decoder, contrastive) = r.scope("loss", |r| {
        let decoder = losses::decoder(r, config, &out.decoded, &masks.targets)?;
        Ok((decoder, losses::contrastive(r, config, out.image_embedding, out.text_embedding)?))
    })?;
    Ok((recorder, Trained { out, masks: masks.own, decoder, contrastive }))
}

/// Records a training step up to its gradients; [`optimize`](super::optimize) makes it whole. Outputs: `out.*` as in
/// the specification (of several masks or logits their mean; `out.reconstruction` in place of logits where that is the
/// decoder's objective), `loss.contrastive`, `loss.segmentation` (the decoder's, if there is one), `loss.total`, `top1`,
/// `top5`. Of reports that come as states ([`record_text_states`]) the frozen part of the text encoder is not in it, neither its
/// ops nor its parameters.
pub fn record_step(config: &Config, shapes: &Shapes, phase: Phase, reports: Reports) -> Result<Recorder, RecordError> {
    let (mut recorder, Trained { out, masks, decoder, contrastive }) =
        record_losses(config, shapes, reports, Statistics::Batch)?;
    let r = &mut recorder;
    let [contrastive, top1, top5] = contrastive;
    let weight = if phase == Phase::Full { config.segmentation_weight } else { 0.0 };
    let total = r.scope("loss", |r| losses::total(r, contrastive, decoder, weight))?;
    outputs(r, config, &out, &masks)?;
    r.output("loss.contrastive", contrastive);
    if let Some(decoder) = decoder {
        r.output("loss.segmentation", decoder);
    }
    for (name, value) in [("loss.total", total), ("top1", top1), ("top5", top5)] {
        r.output(name, value);
    }
    r.differentiate(total)?;
    Ok(recorder)
}

/// Records the model in use, with running statistics: every output of the step but the losses (`out.*`).
pub fn record_evaluate(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let batch = Batch::declare(r, config, shapes, Reports::Tokens)?;
    let out = forward(r, config, &batch, Statistics::Running)?;
    let objective = DecoderObjective::None; // nothing is trained
    let masks = r.scope("mask", |r| losses::masks(r, config, objective, out.attention_map, batch.images.plane))?;
    outputs(r, config, &out, &masks.own)?;
    Ok(recorder)
}

/// Records what a validation needs, with running statistics: what [`record_evaluate`] says, and the two losses of the step,
/// `loss.contrastive` and, with a decoder, `loss.segmentation`.
pub fn record_validate(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let (mut recorder, Trained { out, masks, decoder, contrastive }) =
        record_losses(config, shapes, Reports::Tokens, Statistics::Running)?;
    let r = &mut recorder;
    outputs(r, config, &out, &masks)?;
    r.output("loss.contrastive", contrastive[0]);
    decoder.into_iter().for_each(|decoder| r.output("loss.segmentation", decoder));
    Ok(recorder)
}

/// Makes what the model makes readable, under the specification's names.
fn outputs(r: &mut Recorder, config: &Config, out: &Outputs, masks: &[Value]) -> Result<(), RecordError> {
    r.output("out.image_embedding", out.image_embedding);
    r.output("out.text_embedding", out.text_embedding);
    r.output("out.attention_map", out.attention_map);
    decoder_output(r, config, &out.decoded)?;
    if let Some(mask) = r.scope("mask", |r| losses::mean(r, masks))? {
        r.output("out.pseudo_mask", mask);
    }
    Ok(())
}

/// Makes what the decoder makes readable, if there is one.
fn decoder_output(r: &mut Recorder, config: &Config, decoded: &[Value]) -> Result<(), RecordError> {
    let name = if config.decoder_objective.segments() { "out.segmentation_logits" } else { "out.reconstruction" };
    let mean = r.scope("img_model", |r| losses::mean(r, decoded))?;
    mean.into_iter().for_each(|mean| r.output(name, mean));
    Ok(())
}

/// Records what films alone give, with running statistics: `out.image_embedding` [batch, projection_dim] (not normalised),
/// `out.cells` [batch, side / 32, side / 32, projection_dim], the projected cells that a phrase is compared with,
/// `out.attention_map`, and `out.f1` to `out.f5`, the mean over all places of each of the encoder's maps [batch, channels].
pub fn record_images(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let images = Images::declare(r, config, shapes)?;
    let features = features(r, config, &images, Statistics::Running)?;
    for (level, &feature) in features.iter().enumerate() {
        let mean = r.scope(format!("mean.{}", level + 1), |r| r.one(SpatialMean::Fwd, &[feature]))?;
        r.output(format!("out.f{}", level + 1), mean);
    }
    attended(r, config, &features)?;
    Ok(recorder)
}

/// Projects and pools the encoder's maps, with running statistics, and makes embedding, projected cells and attention map
/// readable, see [`record_images`]. Returns the attention map.
fn attended(r: &mut Recorder, config: &Config, features: &[Value]) -> Result<Value, RecordError> {
    let (cells, embedding, map) = image(r, config, features, Statistics::Running)?;
    r.output("out.image_embedding", embedding);
    r.output("out.cells", cells);
    r.output("out.attention_map", map);
    Ok(map)
}

/// Makes readable, as `name`, the pseudo masks that a recipe makes of an attention map; of several masks of a film their mean.
fn mask_output(r: &mut Recorder, name: &str, recipe: &Config, map: Value, plane: Value) -> Result<(), RecordError> {
    let masks = r.scope("mask", |r| losses::masks(r, recipe, DecoderObjective::None, map, plane))?;
    let mean = r.scope("mask", |r| losses::mean(r, &masks.own))?;
    mean.into_iter().for_each(|mean| r.output(name, mean));
    Ok(())
}

/// Records how the pseudo masks of films come about, with running statistics: what [`record_images`] says of embedding, cells and
/// map; `out.body`, where the recipe has a body mask; `out.binary`, the mask before it is smoothed; `out.pseudo_mask`; and what
/// the decoder makes of the films, unless the objective of `config` has none.
pub fn record_explain(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let images = Images::declare(r, config, shapes)?;
    let features = features(r, config, &images, Statistics::Running)?;
    let map = attended(r, config, &features)?;
    if config.mask_body == MaskBody::Threshold {
        let body = r.scope("mask", |r| r.one(BodyMask { threshold: Real(config.body_threshold) }, &[images.plane]))?;
        r.output("out.body", body);
    }
    let sharp = Config { mask_smooth: MaskSmooth::None, ..config.clone() };
    for (name, recipe) in [("out.binary", &sharp), ("out.pseudo_mask", config)] {
        mask_output(r, name, recipe, map, images.plane)?;
    }
    let decoded = decoded(r, config, &features, Statistics::Running)?;
    decoder_output(r, config, &decoded)?;
    Ok(recorder)
}

/// Records the pseudo masks of films by several recipes that share a model, with running statistics: what [`record_images`]
/// says of embedding, cells and map, and `out.mask0`, `out.mask1` and so on [batch, side, side], a recipe each.
pub fn record_masks(recipes: &[Config], shapes: &Shapes) -> Result<Recorder, RecordError> {
    let model = recipes.first().ok_or_else(|| refused("no recipe of a mask was given"))?;
    let mut recorder = begin(model, shapes)?;
    let r = &mut recorder;
    let images = Images::declare(r, model, shapes)?;
    let features = features(r, model, &images, Statistics::Running)?;
    let map = attended(r, model, &features)?;
    for (at, recipe) in recipes.iter().enumerate() {
        mask_output(r, &format!("out.mask{at}"), recipe, map, images.plane)?;
    }
    Ok(recorder)
}

/// Records what texts alone give, with running statistics: `out.text_embedding` [batch, projection_dim], not normalised.
pub fn record_texts(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let texts = Texts::declare(r, config, shapes, Reports::Tokens);
    let embedding = text(r, config, &texts, Statistics::Running)?;
    r.output("out.text_embedding", embedding);
    Ok(recorder)
}

/// Records what the frozen part of the text encoder makes of texts: `out.text_states` [capacity, text_hidden], rows that are
/// used as the offsets say.
pub fn record_text_states(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    let texts = Texts::declare(r, config, shapes, Reports::Tokens);
    let states = r.scope("lm_model", |r| bert::frozen(r, config, &texts))?;
    r.output("out.text_states", states);
    Ok(recorder)
}

/// Records the segmentation of films alone (`out.segmentation_logits`) with running statistics.
///
/// # Errors
/// If there is no decoder that learns masks.
pub fn record_segment(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let mut recorder = begin(config, shapes)?;
    let r = &mut recorder;
    if !config.decoder_objective.segments() {
        return Err(refused("decoder_objective is none or reconstruction: no decoder learns masks"));
    }
    let images = Images::declare(r, config, shapes)?;
    let features = features(r, config, &images, Statistics::Running)?;
    let decoded = decoded(r, config, &features, Statistics::Running)?;
    decoder_output(r, config, &decoded)?;
    Ok(recorder)
}

/// An empty recording for a configuration and a batch that can be.
fn begin(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    config.validate().map_err(|error| refused(&error.to_string()))?;
    shapes.check(config).map_err(|misfit| refused(&misfit.0))?;
    Ok(Recorder::new())
}

/// Why nothing can be recorded for a configuration and a batch.
pub(super) fn refused(why: &str) -> RecordError {
    RecordError { scope: "batch".into(), op: "shapes".into(), misfit: Misfit::new(why) }
}
