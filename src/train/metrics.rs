//! What a run writes down: a line of `metrics.jsonl` per step, and validations between them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// The step, counted from 1: so many were taken.
    pub step: u64,
    /// The loss that was differentiated.
    #[serde(rename = "loss.total")]
    pub total: f64,
    /// Image and report.
    #[serde(rename = "loss.contrastive")]
    pub contrastive: f64,
    /// The decoder's: predicted and pseudo mask, or whatever `decoder_objective` says; `null` without a decoder. It counts
    /// from `warmup_steps` on.
    #[serde(rename = "loss.segmentation")]
    pub segmentation: Option<f64>,
    /// Part of the batch's films whose own report is the most similar one.
    pub top1: f64,
    /// Part whose own report is among the five most similar.
    pub top5: f64,
    /// The pseudo mask's mean.
    #[serde(rename = "mask.area")]
    pub mask_area: f64,
    /// Intersection over union of a film's pseudo mask with its last one, over the attention's cells, averaged over
    /// the films of the batch that were seen before; `null` if none was.
    #[serde(rename = "mask.iou_previous")]
    pub mask_iou_previous: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// Length of the gradient.
    pub grad_norm: f64,
    /// Pairs per second of this step.
    pub samples_per_s: f64,
    /// Cosine of the angle between the gradients of both losses by the image encoder, before this step, where that is
    /// logged.
    #[serde(rename = "interference.cosine", default, skip_serializing_if = "Option::is_none")]
    pub interference_cosine: Option<f64>,
    /// Length of the decoder's over that of the contrastive loss, likewise. The decoder's has its weight, also during
    /// warm-up, when it does not count.
    #[serde(rename = "interference.norm_ratio", default, skip_serializing_if = "Option::is_none")]
    pub interference_norm_ratio: Option<f64>,
}

/// A line that holds a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Steps taken before it.
    pub step: u64,
    /// What was found.
    pub validation: super::validate::Validation,
}

/// Each film's last pseudo mask over the attention's cells, one bit each, the most significant first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MaskMemory(HashMap<usize, Vec<bool>>);

impl MaskMemory {
    /// Remembers the masks [batch, side, side] of `samples`, and tells how much they overlap with those from before.
    pub fn update(&mut self, samples: &[usize], masks: &[f64], side: usize) -> Option<f64> {
        let cell = side.min(32);
        let across = side / cell;
        let (mut sum, mut seen) = (0.0, 0u32);
        for (&sample, mask) in samples.iter().zip(masks.chunks_exact(side * side)) {
            let share = |at: usize| {
                let (top, left) = (at / across * cell, at % across * cell);
                let rows = (top..top + cell).map(|y| mask[y * side + left..][..cell].iter().sum::<f64>());
                rows.sum::<f64>() > (cell * cell) as f64 / 2.0
            };
            let cells: Vec<bool> = (0..across * across).map(share).collect();
            if let Some(before) = self.0.get(&sample) {
                let both = cells.iter().zip(before).filter(|&(now, then)| *now && *then).count();
                let any = cells.iter().zip(before).filter(|&(now, then)| *now || *then).count();
                sum += if any == 0 { 1.0 } else { both as f64 / any as f64 };
                seen += 1;
            }
            self.0.insert(sample, cells);
        }
        (seen > 0).then(|| sum / f64::from(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_of_the_same_film_only() {
        let side = 64;
        let left = |x: usize| f64::from(u8::from(x < 32));
        let mask = |share: &dyn Fn(usize) -> f64| (0..side * side).map(|at| share(at % side)).collect::<Vec<_>>();
        let mut memory = MaskMemory::default();
        assert_eq!(memory.update(&[7], &mask(&left), side), None, "never seen before");
        assert_eq!(memory.update(&[8], &mask(&left), side), None, "another film");
        assert_eq!(memory.update(&[7], &mask(&left), side), Some(1.0));
        assert_eq!(memory.update(&[7], &mask(&|_| 1.0), side), Some(0.5));
        assert_eq!(memory.update(&[7], &mask(&|x| 1.0 - left(x)), side), Some(0.5));
        assert_eq!(memory.update(&[7], &mask(&left), side), Some(0.0));
    }
}
