//! How one film's pseudo mask comes about, stage by stage, as pictures and numbers (the paper's figure 2; section 3.3).

use std::sync::Arc;

use serde::Serialize;

use super::encoder::BATCH;
use super::metrics::grid::Grid;
use super::subject::{Part, Subject};
use super::values::{Values, cosines};
use super::words::Words;
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::model::config::{Config, DecoderObjective, MaskAggregation, MaskUpsample};
use crate::model::g2d;
use crate::program::Checked;
use crate::train::reader::{Texts, finite};
use crate::train::session::Films;
use crate::train::{Engine, Resources};

/// A stage as a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it shows.
    pub name: String,
    /// Numbers of the pixels [side, side], from 0 to 1.
    pub pixels: Vec<f64>,
    /// Whether it is laid over the film in colours; the film itself is not.
    pub heat: bool,
}

/// What can be said in numbers. Parts are of the whole film.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// Cells along a side of the attention map.
    pub cells: usize,
    /// Heads of the attention pool.
    pub heads: usize,
    /// Mean over pairs of heads of the correlation of their maps; absent with one head.
    pub head_agreement: Option<f64>,
    /// Entropy of the map that the mask is made of over that of a flat one: 1 looks everywhere, 0 at one cell.
    pub attention_entropy: f64,
    /// Part within the body mask; absent if the model's recipe has none.
    pub body_area: Option<f64>,
    /// Part within the binary mask.
    pub binary_area: f64,
    /// Mean of the smoothed mask.
    pub mask_area: f64,
    /// Part within the predicted mask, at one half; absent without a decoder.
    pub predicted_area: Option<f64>,
    /// Overlap of the predicted mask with the smoothed one, which it learns from, both at one half (Dice): agreement of the model with
    /// itself, not with any truth.
    pub predicted_dice: Option<f64>,
    /// Cosine between film and text; absent without a text.
    pub similarity: Option<f64>,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Pixels along a side.
    pub side: usize,
    /// From the film to the predicted mask, and the heat map of the text.
    pub stages: Vec<Stage>,
    /// Numbers.
    pub numbers: Numbers,
}

/// A model that explains one film after the other, and embeds texts if it was opened to.
pub struct Explainer {
    engine: Engine,
    plan: Arc<Checked>,
    texts: Option<(Texts, Words)>,
    config: Config,
}

/// Explains a film of gray values [side, side] at the model's size and, if a text is given, where the text is true on it.
///
/// # Errors
/// If weights or text do not fit.
pub fn explain(subject: &Subject, on: &Resources, pixels: &[u8], text: Option<&str>) -> Result<Explanation, Error> {
    if text.is_some() {
        subject.needs("--text", &[Part::Text])?;
    }
    Explainer::open(subject, on, text.is_some())?.explain(pixels, text)
}

