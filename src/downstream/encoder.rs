//! The pre-trained model in use: what films and texts become, by running statistics.

use std::sync::Arc;

use super::subject::{Part, Subject};
use super::values::Values;
use crate::data::Dataset;
use crate::data::augment::Recipe;
use crate::data::loader::{Batches, LoaderOptions};
use crate::data::tokenizer::Tokenizer;
use crate::error::Error;
use crate::model::batch::{Shapes, Source, TextBatch};
use crate::model::config::{Config, DecoderObjective};
use crate::model::g2d;
use crate::program::Checked;
use crate::train::session::Films;
use crate::train::{Engine, Resources};

/// Films or texts at a time.
const BATCH: usize = 16;
/// Maps of the image encoder.
pub const LEVELS: usize = 5;

/// A pre-trained model in use.
pub struct Encoder {
    engine: Engine,
    images: Arc<Checked>,
    texts: Option<(Arc<Checked>, Tokenizer)>,
    values: Values,
    config: Config,
    text_length: usize,
}

/// What films became, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Films.
    pub films: usize,
    /// Embeddings [films, projection_dim], not normalised.
    pub embedding: Vec<f32>,
    /// Projected cells [films, cells, cells, projection_dim].
    pub cells: Vec<f32>,
    /// What the attention pool would make of each cell alone; of the same shape.
    pub pooled_cells: Vec<f32>,
    /// Means of the encoder's maps f1 to f5, each [films, channels].
    pub levels: [Vec<f32>; LEVELS],
}

