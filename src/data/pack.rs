//! Packing: everything slow, done once. Tables and films in, a data set of shards out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::json;

use super::dataset::DatasetWriter;
use super::decode::{Fault, film};
use super::error::Error;
use super::funnel::Funnel;
use super::pairs::{Pair, read_boxes, read_pairs};
use super::prepare::{Resize, mask_values, prepare};
use super::record::{BoundingBox, MAX_TOKENS, Record, Split};
use super::split;
use super::tokenizer::Tokenizer;

/// Rows worked on at a time; bounds what waits to be written.
const CHUNK: usize = 64;

/// What to pack and how.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// `pairs.csv`; see [`read_pairs`].
    pub pairs: PathBuf,
    /// `boxes.csv`; see [`read_boxes`].
    pub boxes: Option<PathBuf>,
    /// The folder to write: new, empty, or holding an unfinished pack.
    pub out: PathBuf,
    /// Side of a packed film in pixels.
    pub size: usize,
    /// How films become square.
    pub resize: Resize,
    /// `vocab.txt` or `tokenizer.json`; without one a vocabulary is trained on the texts of the training split.
    pub tokenizer: Option<PathBuf>,
    /// Whether text is lower-cased; see [`Tokenizer::load`].
    pub lowercase: bool,
    /// Of the split by patient, where the table gives none.
    pub seed: u64,
    /// Threads; 0 is one per processor.
    pub threads: usize,
}

impl PackOptions {
    /// The defaults: 256 pixels, [`Resize::Fit`], lower-cased, a vocabulary of its own, seed 0, all processors.
    pub fn new(pairs: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            pairs: pairs.into(),
            boxes: None,
            out: out.into(),
            size: 256,
            resize: Resize::default(),
            tokenizer: None,
            lowercase: true,
            seed: 0,
            threads: 0,
        }
    }
}

/// How far packing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows worked on.
    pub done: usize,
    /// Rows in the table.
    pub total: usize,
}

/// A row that became a film.
struct Packed {
    pixels: Vec<u8>,
    mask: Option<Vec<u8>>,
    boxes: Vec<BoundingBox>,
    tokens: Vec<u32>,
}

/// A row that did not: the reason to count by, and the file with particulars.
type Refused = (String, String);

/// Packs films and texts into the folder `options.out`.
///
/// Rows whose film or mask cannot be used are dropped and counted. The result depends on the files and options, not
/// on the number of threads. `progress` is called from the working threads; `cancelled` is looked at between rows.
///
/// # Errors
/// If a table breaks a rule, more than half of the rows cannot be used, the tokenizer cannot be read, the folder is
/// in use or cannot be written, or packing is cancelled. Then nothing that could be opened is left.
pub fn pack(
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Funnel, Error> {
    let pairs = read_pairs(&options.pairs)?;
    let boxes = options.boxes.as_deref().map(read_boxes).transpose()?.unwrap_or_default();
    let splits = split::assign(&pairs, options.seed, &options.pairs)?;
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::load(path, options.lowercase)?,
        None => {
            let train = pairs.iter().zip(&splits).filter(|(_, split)| **split == Split::Train);
            Tokenizer::trained(train.map(|(pair, _)| pair.text.as_str()), options.lowercase)?
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|error| Error::Option(format!("no threads for packing: {error}")))?;
    let masks = pairs.iter().any(|pair| !pair.mask.is_empty());
    let mut writer = DatasetWriter::create(&options.out, options.size, masks)?;
    let mut funnel = Funnel { rows: pairs.len(), vocabulary: tokenizer.vocab_size(), ..Funnel::default() };
    let work = Work { options, boxes: &boxes, tokenizer: &tokenizer };
    let done = AtomicUsize::new(0);
    let one = |pair: &Pair| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let packed = work.pack(pair);
        progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total: pairs.len() });
        packed
    };
    for (pairs, splits) in pairs.chunks(CHUNK).zip(splits.chunks(CHUNK)) {
        let chunk: Vec<_> = pool.install(|| pairs.par_iter().map(one).collect());
        for ((pair, &split), packed) in pairs.iter().zip(splits).zip(chunk) {
            match packed? {
                Ok(packed) => keep(pair, split, packed, &mut writer, &mut funnel)?,
                Err((reason, file)) => funnel.drop_row(reason, format!("line {}, id {}: {file}", pair.line, pair.id)),
            }
        }
    }
    if funnel.kept * 2 < funnel.rows {
        let (rows, dropped) = (funnel.rows, funnel.rows - funnel.kept);
        return Err(Error::TooManyDropped { path: options.pairs.clone(), dropped, rows, reasons: funnel.reasons() });
    }
    funnel.warnings = warnings(&pairs, &boxes, &funnel);
    let made = json!({
        "resize": options.resize, "lowercase": options.lowercase, "seed": options.seed, "funnel": funnel,
        "tokenizer": if options.tokenizer.is_some() { "given" } else { "trained" },
    });
    writer.finish(tokenizer.json(), tokenizer.vocab_size(), made)?;
    Ok(funnel)
}

