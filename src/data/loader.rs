//! Batches from a packed data set: what lies in a batch is a pure function of the options and the step, so resuming
//! needs one number and threads change nothing.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::augment::{NUMBERS, Recipe};
use super::dataset::Dataset;
use super::error::Error;
use crate::base::counted;
use crate::base::random::Rng;

const STREAM: u32 = u32::from_be_bytes(*b"ordr");
/// Batches that wait, per worker.
const RING: usize = 2;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Films in a batch.
    pub batch: usize,
    /// Side of a film in pixels; larger packed films are averaged down.
    pub image_size: usize,
    /// Longest text in tokens, at least 2; longer ones keep their beginning and the final `[SEP]`.
    pub text_len: usize,
    /// Of the order and the augmentation.
    pub seed: u64,
    /// Augmentation.
    pub recipe: Recipe,
}

/// One batch in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// Numbers of the films in the data set \[batch\].
    pub samples: Vec<usize>,
    /// Pass over the data the batch belongs to, from 0.
    pub epoch: u64,
    /// Gray values [batch, image_size, image_size].
    pub pixels: Vec<u8>,
    /// Augmentation numbers [batch, 13].
    pub augmentation: Vec<f32>,
    /// Token ids of all texts, one after the other, without padding.
    pub tokens: Vec<i32>,
    /// Tokens of each text \[batch\].
    pub lengths: Vec<usize>,
}

/// The endless row of batches of a selection of films: shuffled anew each epoch, incomplete batches left out.
pub struct Batches {
    dataset: Arc<Dataset>,
    samples: Vec<usize>,
    options: LoaderOptions,
    /// Whether pixels are read.
    pixels: bool,
    shrink: Option<Shrink>,
    /// The order of the epoch asked for last.
    order: Mutex<Option<(u64, Arc<Vec<usize>>)>>,
}

impl Batches {
    /// Batches of the films `samples` (for instance [`Dataset::select`]).
    ///
    /// # Errors
    /// If there are fewer films than a batch holds, a film's number is too large, the packed films are smaller than
    /// `image_size`, or an option is impossible.
    pub fn new(dataset: Arc<Dataset>, samples: Vec<usize>, options: LoaderOptions) -> Result<Self, Error> {
        let LoaderOptions { batch, image_size, text_len, .. } = options;
        let packed = dataset.size();
        let fault = if batch == 0 || image_size == 0 || text_len < 2 {
            format!("batch {batch}, image size {image_size}, text length {text_len}: give at least 1, 1 and 2")
        } else if image_size > packed {
            format!(
                "films are packed at {packed} pixels, {image_size} are asked for; pack again with size {image_size}"
            )
        } else if samples.is_empty() {
            "no film can be used: none of those asked for has a text, or their split is empty; pack films with reports, or with another \
             split"
                .into()
        } else if samples.len() < batch {
            let films = counted(samples.len(), "film");
            format!("{films} can be used, a batch has {batch}; give a smaller batch or more films")
        } else if let Some(sample) = samples.iter().find(|&&sample| sample >= dataset.len()) {
            format!("film {sample} is asked for, the data set has {}", dataset.len())
        } else {
            let shrink = (packed != image_size).then(|| Shrink::new(packed, image_size));
            return Ok(Self { dataset, samples, options, pixels: true, shrink, order: Mutex::new(None) });
        };
        Err(Error::Option(fault))
    }

    /// The films that they are of.
    pub fn samples(&self) -> &[usize] {
        &self.samples
    }

    /// The same batches without pixels, for one who has the films already: [`HostBatch::pixels`] is empty.
    pub fn without_pixels(self) -> Self {
        Self { pixels: false, ..self }
    }

    /// Batches in one pass over the films.
    pub fn per_epoch(&self) -> u64 {
        (self.samples.len() / self.options.batch) as u64
    }

    /// Batch number `step`, counted from 0 over all epochs.
    ///
    /// # Errors
    /// If a file was cut while in use.
    pub fn at(&self, step: u64) -> Result<HostBatch, Error> {
        let (epoch, batch) = (step / self.per_epoch(), (step % self.per_epoch()) as usize);
        let order = self.order(epoch);
        self.gather(&order[batch * self.options.batch..][..self.options.batch], epoch)
    }

    /// A batch of the given films (any number, each below [`Dataset::len`]), augmented as in `epoch`.
    ///
    /// # Errors
    /// If a file was cut while in use.
    pub fn gather(&self, samples: &[usize], epoch: u64) -> Result<HostBatch, Error> {
        let LoaderOptions { image_size, text_len, seed, recipe, .. } = self.options;
        let mut batch = HostBatch {
            samples: samples.to_vec(),
            epoch,
            pixels: Vec::with_capacity(if self.pixels { samples.len() * image_size * image_size } else { 0 }),
            augmentation: Vec::with_capacity(samples.len() * NUMBERS),
            tokens: Vec::new(),
            lengths: Vec::with_capacity(samples.len()),
        };
        for &sample in samples {
            self.dataset.uncut(sample)?;
            match &self.shrink {
                _ if !self.pixels => {}
                Some(shrink) => shrink.append(self.dataset.pixels(sample), &mut batch.pixels),
                None => batch.pixels.extend_from_slice(self.dataset.pixels(sample)),
            }
            batch.augmentation.extend(recipe.draw(image_size, seed, epoch, sample));
            let tokens = self.dataset.tokens(sample);
            let length = tokens.len().min(text_len);
            let (beginning, end) = match tokens.last() {
                Some(last) => (&tokens[..length - 1], Some(last)),
                None => (tokens, None),
            };
            batch.tokens.extend(beginning.iter().chain(end).map(|&token| token as i32));
            batch.lengths.push(length);
        }
        Ok(batch)
    }

