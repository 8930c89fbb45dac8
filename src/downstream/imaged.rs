//! Tasks that learn from films: the order of the films, their pixels and masks on the way into a step.

use std::sync::Arc;

use rayon::prelude::*;

use super::encoder::batches;
use super::learner::Learner;
use super::varied::Varied;
use crate::base::Rng;
use crate::data::Dataset;
use crate::data::loader::Batches;
use crate::error::Error;
use crate::model::config::Config;
use crate::program::Checked;
use crate::train::Engine;

const STREAM: u32 = u32::from_be_bytes(*b"imgd");

/// Films that are learned from, in an order drawn anew each epoch; incomplete batches begin the next epoch's films.
pub struct Imaged {
    batches: Batches,
    films: Vec<usize>,
    side: usize,
    /// Films a step.
    pub batch: usize,
    varied: Varied,
    seed: u64,
}

/// What is written for one step.
pub struct Fed {
    /// The films, as numbers in the data set.
    pub films: Vec<usize>,
    /// Augmentation [films, 13].
    pub augmentation: Vec<f32>,
}

impl Imaged {
    /// Of these films, at most `batch` a step.
    ///
    /// # Errors
    /// If there are none, or the data set is packed smaller than the model's films are.
    pub fn new(
        dataset: &Arc<Dataset>,
        films: Vec<usize>,
        config: &Config,
        batch: usize,
        varied: Varied,
        seed: u64,
    ) -> Result<Self, Error> {
        let batches = batches(dataset, &films, config, 1)?;
        let batch = batch.min(films.len());
        Ok(Self { batches, films, side: config.image_size, batch, varied, seed })
    }

    /// Steps in one pass over the films.
    pub fn steps_per_epoch(&self) -> usize {
        self.films.len().div_ceil(self.batch)
    }

    /// Writes the films of a step and how they are varied; says which they are.
    pub fn feed(&self, engine: &mut Engine, plan: &Checked, step: usize) -> Result<Fed, Error> {
        let (first, count) = (step * self.batch, self.films.len());
        let [now, next] = [first / count, first / count + 1].map(|epoch| self.order(epoch));
        let films: Vec<usize> = now.into_iter().chain(next).skip(first % count).take(self.batch).collect();
        let augmentation: Vec<f32> =
            (0..self.batch).flat_map(|place| self.varied.draw(self.side, self.seed, step, place)).collect();
        let mut pixels = self.batches.gather(&films, 0)?.pixels;
        let each = pixels.par_chunks_mut(self.side * self.side).enumerate();
        each.for_each(|(place, film)| self.varied.retouch(film, self.seed, step, place));
        engine.upload(plan, "pixels", &pixels)?;
        engine.write(plan, "augmentation", &augmentation)?;
        Ok(Fed { films, augmentation })
    }

    /// Masks of films, see [`Batches::masks`].
    pub fn masks(&self, films: &[usize]) -> Result<Vec<u8>, Error> {
        Ok(self.batches.masks(films)?)
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order = self.films.clone();
        Rng::new(self.seed, STREAM, epoch as u64).shuffle(&mut order);
        order
    }
}

/// Is given a film, as a number in the data set, and its numbers.
pub type Take<'a> = dyn FnMut(usize, &[f64]) -> Result<(), Error> + 'a;

/// The outputs `names` of a learner's prediction for films as they are: `take` is given each film with its numbers, of one
/// output behind the other.
pub fn predict(
    learner: &mut Learner,
    dataset: &Arc<Dataset>,
    films: &[usize],
    config: &Config,
    batch: usize,
    names: &[&str],
    take: &mut Take<'_>,
) -> Result<(), Error> {
    if films.is_empty() {
        return Ok(());
    }
    let batches = batches(dataset, films, config, 1)?;
    let plain = Varied::Nothing.draw(config.image_size, 0, 0, 0).repeat(batch);
    for part in films.chunks(batch) {
        let mut padded = part.to_vec();
        padded.resize(batch, part[0]); // what fills the last batch is not taken
        let pixels = batches.gather(&padded, 0)?.pixels;
        let outputs = learner.predict(names, |engine, plan| {
            engine.upload(plan, "pixels", &pixels)?;
            engine.write(plan, "augmentation", &plain)
        })?;
        for (at, &film) in part.iter().enumerate() {
            let own = |numbers: &Vec<f64>| numbers[numbers.len() / batch * at..][..numbers.len() / batch].to_vec();
            take(film, &outputs.iter().flat_map(own).collect::<Vec<f64>>())?;
        }
    }
    Ok(())
}
