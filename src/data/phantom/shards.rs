//! Phantoms drawn straight into shards: no file per film is written and read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Film, Style, TOGETHER, draw_sized, said};
use crate::data::dataset::DatasetWriter;
use crate::data::decode;
use crate::data::error::Error;
use crate::data::prepare::{Geometry, Resize, prepare};
use crate::data::record::{BoundingBox, Record, Split};
use crate::data::tokenizer::Tokenizer;

/// How films are drawn and worded; counted up whenever the same seed gives other films.
pub const DRAWING: u32 = 3;
/// Films drawn at a time.
const CHUNK: usize = 256;
/// Reports that a tokenizer is trained on, however many films there are, so that weights fit films of another count.
const REPORTS: u64 = 8000;
/// Films are drawn so much larger than they are packed: resizing smooths them.
const DRAWN: f64 = 1.25;

/// Which phantoms.
#[derive(Clone, Copy)]
pub struct Phantoms<'a> {
    /// Whose chests, in which words.
    pub style: Style,
    /// Films for training, validation and test, the first ones of the seed in this order; those that would share a
    /// patient with the split before are left out.
    pub counts: [usize; 3],
    /// The seed.
    pub seed: u64,
    /// Side of a packed film, pixels.
    pub size: usize,
    /// What the reports are tokenised with.
    pub tokenizer: &'a Tokenizer,
}

impl Phantoms<'_> {
    /// Split and index of each film.
    fn films(&self) -> Vec<(Split, u64)> {
        let (mut films, mut first) = (Vec::new(), 0);
        for (split, count) in Split::ALL.into_iter().zip(self.counts) {
            let end = first + count as u64;
            films.extend((first..end).map(|index| (split, index)));
            first = end.next_multiple_of(TOGETHER);
        }
        films
    }
}

/// The tokenizer of phantoms that are trained on: a vocabulary of that style's reports of the seed.
///
/// # Errors
/// None that is known: reports of phantoms can be normalised.
pub fn tokenizer(seed: u64) -> Result<Tokenizer, Error> {
    Tokenizer::trained((0..REPORTS).map(|index| said(Style::Training, seed, index).text), true)
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
    let mut writer = DatasetWriter::create(out, what.size, true)?;
    let drawn = AtomicUsize::new(0);
    let one = |&(split, index): &(Split, u64)| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::UNPACKED);
        }
        let film = draw_sized(what.style, what.seed, index, (what.size as f64 * DRAWN) as usize);
        let packed = Packed::of(film, what.size, what.tokenizer)?;
        progress(drawn.fetch_add(1, Ordering::Relaxed) + 1);
        Ok((split, packed))
    };
    for chunk in what.films().chunks(CHUNK) {
        let films: Vec<(Split, Packed)> = chunk.par_iter().map(one).collect::<Result<_, _>>()?;
        for (split, film) in &films {
            writer.push(&film.record(*split))?;
        }
    }
    let made = serde_json::json!({ "phantoms": what.counts, "style": format!("{:?}", what.style), "seed": what.seed });
    writer.finish(what.tokenizer.json(), what.tokenizer.vocab_size(), made)
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