impl Explainer {
    /// The model of `subject` on one film at a time, and `with_texts` its text tower.
    ///
    /// # Errors
    /// If the weights lack what makes an embedding of a film or a text, or they or the tokenizer do not fit.
    pub fn open(subject: &Subject, on: &Resources, with_texts: bool) -> Result<Self, Error> {
        subject.needs("explain", &[Part::Encoder, Part::ImageProjection])?;
        let decoder_objective =
            if subject.has(Part::Decoder) { subject.config.decoder_objective } else { DecoderObjective::None };
        let config = Config { decoder_objective, ..subject.config.clone() };
        let shapes = Shapes { batch: 1, text_len: 2, source: Source::Numbers };
        let program = g2d::record_explain(&config, &shapes)?.finish();
        if !with_texts {
            let (engine, plans) = subject.engine(on, program.clone(), vec![program])?;
            return Ok(Self { engine, plan: plans[0].clone(), texts: None, config });
        }
        let shapes = Shapes { batch: BATCH, text_len: subject.text_length, ..shapes };
        let texts = g2d::record_texts(&config, &shapes)?.finish();
        let whole = g2d::record_evaluate(&config, &shapes)?.finish();
        let (engine, plans) = subject.engine(on, whole, vec![program, texts])?;
        let texts = (Texts::of(plans[1].clone(), &config, &shapes), Words::of(subject)?);
        Ok(Self { engine, plan: plans[0].clone(), texts: Some(texts), config })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it was opened with its text tower.
    pub fn takes_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// Embeddings [texts, projection_dim], each of length 1, of texts that `tokens` makes tokens of.
    fn embedded(&mut self, tokens: impl FnOnce(&Words) -> Result<Vec<Vec<i32>>, Error>) -> Result<Vec<f32>, Error> {
        let Some((tower, words)) = &self.texts else {
            return Err(Error::Usage("these weights have no text tower: ask without a phrase".into()));
        };
        tower.embed(&mut self.engine, &tokens(words)?)
    }

    /// Embeddings [texts, projection_dim] of prompts, each of length 1.
    ///
    /// # Errors
    /// If it has no text tower, or a prompt is empty or longer than the model takes.
    pub fn prompts<T: AsRef<str>>(&mut self, prompts: &[T]) -> Result<Vec<f32>, Error> {
        self.embedded(|words| words.prompts(prompts))
    }

    /// The same of reports; longer ones are cut as in training.
    ///
    /// # Errors
    /// If it has no text tower.
    pub fn reports<T: AsRef<str>>(&mut self, reports: &[T]) -> Result<Vec<f32>, Error> {
        self.embedded(|words| words.reports(reports))
    }

    /// Explains a film of gray values [side, side] at the model's size and, if a phrase is given, where it is true on it.
    ///
    /// # Errors
    /// If the film is of another size, the phrase is none that the model takes, what they become is not finite, or the device
    /// refuses.
    pub fn explain(&mut self, pixels: &[u8], phrase: Option<&str>) -> Result<Explanation, Error> {
        let phrase = phrase.map(|text| Ok::<_, Error>((text, self.prompts(&[text])?))).transpose()?;
        let film: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        Films::Numbers(&film).write(&mut self.engine, &self.plan)?;
        self.engine.replay(&self.plan)?;
        let config = &self.config;
        let (side, cells) = (config.image_size, config.image_size / 32);
        let stage = |name: String, pixels: Vec<f64>, heat| Stage { name, pixels, heat };
        let warm = |grid: &[f64], blended: bool| warm(grid, cells, side, blended);
        let attention = self.read("out.attention_map")?.unwrap_or_default();
        let heads: Vec<&[f64]> = attention.chunks_exact(cells * cells).collect();
        let mean = |cell| heads.iter().map(|head| head[cell]).sum::<f64>() / heads.len() as f64;
        let mut stages = vec![stage("film".into(), film.iter().map(|&pixel| f64::from(pixel)).collect(), false)];
        for (head, map) in heads.iter().enumerate() {
            stages.push(stage(format!("head {}", head + 1), warm(map, false)?, true));
        }
        let (name, mean) = aggregated(config, &heads, (0..cells * cells).map(mean).collect());
        stages.push(stage(name, warm(&mean, false)?, true));
        let blended = config.mask_upsample == MaskUpsample::Bilinear;
        stages.push(stage("upsampled".into(), warm(&mean, blended)?, true));
        let body = self.read("out.body")?;
        stages.extend(body.clone().map(|body| stage("body mask".into(), body, true)));
        let [binary, mask] = ["out.binary", "out.pseudo_mask"].map(|name| self.read(name));
        let (binary, mask) = (binary?.unwrap_or_default(), mask?.unwrap_or_default());
        stages.push(stage("binary".into(), binary.clone(), true));
        stages.push(stage("smoothed".into(), mask.clone(), true));
        let logits = self.read("out.segmentation_logits")?;
        let predicted: Option<Vec<f64>> =
            logits.map(|logits| logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect());
        stages.extend(predicted.clone().map(|predicted| stage("predicted mask".into(), predicted, true)));
        let mut similarity = None;
        if let Some((text, embedding)) = phrase {
            let (map, cosine) = self.grounded(&embedding)?;
            stages.push(stage(format!("\"{text}\""), warm(&map, true)?, true));
            similarity = Some(cosine);
        }
        let maps = Maps {
            heads: &heads,
            mean: &mean,
            body: body.as_deref(),
            binary: &binary,
            mask: &mask,
            predicted: predicted.as_deref(),
        };
        let numbers = maps.numbers(cells, similarity);
        Ok(Explanation { side, stages, numbers })
    }

    /// The embedding `[projection_dim]` of the film that was explained last, not normalised.
    ///
    /// # Errors
    /// If it is not finite, or the device refuses.
    pub fn embedding(&self) -> Result<Vec<f64>, Error> {
        Ok(self.read("out.image_embedding")?.unwrap_or_default())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<f64>>, Error> {
        let numbers = self.engine.output(&self.plan, name)?;
        finite("this film", numbers.as_deref().unwrap_or_default())?;
        Ok(numbers)
    }

    /// Cosine of each cell, as the pool would make it, with a text, and of the film's embedding with it.
    fn grounded(&self, text: &[f32]) -> Result<(Vec<f64>, f64), Error> {
        let cells = Values::of(&self.engine)?.apply(&self.read("out.cells")?.unwrap_or_default());
        Ok((cosines(&cells, text), cosines(&self.embedding()?, text)[0]))
    }
}

/// The map that the mask is made of, by the recipe's aggregation, and its name. Where each head has a mask of its own, it is
/// their mean.
fn aggregated(config: &Config, heads: &[&[f64]], mean: Vec<f64>) -> (String, Vec<f64>) {
    match config.mask_aggregation {
        MaskAggregation::Mean | MaskAggregation::PerHead => ("mean of heads".into(), mean),
        MaskAggregation::Single => (format!("head {} alone", config.mask_head + 1), heads[config.mask_head].to_vec()),
        MaskAggregation::Max => {
            let most = |cell| heads.iter().map(|head| head[cell]).fold(f64::NEG_INFINITY, f64::max);
            ("maximum of heads".into(), (0..mean.len()).map(most).collect())
        }
    }
}

/// What numbers are told of.
struct Maps<'a> {
    heads: &'a [&'a [f64]],
    mean: &'a [f64],
    body: Option<&'a [f64]>,
    binary: &'a [f64],
    mask: &'a [f64],
    predicted: Option<&'a [f64]>,
}