impl Encoder {
    /// The model of `subject`: its image tower, and its text tower where it has one.
    ///
    /// # Errors
    /// If weights or tokenizer cannot be read or do not fit, or the device has no room.
    pub fn open(subject: &Subject, on: &Resources) -> Result<Self, Error> {
        // The decoder is of no use here.
        let config = Config { decoder_objective: DecoderObjective::None, ..subject.config.clone() };
        let text_length = subject.text_length;
        let shapes = Shapes { batch: BATCH, text_len: text_length, source: Source::Bytes };
        let images = g2d::record_images(&config, &shapes)?.finish();
        let with_text = subject.has(Part::Text);
        let whole = if with_text { g2d::record_evaluate(&config, &shapes)?.finish() } else { images.clone() };
        let mut programs = vec![images];
        if with_text {
            programs.push(g2d::record_texts(&config, &shapes)?.finish());
        }
        let (engine, plans) = subject.engine(on, whole, programs)?;
        let mut plans = plans.into_iter();
        let (Some(images), texts) = (plans.next(), plans.next()) else { unreachable!("films have a plan") };
        let texts = texts.map(|plan| Ok::<_, Error>((plan, tokenizer(subject)?))).transpose()?;
        let values = Values::of(&engine)?;
        Ok(Self { engine, images, texts, values, config, text_length })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Cells along a side of the deepest map.
    pub fn cells(&self) -> usize {
        self.config.image_size / 32
    }

    /// What the films `samples` of `dataset` become; their cells, which take much memory, only `with_cells`. `progress` is told
    /// how many are done.
    pub fn films(
        &mut self,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        with_cells: bool,
        progress: &dyn Fn(usize),
    ) -> Result<Features, Error> {
        let mut found = Features { films: samples.len(), ..Features::default() };
        if samples.is_empty() {
            return Ok(found);
        }
        let batches = batches(dataset, samples, &self.config, 1)?;
        for (done, part) in samples.chunks(BATCH).enumerate() {
            let mut padded = part.to_vec();
            padded.resize(BATCH, part[0]); // what fills the last batch is not kept
            let batch = batches.gather(&padded, 0)?;
            Films::Bytes(&batch.pixels, &batch.augmentation).write(&mut self.engine, &self.images)?;
            self.engine.replay(&self.images)?;
            let take = |name: &str, to: &mut Vec<f32>| {
                let numbers = self.engine.output(&self.images, name)?.unwrap_or_default();
                let rows = numbers.len() / BATCH * part.len();
                to.extend(numbers[..rows].iter().map(|&number| number as f32));
                Ok::<_, Error>(())
            };
            take("out.image_embedding", &mut found.embedding)?;
            let mut cells = Vec::new();
            if with_cells {
                take("out.cells", &mut cells)?;
            }
            for cells in cells.chunks_exact(self.cells().pow(2) * self.config.projection_dim) {
                let exact: Vec<f64> = cells.iter().map(|&number| number.into()).collect();
                found.pooled_cells.extend(self.values.apply(&exact).into_iter().map(|number| number as f32));
            }
            found.cells.append(&mut cells);
            for (level, to) in found.levels.iter_mut().enumerate() {
                take(&format!("out.f{}", level + 1), to)?;
            }
            progress((done * BATCH + part.len()).min(samples.len()));
        }
        finite("a film", &found.embedding)?;
        Ok(found)
    }

    /// Embeddings [texts, projection_dim] of prompts, each of length 1.
    ///
    /// # Errors
    /// If there is no text tower, or a prompt is empty or longer than the model takes.
    pub fn prompts<T: AsRef<str>>(&mut self, prompts: &[T]) -> Result<Vec<f32>, Error> {
        let encode = |prompt: &T| {
            let (tokens, prompt) = (self.encode(prompt.as_ref())?, prompt.as_ref());
            match tokens.len() {
                0..=2 => Err(Error::Usage(format!("the prompt {prompt:?} has no word: write one"))),
                length if length > self.text_length => Err(Error::Usage(format!(
                    "the prompt {prompt:?} has {length} tokens, the model takes {}: shorten it",
                    self.text_length
                ))),
                _ => Ok(tokens),
            }
        };
        let tokens: Vec<Vec<i32>> = prompts.iter().map(encode).collect::<Result<_, Error>>()?;
        self.tokens(&tokens)
    }

    /// Embeddings [reports, projection_dim] of reports, each of length 1; longer ones are cut as in training.
    ///
    /// # Errors
    /// If there is no text tower.
    pub fn reports<T: AsRef<str>>(&mut self, reports: &[T]) -> Result<Vec<f32>, Error> {
        let cut = |report: &T| {
            let mut tokens = self.encode(report.as_ref())?;
            if let Some(&end) = tokens.last().filter(|_| tokens.len() > self.text_length) {
                tokens.truncate(self.text_length - 1);
                tokens.push(end);
            }
            Ok(tokens)
        };
        let tokens: Vec<Vec<i32>> = reports.iter().map(cut).collect::<Result<_, Error>>()?;
        self.tokens(&tokens)
    }

    /// Tokens of a text by the model's own tokenizer.
    fn encode(&self, text: &str) -> Result<Vec<i32>, Error> {
        match &self.texts {
            Some((_, tokenizer)) => Ok(tokenizer.encode(text)?.into_iter().map(|token| token as i32).collect()),
            None => Err(Error::Usage("these weights have no text tower: texts cannot be embedded".into())),
        }
    }

    fn tokens(&mut self, texts: &[Vec<i32>]) -> Result<Vec<f32>, Error> {
        let Some(plan) = self.texts.as_ref().map(|(plan, _)| plan.clone()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for part in texts.chunks(BATCH) {
            let padded = part.iter().chain(std::iter::repeat_n(&part[0], BATCH - part.len()));
            let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
            for text in padded {
                tokens.extend(text);
                lengths.push(text.len());
            }
            let batch = TextBatch::pack(&tokens, &lengths, self.text_length, &self.config)?;
            self.engine.write_texts(&plan, &batch)?;
            self.engine.replay(&plan)?;
            let numbers = self.engine.output(&plan, "out.text_embedding")?.unwrap_or_default();
            let rows = numbers.len() / BATCH * part.len();
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

/// Films of a data set as they are, at the model's size.
pub(super) fn batches(
    dataset: &Arc<Dataset>,
    samples: &[usize],
    config: &Config,
    batch: usize,
) -> Result<Batches, Error> {
    let options = LoaderOptions {
        batch,
        image_size: config.image_size,
        text_len: config.max_positions,
        seed: 0,
        recipe: Recipe::None,
    };
    Ok(Batches::new(dataset.clone(), samples.to_vec(), options)?)
}

fn tokenizer(subject: &Subject) -> Result<Tokenizer, Error> {
    let tokenizer = Tokenizer::load(&subject.tokenizer, false)?;
    let (words, rows) = (tokenizer.vocab_size(), subject.config.vocab_size);
    if words > rows {
        return Err(Error::Usage(format!(
            "{} has {words} pieces, the model {rows}: it is not the tokenizer that the model was trained with",
            subject.tokenizer.display()
        )));
    }
    Ok(tokenizer)
}

fn finite(what: &str, numbers: &[f32]) -> Result<(), Error> {
    if numbers.iter().all(|number| number.is_finite()) {
        return Ok(());
    }
    Err(Error::Usage(format!("{what} became a number that is not finite: these weights cannot be evaluated")))
}
