//! Phantoms drawn straight into shards: no file per film is written and read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Film, draw_sized, said};
use crate::data::dataset::DatasetWriter;
use crate::data::decode;
use crate::data::error::Error;
use crate::data::prepare::{Geometry, Resize, prepare};
use crate::data::record::{BoundingBox, Record, Split};
use crate::data::tokenizer::Tokenizer;

/// How films are drawn and worded; counted up whenever the same seed gives other films.
pub const DRAWING: u32 = 3;
/// Films drawn at a time.
const CHUNK: u64 = 256;
/// Reports that a tokenizer is trained on, however many films there are, so that weights fit films of another count.
const REPORTS: u64 = 8000;
/// Films are drawn so much larger than they are packed: resizing smooths them.
const DRAWN: f64 = 1.25;

/// Which phantoms.
#[derive(Clone, Copy, Debug)]
pub struct Phantoms<'a> {
    /// Films 0..`count` of the seed.
    pub count: usize,
    /// The seed.
    pub seed: u64,
    /// Side of a packed film, pixels.
    pub size: usize,
    /// The split that all are of.
    pub split: Split,
    /// A tokenizer; else one is trained on reports of the seed.
    pub tokenizer: Option<&'a Path>,
}

/// Draws films into shards in the new folder `out`, in parallel on the current thread pool. `progress` is told how many
/// are drawn; `cancelled` is looked at between films.
///
/// # Errors
/// If the folder is in use or cannot be written, or drawing is cancelled. Then nothing that could be opened is left.
pub fn pack(
    out: &Path,
    what: &Phantoms<'_>,
    progress: &(dyn Fn(usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<(), Error> {
    let tokenizer = match what.tokenizer {
        Some(path) => Tokenizer::load(path, true)?,
        None => Tokenizer::trained((0..REPORTS).map(|index| said(what.seed, index).text), true)?,
    };
    let mut writer = DatasetWriter::create(out, what.size, true)?;
    let drawn = AtomicUsize::new(0);
    let one = |index: u64| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let film = draw_sized(what.seed, index, (what.size as f64 * DRAWN) as usize);
        let packed = Packed::of(film, what.size, &tokenizer)?;
        progress(drawn.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(packed)
    };
    for first in (0..what.count as u64).step_by(CHUNK as usize) {
        let last = (first + CHUNK).min(what.count as u64);
        let films: Vec<Packed> = (first..last).into_par_iter().map(one).collect::<Result<_, _>>()?;
        for film in &films {
            writer.push(&film.record(what.split))?;
        }
    }
    let made = serde_json::json!({ "phantoms": what.count, "seed": what.seed });
    writer.finish(tokenizer.json(), tokenizer.vocab_size(), made)
}

/// A film as it is stored.
struct Packed {
    film: Film,
    pixels: Vec<u8>,
    mask: Vec<u8>,
    boxes: Vec<BoundingBox>,
    tokens: Vec<u32>,
}

impl Packed {
    fn of(mut film: Film, size: usize, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let (width, height) = (film.width, film.height);
        let samples = decode::Samples::Eight(std::mem::take(&mut film.pixels));
        let (pixels, geometry) = prepare(decode::Film { width, height, samples }, size, Resize::Fit)
            .map_err(|fault| Error::Option(format!("phantom {}: {fault}", film.id)))?;
        let mask = geometry.place_mask(&std::mem::take(&mut film.mask), width);
        let boxes = boxes(&film, &geometry);
        let tokens = tokenizer.encode(&film.text)?;
        Ok(Self { film, pixels, mask, boxes, tokens })
    }

    fn record(&self, split: Split) -> Record<'_> {
        Record {
            id: self.film.id.clone(),
            patient_id: self.film.patient_id.clone(),
            view: self.film.view.into(),
            findings: self.film.labels(),
            text: self.film.text.clone(),
            boxes: self.boxes.clone(),
            columns: BTreeMap::new(),
            split,
            pixels: &self.pixels,
            mask: Some(&self.mask),
            tokens: &self.tokens,
        }
    }
}

fn boxes(film: &Film, geometry: &Geometry) -> Vec<BoundingBox> {
    let placed = film.boxes.iter().map(|it| BoundingBox {
        label: it.label.into(),
        x: it.x as f32,
        y: it.y as f32,
        w: it.w as f32,
        h: it.h as f32,
    });
    placed.filter_map(|one| geometry.place(&one)).collect()
}
