//! How fast batches leave a packed data set: `g2d bench loader`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Spread;
use crate::base::Rng;
use crate::data::augment::Recipe;
use crate::data::dataset::DatasetWriter;
use crate::data::loader::{Batches, Loader, LoaderOptions};
use crate::data::{Dataset, Record};
use crate::error::Error;

/// Stream of the random films and texts.
const STREAM: u32 = 0x0be1;
/// Pixels of all random films: as many as no cache holds; 512 films of 256x256.
const PIXELS: usize = 1 << 25;
const VOCAB_SIZE: usize = 28996;
const TEXT_LENGTH: usize = 256;
/// Rates are taken in so many parts of the time.
const PARTS: u32 = 10;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Work {
    /// The packed data set.
    pub data: PathBuf,
    /// Films in a batch.
    pub batch: usize,
    /// Side of a film, pixels.
    pub image_size: usize,
    /// Threads that make batches; 0: as many as there are cores.
    pub threads: usize,
}

impl Work {
    fn workers(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Films per second; nobody else uses the machine's cores, the shards are in memory after the first pass.
    pub samples_per_s: Spread,
    /// Threads that made batches.
    pub threads: usize,
    /// Films in a batch.
    pub batch: usize,
    /// Side of a film, pixels.
    pub image_size: usize,
    /// Films that were drawn from.
    pub films: usize,
}

/// The loader of training on the films of a data set that have a text, with the default augmentation's numbers.
///
/// # Errors
/// If the data set cannot be opened or has too few or too small films.
pub fn open(work: &Work) -> Result<Loader, Error> {
    Ok(start(work)?.0)
}

/// The loader and how many films it draws from.
fn start(work: &Work) -> Result<(Loader, usize), Error> {
    let dataset = Arc::new(Dataset::open(&work.data)?);
    let samples = dataset.select(None, true);
    let films = samples.len();
    let options = LoaderOptions {
        batch: work.batch,
        image_size: work.image_size,
        text_len: TEXT_LENGTH,
        seed: 0,
        recipe: Recipe::Default,
    };
    let batches = Arc::new(Batches::new(dataset, samples, options)?);
    Ok((Loader::start(batches, 0, work.workers())?, films))
}

/// Takes batches for so long, after one pass over the films.
///
/// # Errors
/// As [`open`].
pub fn run(work: &Work, time: Duration) -> Result<Report, Error> {
    let (mut loader, films) = start(work)?;
    let mut take = || loader.next().ok_or(Error::LoaderStopped)?.map_err(Error::from);
    for _ in 0..films / work.batch {
        take()?;
    }
    let mut rate = || {
        let (start, mut batches) = (Instant::now(), 0);
        loop {
            take()?;
            batches += 1;
            let passed = start.elapsed();
            if passed >= time / PARTS {
                return Ok((batches * work.batch) as f64 / passed.as_secs_f64());
            }
        }
    };
    let samples_per_s = Spread::of((0..PARTS).map(|_| rate()).collect::<Result<_, Error>>()?);
    Ok(Report { samples_per_s, threads: work.workers(), batch: work.batch, image_size: work.image_size, films })
}

/// A packed data set of random films and texts in the system's temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Synthetic(PathBuf);

impl Synthetic {
    /// Writes films [size, size].
    ///
    /// # Errors
    /// If the size is impossible or the folder cannot be written.
    pub fn write(size: usize) -> Result<Self, Error> {
        let synthetic = Self(std::env::temp_dir().join(format!("g2d-bench-loader-{}", std::process::id())));
        let mut writer = DatasetWriter::create(synthetic.path(), size, false)?;
        let mut rng = Rng::new(0, STREAM, 0);
        let mut pixels = vec![0; size * size];
        for film in 0..(PIXELS / (size * size)).clamp(64, 4096) {
            pixels.iter_mut().for_each(|pixel| *pixel = rng.next_u32() as u8);
            let tokens: Vec<u32> = (0..3 + rng.below(TEXT_LENGTH - 2)).map(|_| rng.below(VOCAB_SIZE) as u32).collect();
            let record = Record { pixels: &pixels, tokens: &tokens, id: film.to_string(), ..Record::default() };
            writer.push(&record)?;
        }
        writer.finish("{}", VOCAB_SIZE, serde_json::json!("random films, to measure loading"))?;
        Ok(synthetic)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        // What stays is in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
