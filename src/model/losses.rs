//! The pseudo masks and the losses, with the switches of the configuration.

use super::config::{
    Config, Contrastive, DecoderObjective, MaskAggregation, MaskBody, MaskCompare, MaskSmooth, MaskThreshold,
    MaskUpsample, Segmentation,
};
use crate::base::Real;
use crate::ops::accumulate::Accumulate;
use crate::ops::body_mask::BodyMask;
use crate::ops::clip_loss::{ClipLoss, Directions};
use crate::ops::elementwise_loss::{self, ElementwiseLoss};
use crate::ops::mask_threshold::{Aggregation, MaskThreshold as Threshold, Rule};
use crate::ops::pseudo_mask::{Bilateral, Compare, PseudoMask, Upsample};
use crate::ops::segmentation_loss::{Form, SegmentationLoss};
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

/// Pseudo masks [batch, side, side], as many as a film has ([`Config::masks`]).
#[derive(Clone, Debug)]
pub struct Masks {
    /// Each film's own.
    pub own: Vec<Value>,
    /// What the decoder has to give: these, or those of other films, or the films; nothing without a decoder.
    pub targets: Vec<Value>,
}

/// Records the pseudo masks of an attention `map` [batch, heads, height, width] on films in [0, 1] (`plane`,
/// [batch, side, side]), and those of the next films if `objective` wants them; no gradient flows (paper, section 3.3).
pub fn masks(
    r: &mut Recorder,
    config: &Config,
    objective: DecoderObjective,
    map: Value,
    plane: Value,
) -> Result<Masks, RecordError> {
    let body = match config.mask_body {
        MaskBody::Threshold => Some(r.one(BodyMask { threshold: Real(config.body_threshold) }, &[plane])?),
        MaskBody::None => None,
    };
    let scores = scores(r, config, map)?;
    let masks = |r: &mut Recorder, shift| {
        scores.iter().map(|scores| pseudo_mask(r, config, scores, body, shift)).collect::<Result<Vec<Value>, _>>()
    };
    let own = masks(r, 0)?;
    let targets = match objective {
        DecoderObjective::PseudoSegmentation => own.clone(),
        DecoderObjective::None => Vec::new(),
        DecoderObjective::Reconstruction => vec![plane],
        DecoderObjective::ShuffledMasks => masks(r, 1)?,
    };
    Ok(Masks { own, targets })
}

/// What one pseudo mask of a film is made of.
struct Scores {
    /// [batch, heads, height, width], whose mean over the heads counts.
    cells: Value,
    /// \[batch\]; without it the threshold is a quantile.
    threshold: Option<Value>,
}

/// Records, from the attention map, the scores of each pseudo mask of a film.
fn scores(r: &mut Recorder, config: &Config, map: Value) -> Result<Vec<Scores>, RecordError> {
    let aggregations = match config.mask_aggregation {
        MaskAggregation::Mean => vec![Aggregation::Mean],
        MaskAggregation::Max => vec![Aggregation::Max],
        MaskAggregation::Single => vec![Aggregation::Single { head: config.mask_head }],
        MaskAggregation::PerHead => (0..config.attention_heads).map(|head| Aggregation::Single { head }).collect(),
    };
    let (rule, given) = match config.mask_threshold {
        MaskThreshold::Quantile | MaskThreshold::Median => (Rule::Mean, false),
        MaskThreshold::Mean => (Rule::Mean, true),
        MaskThreshold::Gmm => (Rule::Gmm, true),
    };
    let of = |aggregation| {
        if aggregation == Aggregation::Mean && !given {
            return Ok(Scores { cells: map, threshold: None });
        }
        let made = r.node(Threshold { aggregation, rule }, &[map])?;
        Ok(Scores { cells: made[0], threshold: given.then_some(made[1]) })
    };
    aggregations.into_iter().map(of).collect()
}