impl Maps<'_> {
    fn numbers(&self, cells: usize, similarity: Option<f64>) -> Numbers {
        let half = |mask: &[f64]| mask.iter().filter(|&&pixel| pixel > 0.5).count() as f64;
        let area = |mask: &[f64]| half(mask) / mask.len() as f64;
        let overlap = |predicted: &[f64]| {
            let both = predicted.iter().zip(self.mask).filter(|&(&a, &b)| a > 0.5 && b > 0.5).count() as f64;
            let sum = half(predicted) + half(self.mask);
            if sum == 0.0 { 1.0 } else { 2.0 * both / sum }
        };
        Numbers {
            cells,
            heads: self.heads.len(),
            head_agreement: agreement(self.heads),
            attention_entropy: entropy(self.mean),
            body_area: self.body.map(area),
            binary_area: area(self.binary),
            mask_area: self.mask.iter().sum::<f64>() / self.mask.len() as f64,
            predicted_area: self.predicted.map(area),
            predicted_dice: self.predicted.map(overlap),
            similarity,
        }
    }
}

/// A grid at the film's size, from 0 where it is coldest to 1 where it is warmest: blended between cells, or as squares.
fn warm(grid: &[f64], cells: usize, side: usize, blended: bool) -> Result<Vec<f64>, Error> {
    let grown = Grid::new(grid.to_vec(), cells, cells)
        .and_then(|grid| if blended { grid.bilinear(side, side) } else { grid.nearest(side, side) })
        .map_err(|why| Error::Usage(format!("the attention map cannot be shown: {why}")))?;
    let ends = |pick: fn(f64, f64) -> f64| grown.values().iter().copied().reduce(pick).unwrap_or(0.0);
    let (low, high) = (ends(f64::min), ends(f64::max));
    let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
    Ok(grown.values().iter().map(|value| (value - low) * scale).collect())
}

/// Entropy over that of a flat map.
fn entropy(map: &[f64]) -> f64 {
    let sum: f64 = map.iter().sum();
    let of = |&part: &f64| if part > 0.0 { -(part / sum) * (part / sum).ln() } else { 0.0 };
    if map.len() < 2 || sum <= 0.0 { 1.0 } else { map.iter().map(of).sum::<f64>() / (map.len() as f64).ln() }
}

/// The mean correlation between two heads; `None` of one head, or of flat maps.
fn agreement(heads: &[&[f64]]) -> Option<f64> {
    let centred = |map: &[f64]| {
        let mean = map.iter().sum::<f64>() / map.len() as f64;
        map.iter().map(|part| part - mean).collect::<Vec<f64>>()
    };
    let maps: Vec<Vec<f64>> = heads.iter().map(|head| centred(head)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut found = Vec::new();
    for (at, a) in maps.iter().enumerate() {
        for b in &maps[at + 1..] {
            found.push(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
    }
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    mean.is_finite().then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_and_agreements_by_hand() {
        assert_eq!(entropy(&[0.25; 4]), 1.0);
        assert_eq!(entropy(&[1.0, 0.0, 0.0, 0.0]), 0.0);
        let (a, b, c) = ([0.1, 0.4, 0.5], [0.2, 0.8, 1.0], [0.5, 0.2, 0.1]);
        assert!((agreement(&[&a, &b]).unwrap() - 1.0).abs() < 1e-12);
        assert!(agreement(&[&a, &c]).unwrap() < -0.9);
        assert_eq!(agreement(&[&a]), None);
        assert_eq!(agreement(&[&[0.5; 3], &a]), None);
    }
}
