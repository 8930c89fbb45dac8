//! How the two losses of a step pull at the shared image encoder: the angle between their gradients, and which is longer.

use super::batch::{Reports, Shapes};
use super::config::Config;
use super::g2d;
use super::layer::Statistics;
use crate::base::Real;
use crate::ops::accumulate::Accumulate;
use crate::ops::finite::Finite;
use crate::program::record::{RecordError, Role};
use crate::program::{Recorder, Value};

/// Parameters that both losses reach.
const SHARED: &str = "img_model.encoder.";

/// The outputs of [`record_interference`], each \[2\]: a sum of squares, and how many numbers are not finite.
pub const OUTPUTS: [&str; 3] = ["interference.contrastive", "interference.decoder", "interference.sum"];

/// Of the gradients of both losses by the image encoder's parameters, all taken as one vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interference {
    /// Cosine of the angle between them: below 0 the losses work against each other.
    pub cosine: f64,
    /// Length of the decoder's, times its weight, over that of the contrastive loss.
    pub norm_ratio: f64,
}

impl Interference {
    /// From the squared lengths of both gradients and of their sum. `None` if one of them is zero or not finite.
    pub fn of_squares([contrastive, decoder, sum]: [f64; 3]) -> Option<Self> {
        let cosine = (sum - contrastive - decoder) / 2.0 / (contrastive.sqrt() * decoder.sqrt());
        let norm_ratio = decoder.sqrt() / contrastive.sqrt();
        // What rounding leaves beyond 1 is cut off.
        (cosine.is_finite() && norm_ratio > 0.0).then(|| Self { cosine: cosine.clamp(-1.0, 1.0), norm_ratio })
    }
}

/// Records a training step as far as both losses, and from each of them the gradient by the image encoder; no update, but
/// running statistics move. Outputs: [`OUTPUTS`].
///
/// # Errors
/// As for a step; and if there is no decoder, or its loss has no weight.
pub fn record_interference(config: &Config, shapes: &Shapes) -> Result<Recorder, RecordError> {
    let (mut recorder, trained) = g2d::record_losses(config, shapes, Reports::Tokens, Statistics::Batch)?;
    let r = &mut recorder;
    let weight = config.segmentation_weight;
    let Some(decoder) = trained.decoder.filter(|_| weight != 0.0) else {
        return Err(g2d::refused(
            "the decoder has no loss that could interfere: see decoder_objective, segmentation_weight",
        ));
    };
    let learns = Role::Parameter { trainable: true };
    let states = r.program().states.iter().filter(|state| state.role == learns && state.name.starts_with(SHARED));
    let shared: Vec<Value> = states.map(|state| state.value).collect();
    let mut gradients = |loss: Value, weight: f64| {
        let seed = r.one(Accumulate::Fill { value: Real(weight) }, &[])?;
        Ok(r.reverse(&[(loss, seed)], &shared)?.into_iter().flatten().collect::<Vec<Value>>())
    };
    let contrastive = gradients(trained.contrastive[0], 1.0)?;
    let decoder = gradients(decoder, weight)?;
    let both = contrastive.iter().zip(&decoder);
    let sum = both.map(|(&a, &b)| r.one(Accumulate::Add { scale: Real(1.0) }, &[a, b])).collect::<Result<_, _>>()?;
    for (name, gradient) in OUTPUTS.into_iter().zip([contrastive, decoder, sum]) {
        let squares = r.one(Finite { losses: 0 }, &gradient)?;
        r.output(name, squares);
    }
    Ok(recorder)
}