/// Records a pseudo mask of each film, from the scores and the body of the film `shift` places further in the batch.
fn pseudo_mask(
    r: &mut Recorder,
    config: &Config,
    scores: &Scores,
    body: Option<Value>,
    shift: usize,
) -> Result<Value, RecordError> {
    let op = PseudoMask {
        height: config.image_size,
        width: config.image_size,
        quantile: Real(if config.mask_threshold == MaskThreshold::Median { 0.5 } else { config.quantile }),
        given: scores.threshold.is_some(),
        upsample: match config.mask_upsample {
            MaskUpsample::Nearest => Upsample::Nearest,
            MaskUpsample::Bilinear => Upsample::Bilinear,
        },
        compare: match config.mask_compare {
            MaskCompare::AtLeast => Compare::AtLeast,
            MaskCompare::Above => Compare::Above,
        },
        body: body.is_some(),
        smooth: (config.mask_smooth == MaskSmooth::Bilateral).then_some(Bilateral {
            diameter: config.bilateral_diameter,
            sigma_space: Real(config.bilateral_sigma_space),
            sigma_value: Real(config.bilateral_sigma_value),
        }),
        shift,
    };
    let inputs: Vec<Value> = [scores.cells].into_iter().chain(body).chain(scores.threshold).collect();
    r.one(op, &inputs)
}

/// Records the mean of values of one shape; `None` of none.
pub fn mean(r: &mut Recorder, values: &[Value]) -> Result<Option<Value>, RecordError> {
    let scale = Real((values.len() as f64).recip());
    match values {
        [] => Ok(None),
        &[one] => Ok(Some(one)),
        &[first, ref rest @ ..] => {
            let first = r.one(Accumulate::Scale { scale }, &[first])?;
            rest.iter().try_fold(first, |sum, &next| r.one(Accumulate::Add { scale }, &[sum, next])).map(Some)
        }
    }
}

/// Records the contrastive loss of embeddings [batch, projection_dim]. Returns loss, top-1 and top-5, each \[1\]
/// (paper, equation 1).
pub fn contrastive(r: &mut Recorder, config: &Config, image: Value, text: Value) -> Result<[Value; 3], RecordError> {
    let directions = match config.contrastive {
        Contrastive::TwoWaySum => Directions::TwoWaySum,
        Contrastive::TwoWayMean => Directions::TwoWayMean,
        Contrastive::ImageToText => Directions::ImageToText,
    };
    let count = r.shape(image).rows();
    let made = r.node(ClipLoss::fwd(directions, config.temperature, 0, count), &[image, text])?;
    Ok([made[0], made[1], made[2]])
}

/// Records the decoder's loss \[1\]: the mean over its `maps` [batch, side, side, 1] of each one's loss against its
/// target [batch, side, side]. `None` without a decoder.
pub fn decoder(
    r: &mut Recorder,
    config: &Config,
    maps: &[Value],
    targets: &[Value],
) -> Result<Option<Value>, RecordError> {
    let loss = |(&map, &target)| match config.decoder_objective {
        DecoderObjective::Reconstruction => {
            r.one(ElementwiseLoss::fwd(elementwise_loss::Form::SquaredError), &[map, target])
        }
        _ => segmentation(r, config, map, target),
    };
    let losses: Vec<Value> = maps.iter().zip(targets).map(loss).collect::<Result<_, _>>()?;
    mean(r, &losses)
}

/// Records the segmentation loss \[1\] of `logits` [batch, side, side, 1] against `mask` (paper, equation 4).
pub fn segmentation(r: &mut Recorder, config: &Config, logits: Value, mask: Value) -> Result<Value, RecordError> {
    let form = match config.segmentation {
        Segmentation::DiceBce => Form::DiceBce,
        Segmentation::RawDice02Bce => Form::RawDice02Bce,
    };
    Ok(r.node(SegmentationLoss::fwd(form), &[logits, mask])?[0])
}

/// Records the loss that is trained: contrastive plus `weight` times the decoder's. Without that, or with weight 0, it is
/// the contrastive loss itself, and nothing behind the decoder's loss gets a gradient.
pub fn total(r: &mut Recorder, contrastive: Value, decoder: Option<Value>, weight: f64) -> Result<Value, RecordError> {
    match decoder {
        Some(decoder) if weight != 0.0 => r.one(Accumulate::Add { scale: Real(weight) }, &[contrastive, decoder]),
        _ => Ok(contrastive),
    }
}