/// What every row needs.
struct Work<'a> {
    options: &'a PackOptions,
    boxes: &'a HashMap<String, Vec<BoundingBox>>,
    tokenizer: &'a Tokenizer,
}

impl Work<'_> {
    fn pack(&self, pair: &Pair) -> Result<Result<Packed, Refused>, Error> {
        let folder = self.options.pairs.parent().unwrap_or(Path::new(""));
        let refused =
            |kind: &str, file: &str, fault: Fault| (format!("{kind}: {}", fault.reason()), format!("{file}: {fault}"));
        let planes = || {
            let of_image = |fault| refused("image", &pair.image, fault);
            let image = film(&folder.join(&pair.image)).map_err(of_image)?;
            let shape = (image.width, image.height);
            let (pixels, geometry) = prepare(image, self.options.size, self.options.resize).map_err(of_image)?;
            if pair.mask.is_empty() {
                return Ok((pixels, geometry, None));
            }
            let of_mask = |fault| refused("mask", &pair.mask, fault);
            let mask = film(&folder.join(&pair.mask)).map_err(of_mask)?;
            if (mask.width, mask.height) != shape {
                let (width, height) = shape;
                return Err(of_mask(Fault::Size(format!("{}x{}, not {width}x{height}", mask.width, mask.height))));
            }
            let placed = geometry.place_mask(&mask_values(mask.samples), shape.0);
            Ok((pixels, geometry, Some(placed)))
        };
        let (pixels, geometry, mask) = match planes() {
            Ok(planes) => planes,
            Err(refused) => return Ok(Err(refused)),
        };
        let boxes = self.boxes.get(&pair.id).into_iter().flatten().filter_map(|one| geometry.place(one)).collect();
        let tokens = if pair.text.is_empty() { Vec::new() } else { self.tokenizer.encode(&pair.text)? };
        Ok(Ok(Packed { pixels, mask, boxes, tokens }))
    }
}

fn keep(
    pair: &Pair,
    split: Split,
    packed: Packed,
    writer: &mut DatasetWriter,
    funnel: &mut Funnel,
) -> Result<(), Error> {
    funnel.kept += 1;
    funnel.empty_text += usize::from(pair.text.is_empty());
    funnel.longest_texts += usize::from(packed.tokens.len() == MAX_TOKENS);
    funnel.masks += usize::from(packed.mask.is_some());
    funnel.boxes += packed.boxes.len();
    *funnel.splits.entry(split).or_default() += 1;
    writer.push(&Record {
        id: pair.id.clone(),
        patient_id: pair.patient_id.clone(),
        view: pair.view.clone(),
        findings: pair.findings.clone(),
        text: pair.text.clone(),
        boxes: packed.boxes,
        columns: pair.columns.clone(),
        split,
        pixels: &packed.pixels,
        mask: packed.mask.as_deref(),
        tokens: &packed.tokens,
    })
}

fn warnings(pairs: &[Pair], boxes: &HashMap<String, Vec<BoundingBox>>, funnel: &Funnel) -> Vec<String> {
    let mut warnings = Vec::new();
    let ids: std::collections::HashSet<&str> = pairs.iter().map(|pair| pair.id.as_str()).collect();
    if let Some(first) = boxes.keys().filter(|id| !ids.contains(id.as_str())).min() {
        let count = boxes.keys().filter(|id| !ids.contains(id.as_str())).count();
        warnings.push(format!("boxes of {count} ids that are not in the table (first: {first})"));
    }
    let drawn = pairs.iter().filter(|pair| pair.split.is_none() && pair.patient_id.is_empty()).count();
    if drawn > 0 {
        warnings.push(format!(
            "{drawn} rows have neither split nor patient_id and were split by id: films of one patient may be on both sides"
        ));
    }
    for split in Split::ALL.iter().filter(|split| !funnel.splits.contains_key(split)) {
        warnings.push(format!("the split {} is empty", split.name()));
    }
    if funnel.kept == funnel.empty_text {
        warnings.push("no film has a text: nothing to pre-train on".into());
    }
    warnings
}
