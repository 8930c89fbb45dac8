//! The pre-trained model in use: what films and texts become, by running statistics.

use std::sync::Arc;

use super::subject::{Part, Subject};
use super::values::Values;
use super::words::Words;
use crate::data::Dataset;
use crate::data::augment::Recipe;
use crate::data::loader::{Batches, LoaderOptions};
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::model::config::{Config, DecoderObjective};
use crate::model::g2d;
pub use crate::train::reader::normalise;
use crate::train::reader::{Reader, finite};
use crate::train::{Engine, Resources};

/// Films or texts at a time.
pub(super) const BATCH: usize = 16;
/// Maps of the image encoder.
pub const LEVELS: usize = 5;

/// A pre-trained model in use.
pub struct Encoder {
    engine: Engine,
    reader: Reader,
    words: Words,
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
        let shapes = Shapes { batch: BATCH, text_len: subject.text_length, source: Source::Bytes };
        let with_text = subject.has(Part::Text);
        let programs = Reader::programs(&config, &shapes, with_text)?;
        let whole = if with_text { g2d::record_evaluate(&config, &shapes)?.finish() } else { programs[0].clone() };
        let (engine, plans) = subject.engine(on, whole, programs)?;
        let reader = Reader::of(plans, &config, &shapes, with_text);
        Ok(Self { engine, reader, words: Words::of(subject)? })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        self.reader.config()
    }

    /// Cells along a side of the deepest map.
    pub fn cells(&self) -> usize {
        self.config().image_size / 32
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
        let batches = batches(dataset, samples, self.config(), 1)?;
        let levels: [String; LEVELS] = std::array::from_fn(|level| format!("out.f{}", level + 1));
        let mut names = vec!["out.image_embedding"];
        names.extend(levels.iter().map(String::as_str));
        names.extend(with_cells.then_some("out.cells"));
        let values = Values::of(&self.engine)?;
        let film = self.cells().pow(2) * self.config().projection_dim;
        for (done, part) in samples.chunks(BATCH).enumerate() {
            let pixels = batches.gather(part, 0)?.pixels;
            let outputs = self.reader.films(&mut self.engine, &pixels, &names)?;
            let append = |numbers: &[f64], to: &mut Vec<f32>| to.extend(numbers.iter().map(|&number| number as f32));
            append(&outputs[0], &mut found.embedding);
            for (level, to) in found.levels.iter_mut().enumerate() {
                append(&outputs[1 + level], to);
            }
            for cells in outputs.get(1 + LEVELS).into_iter().flat_map(|cells| cells.chunks_exact(film)) {
                append(cells, &mut found.cells);
                append(&values.apply(cells), &mut found.pooled_cells);
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
        self.reader.texts(&mut self.engine, &self.words.prompts(prompts)?)
    }

    /// Embeddings [reports, projection_dim] of reports, each of length 1; longer ones are cut as in training.
    ///
    /// # Errors
    /// If there is no text tower.
    pub fn reports<T: AsRef<str>>(&mut self, reports: &[T]) -> Result<Vec<f32>, Error> {
        self.reader.texts(&mut self.engine, &self.words.reports(reports)?)
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
