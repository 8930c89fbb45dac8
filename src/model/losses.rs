//! The pseudo mask and the losses, with the switches of the configuration.

use super::config::{Config, Contrastive, MaskBody, MaskCompare, MaskSmooth, MaskUpsample, Segmentation};
use crate::base::Real;
use crate::ops::accumulate::Accumulate;
use crate::ops::body_mask::BodyMask;
use crate::ops::clip_loss::{ClipLoss, Directions};
use crate::ops::pseudo_mask::{Bilateral, Compare, PseudoMask, Upsample};
use crate::ops::segmentation_loss::{Form, SegmentationLoss};
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

/// Records the pseudo mask [batch, side, side] of an attention `map` [batch, heads, height, width] on films in
/// [0, 1] (`plane`, [batch, side, side]); no gradient flows (paper, section 3.3).
pub fn pseudo_mask(r: &mut Recorder, config: &Config, map: Value, plane: Value) -> Result<Value, RecordError> {
    let body = match config.mask_body {
        MaskBody::Threshold => Some(r.one(BodyMask { threshold: Real(config.body_threshold) }, &[plane])?),
        MaskBody::None => None,
    };
    let op = PseudoMask {
        height: config.image_size,
        width: config.image_size,
        quantile: Real(config.quantile),
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
    };
    let inputs: Vec<Value> = [map].into_iter().chain(body).collect();
    r.one(op, &inputs)
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

/// Records the segmentation loss \[1\] of `logits` [batch, side, side, 1] against `mask` (paper, equation 4).
pub fn segmentation(r: &mut Recorder, config: &Config, logits: Value, mask: Value) -> Result<Value, RecordError> {
    let form = match config.segmentation {
        Segmentation::DiceBce => Form::DiceBce,
        Segmentation::RawDice02Bce => Form::RawDice02Bce,
    };
    Ok(r.node(SegmentationLoss::fwd(form), &[logits, mask])?[0])
}

/// Records the loss that is trained: contrastive plus `weight` times segmentation. With weight 0 it is the
/// contrastive loss itself, and nothing behind the segmentation loss gets a gradient.
pub fn total(r: &mut Recorder, contrastive: Value, segmentation: Value, weight: f64) -> Result<Value, RecordError> {
    if weight == 0.0 {
        return Ok(contrastive);
    }
    r.one(Accumulate::Add { scale: Real(weight) }, &[contrastive, segmentation])
}