    /// Masks of the given films at the batch's size [films, image_size, image_size]: 255 where it is set, in between on
    /// edges that fall into a pixel; of a film without a mask nothing is set. Values up to 127 in a file are not set.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn masks(&self, samples: &[usize]) -> Result<Vec<u8>, Error> {
        let packed = self.dataset.size();
        let mut masks = Vec::with_capacity(samples.len() * self.options.image_size.pow(2));
        for &sample in samples {
            let set = |&value: &u8| if value > 127 { 255 } else { 0 };
            let mask = self.dataset.record(sample)?.mask.map(|mask| mask.iter().map(set).collect());
            let mask: Vec<u8> = mask.unwrap_or_else(|| vec![0; packed * packed]);
            match &self.shrink {
                Some(shrink) => shrink.append(&mask, &mut masks),
                None => masks.extend(mask),
            }
        }
        Ok(masks)
    }

    /// The films of `epoch` in order.
    fn order(&self, epoch: u64) -> Arc<Vec<usize>> {
        let mut kept = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = kept.as_ref().filter(|(of, _)| *of == epoch) {
            return order.clone();
        }
        let mut order = self.samples.clone();
        Rng::new(self.options.seed, STREAM, epoch).shuffle(&mut order);
        let order = Arc::new(order);
        *kept = Some((epoch, order.clone()));
        order
    }
}

/// Makes batches ahead on threads of its own and hands them out in order; at most two per thread wait.
pub struct Loader {
    /// Worker `i` makes batches `start + i`, `start + i + workers`, ...; so taking turns gives the order.
    rings: Vec<Receiver<Result<HostBatch, Error>>>,
    threads: Vec<JoinHandle<()>>,
    turn: usize,
}

impl Loader {
    /// Starts `workers` threads (at least one) at batch `start`.
    ///
    /// # Errors
    /// If they are too many, or the system gives no thread.
    pub fn start(batches: Arc<Batches>, start: u64, workers: usize) -> Result<Self, Error> {
        let workers = workers.max(1);
        crate::base::threads::allowed(workers).map_err(Error::Option)?;
        let mut loader = Self { rings: Vec::new(), threads: Vec::new(), turn: 0 };
        for worker in 0..workers as u64 {
            let (sender, receiver) = sync_channel(RING);
            let batches = batches.clone();
            let work = move || {
                for step in (start + worker..).step_by(workers) {
                    // Sending fails once the loader is dropped.
                    if sender.send(batches.at(step)).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("g2d loader {worker}")).spawn(work);
            loader.threads.push(thread.map_err(|error| Error::Option(format!("no thread for loading: {error}")))?);
            loader.rings.push(receiver);
        }
        Ok(loader)
    }
}

impl Iterator for Loader {
    type Item = Result<HostBatch, Error>;

    /// The next batch, or why it could not be read; there is always one.
    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.rings[self.turn].recv().ok();
        self.turn = (self.turn + 1) % self.rings.len();
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.rings.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Area average from [from, from] to [to, to], exact in integers, rounded half up.
///
/// Lengths are counted in 1/to of an input pixel: an input pixel is `to` long, an output pixel `from`.
struct Shrink {
    from: usize,
    /// Per output position, the input positions it covers and how much of each.
    cover: Vec<Vec<(usize, u32)>>,
}

impl Shrink {
    fn new(from: usize, to: usize) -> Self {
        let cover_of = |output: usize| {
            let (begin, end) = (output * from, (output + 1) * from);
            let covered = begin / to..end.div_ceil(to);
            covered.map(|input| (input, (end.min((input + 1) * to) - begin.max(input * to)) as u32)).collect()
        };
        Self { from, cover: (0..to).map(cover_of).collect() }
    }

    fn append(&self, film: &[u8], pixels: &mut Vec<u8>) {
        let mut row = vec![0u32; self.from];
        let area = (self.from * self.from) as u64;
        for rows in &self.cover {
            row.fill(0);
            for &(y, weight) in rows {
                for (sum, &pixel) in row.iter_mut().zip(&film[y * self.from..]) {
                    *sum += weight * u32::from(pixel);
                }
            }
            pixels.extend(self.cover.iter().map(|columns| {
                let sum: u64 = columns.iter().map(|&(x, weight)| u64::from(weight) * u64::from(row[x])).sum();
                ((sum + area / 2) / area) as u8
            }));
        }
    }
}
