//! A model in use: what films and texts become, by running statistics. Holds plans and no states, so whoever holds a model's
//! states, be it to train them or not, can replay them.

use std::sync::Arc;

use super::engine::Engine;
use super::session::Films;
use crate::data::augment::Recipe;
use crate::error::Error;
use crate::model::batch::{Shapes, TextBatch};
use crate::model::config::Config;
use crate::model::g2d;
use crate::program::{Checked, Program};

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Reader {
    films: Arc<Checked>,
    texts: Option<Texts>,
    masks: Option<Arc<Checked>>,
    config: Config,
    shapes: Shapes,
}

/// The text tower in use.
#[derive(Clone, Debug)]
pub struct Texts {
    plan: Arc<Checked>,
    config: Config,
    shapes: Shapes,
}

impl Reader {
    /// What it replays: films, then texts where they are wanted, then masks where the decoder of `config` learns them.
    ///
    /// # Errors
    /// If the configuration or a batch of these extents cannot be.
    pub fn programs(config: &Config, shapes: &Shapes, texts: bool) -> Result<Vec<Program>, Error> {
        let mut programs = vec![g2d::record_images(config, shapes)?.finish()];
        if texts {
            programs.push(g2d::record_texts(config, shapes)?.finish());
        }
        if config.decoder_objective.segments() {
            programs.push(g2d::record_segment(config, shapes)?.finish());
        }
        Ok(programs)
    }

    /// Of the plans of [`Reader::programs`], in their order.
    pub fn of(plans: Vec<Arc<Checked>>, config: &Config, shapes: &Shapes, texts: bool) -> Self {
        let mut plans = plans.into_iter();
        let Some(films) = plans.next() else { unreachable!("films always have a plan") };
        let texts = if texts { plans.next() } else { None };
        let texts = texts.map(|plan| Texts::of(plan, config, shapes));
        Self { films, texts, masks: plans.next(), config: config.clone(), shapes: *shapes }
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Films or texts of one replay, and the tokens there is room for in a text.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// What stored pixels [films, side, side] become, of each output in `names` (see [`g2d::record_images`]) [films, ...].
    ///
    /// # Errors
    /// If these are no whole films, or the device refuses.
    pub fn films(&self, engine: &mut Engine, pixels: &[u8], names: &[&str]) -> Result<Vec<Vec<f64>>, Error> {
        self.replayed(engine, &self.films, pixels, names)
    }

    /// The predicted masks' probabilities [films, side, side] for stored pixels [films, side, side].
    ///
    /// # Errors
    /// As [`Reader::films`], or if there is no decoder that learns masks.
    pub fn masks(&self, engine: &mut Engine, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        let Some(plan) = &self.masks else {
            let why = "this model has no decoder that learned masks (its decoder_objective is none or reconstruction)";
            return Err(Error::Usage(format!("{why}: segment with one trained by pseudo-segmentation")));
        };
        let logits = self.replayed(engine, plan, pixels, &["out.segmentation_logits"])?.remove(0);
        let probabilities: Vec<f32> = logits.iter().map(|logit| (1.0 / (1.0 + (-logit).exp())) as f32).collect();
        finite("a mask", &probabilities)?;
        Ok(probabilities)
    }

    fn replayed(
        &self,
        engine: &mut Engine,
        plan: &Arc<Checked>,
        pixels: &[u8],
        names: &[&str],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let (batch, side) = (self.shapes.batch, self.config.image_size);
        let plane = side * side;
        if !pixels.len().is_multiple_of(plane) {
            let what = format!("{} pixels are no films of {side} by {side}", pixels.len());
            return Err(Error::Usage(format!("{what}: prepare each at the side that the model takes")));
        }
        let plain = Recipe::None.draw(side, 0, 0, 0).repeat(batch);
        let mut found = vec![Vec::new(); names.len()];
        for part in pixels.chunks(batch * plane) {
            let films = part.len() / plane;
            let mut padded = part.to_vec();
            // What fills the last batch is not kept.
            (films..batch).for_each(|_| padded.extend_from_slice(&part[..plane]));
            Films::Bytes(&padded, &plain).write(engine, plan)?;
            engine.replay(plan)?;
            for (name, to) in names.iter().zip(&mut found) {
                let numbers = engine.output(plan, name)?.unwrap_or_default();
                to.extend(&numbers[..numbers.len() / batch * films]);
            }
        }
        Ok(found)
    }

    /// As [`Texts::embed`].
    ///
    /// # Errors
    /// As there, or if there is no text tower.
    pub fn texts<T: AsRef<[i32]>>(&self, engine: &mut Engine, texts: &[T]) -> Result<Vec<f32>, Error> {
        let Some(tower) = &self.texts else {
            return Err(Error::Usage("these weights have no text tower: texts cannot be embedded".into()));
        };
        tower.embed(engine, texts)
    }
}

impl Texts {
    /// Of the plan of [`g2d::record_texts`] for a batch of these extents.
    pub fn of(plan: Arc<Checked>, config: &Config, shapes: &Shapes) -> Self {
        Self { plan, config: config.clone(), shapes: *shapes }
    }

    /// Embeddings [texts, projection_dim], each of length 1, of texts as tokens.
    ///
    /// # Errors
    /// If a text is empty, too long or of another vocabulary, an embedding is not finite, or the device refuses.
    pub fn embed<T: AsRef<[i32]>>(&self, engine: &mut Engine, texts: &[T]) -> Result<Vec<f32>, Error> {
        let Shapes { batch, text_len, .. } = self.shapes;
        let mut found = Vec::new();
        for part in texts.chunks(batch) {
            let padded = part.iter().chain(std::iter::repeat_n(&part[0], batch - part.len())).map(AsRef::as_ref);
            let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
            for text in padded {
                tokens.extend_from_slice(text);
                lengths.push(text.len());
            }
            engine.write_texts(&self.plan, &TextBatch::pack(&tokens, &lengths, text_len, &self.config)?)?;
            engine.replay(&self.plan)?;
            let numbers = engine.output(&self.plan, "out.text_embedding")?.unwrap_or_default();
            let rows = numbers.len() / batch * part.len();
            found.extend(numbers[..rows].iter().map(|&number| number as f32));
        }
        finite("a text", &found)?;
        normalise(&mut found, self.config.projection_dim);
        Ok(found)
    }
}

/// Makes each row of `width` numbers one of length 1.
pub fn normalise(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width) {
        let length = row.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|number| *number /= length);
    }
}

/// Refuses numbers that are not finite, which `what` became.
///
/// # Errors
/// If one is not.
pub fn finite<T: Copy + Into<f64>>(what: &str, numbers: &[T]) -> Result<(), Error> {
    match numbers.iter().all(|&number| number.into().is_finite()) {
        true => Ok(()),
        false => Err(Error::Unusable { what: what.into() }),
    }
}
