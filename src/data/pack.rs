//! Packing: everything slow, done once. Tables and films in, a data set of shards out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::json;

use super::archive::Found;
use super::budget::Budget;
use super::dataset::DatasetWriter;
use super::decode::{self, Fault, Source};
use super::error::Error;
use super::funnel::Funnel;
use super::pairs::{BadRow, Pair, read_boxes};
use super::prepare::{Geometry, Resize, mask_values, prepare};
use super::record::{BoundingBox, MAX_TOKENS, Record, Split};
use super::survey::{Row, Rows, Survey};
use super::tokenizer::Tokenizer;

/// Rows per thread that are worked on at a time: enough for the threads to end together.
const CHUNK: usize = 16;
/// Bytes of packed films and of texts that wait to be written, at most (and one row more).
const WAITING: usize = 64 << 20;

/// What to pack and how.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// `pairs.csv`; see [`super::pairs::Pairs`].
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
    /// The first row that cannot be used ends packing; else such rows are dropped and counted.
    pub strict: bool,
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
            strict: false,
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
    pair: Pair,
    pixels: Vec<u8>,
    mask: Option<Vec<u8>>,
    boxes: Vec<BoundingBox>,
    /// Boxes of it that lie outside the film, or outside what was kept of it.
    outside: usize,
    tokens: Vec<u32>,
}

/// A row that did not.
struct Refused {
    /// 0 where there is no table.
    line: u64,
    /// To count by.
    reason: String,
    /// Whose row, which file, what is wrong with it.
    what: String,
}

impl Refused {
    fn count(self, funnel: &mut Funnel) {
        let place = if self.line > 0 { format!("line {}, ", self.line) } else { String::new() };
        funnel.drop_row(self.reason, place + &self.what);
    }

    fn error(self, table: &Path) -> Error {
        let what = format!("{}; repair or remove the row, or leave out --strict", self.what);
        Error::Table { path: table.to_owned(), line: self.line, what }
    }
}

/// Packs films and texts into the folder `options.out`.
///
/// Rows that break a rule and rows whose film or mask cannot be used are dropped and counted, unless `options.strict`.
/// The result depends on the files and options, not on the number of threads. The table is read row by row (two or
/// three times) and films wait for each other if they are large, so memory stays below 1 GB whatever the input.
/// `progress` is called from the working threads; `cancelled` is looked at between rows.
///
/// # Errors
/// If a table breaks a rule, more than half of the rows cannot be used, the tokenizer cannot be read, the folder is
/// in use or cannot be written, or packing is cancelled. Then nothing that could be opened is left.
pub fn pack(
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Funnel, Error> {
    let boxes = options.boxes.as_deref().map(read_boxes).transpose()?.unwrap_or_default();
    pack_rows(Rows::Table(&options.pairs), &boxes, options, progress, cancelled)
}

/// Packs films that were found in a folder, as [`pack`] does those of a table. What is written names no file.
///
/// # Errors
/// As [`pack`].
pub fn pack_found(
    found: &Found,
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Funnel, Error> {
    pack_rows(Rows::Found(found), &HashMap::new(), options, progress, cancelled)
}

fn pack_rows(
    rows: Rows,
    boxes: &HashMap<String, Vec<BoundingBox>>,
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Funnel, Error> {
    let survey = Survey::of(rows, options.seed, options.strict)?;
    let pool = crate::base::threads::pool(options.threads).map_err(Error::Option)?;
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::load(path, options.lowercase)?,
        None => pool.install(|| trained(&survey, options.lowercase))?,
    };
    let mut writer = DatasetWriter::create(&options.out, options.size, survey.masks)?;
    let mut funnel = Funnel { rows: survey.rows, vocabulary: tokenizer.vocab_size(), ..Funnel::default() };
    let work =
        Work { folder: rows.folder(), options, boxes, tokenizer: &tokenizer, memory: Budget::new(decode::MEMORY) };
    let done = AtomicUsize::new(0);
    let one = |row: Row| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let packed = work.pack(row);
        progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total: survey.rows });
        packed
    };
    let film_bytes = options.size * options.size * (1 + usize::from(survey.masks));
    let chunk_rows = (WAITING / film_bytes).clamp(1, CHUNK * pool.current_num_threads());
    let mut next = survey.rows()?.fuse();
    loop {
        let chunk = take(&mut next, chunk_rows)?;
        if chunk.is_empty() {
            break;
        }
        let packed: Vec<_> = pool.install(|| chunk.into_par_iter().map(one).collect());
        for packed in packed {
            match packed? {
                Ok(packed) => keep(packed, &survey, &mut writer, &mut funnel)?,
                Err(refused) if options.strict => return Err(refused.error(rows.path())),
                Err(refused) => refused.count(&mut funnel),
            }
        }
    }
    if done.into_inner() != survey.rows {
        return Err(Error::Table { path: rows.path().to_owned(), line: 1, what: "it was changed meanwhile".into() });
    }
    if funnel.kept * 2 < funnel.rows {
        let (path, dropped) = (rows.path().to_owned(), funnel.rows - funnel.kept);
        return Err(Error::TooManyDropped { path, dropped, rows: funnel.rows, reasons: funnel.reasons() });
    }
    funnel.warnings = warnings(&survey, boxes, &funnel);
    if let Rows::Found(found) = rows {
        funnel.filters.clone_from(&found.filters);
        funnel.warnings.extend_from_slice(&found.warnings);
    }
    writer.finish(tokenizer.json(), tokenizer.vocab_size(), made(rows, options, &funnel))?;
    Ok(funnel)
}

/// How a data set was made, for people.
fn made(rows: Rows, options: &PackOptions, funnel: &Funnel) -> serde_json::Value {
    let funnel = match rows {
        Rows::Table(_) => funnel.clone(),
        Rows::Found(_) => funnel.without_examples(),
    };
    json!({
        "resize": options.resize, "lowercase": options.lowercase, "seed": options.seed, "funnel": funnel,
        "tokenizer": if options.tokenizer.is_some() { "given" } else { "trained" },
    })
}

/// A tokenizer trained on the texts of the training split.
fn trained(survey: &Survey, lowercase: bool) -> Result<Tokenizer, Error> {
    let mut failed = None;
    let rows = survey.rows()?.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let train = rows.filter_map(Result::ok).filter(|pair| survey.split(pair) == Split::Train);
    let tokenizer = Tokenizer::trained(train.map(|pair| pair.text), lowercase);
    failed.map_or(tokenizer, Err)
}

/// The next rows: at most `count`, and not many that are long.
fn take(rows: &mut impl Iterator<Item = Result<Row, Error>>, count: usize) -> Result<Vec<Row>, Error> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < count
        && bytes < WAITING
        && let Some(row) = rows.next()
    {
        let row = row?;
        bytes += row.as_ref().map_or(0, |pair| pair.text.len());
        taken.push(row);
    }
    Ok(taken)
}

/// What every row needs.
struct Work<'a> {
    /// What files are relative to.
    folder: &'a Path,
    options: &'a PackOptions,
    boxes: &'a HashMap<String, Vec<BoundingBox>>,
    tokenizer: &'a Tokenizer,
    /// Of the threads together, for decoding.
    memory: Budget,
}

/// A film, where it lies, its mask.
type Planes = (Vec<u8>, Geometry, Option<Vec<u8>>);

impl Work<'_> {
    fn pack(&self, row: Row) -> Result<Result<Packed, Refused>, Error> {
        let pair = match row {
            Ok(pair) => pair,
            Err(BadRow { line, reason, what }) => {
                return Ok(Err(Refused { line, reason: format!("row: {reason}"), what }));
            }
        };
        let (pixels, geometry, mask) = match self.planes(&pair) {
            Ok(planes) => planes,
            Err((kind, file, fault)) => {
                let what = format!("id {}: {file}: {fault}", pair.id);
                return Ok(Err(Refused { line: pair.line, reason: format!("{kind}: {}", fault.reason()), what }));
            }
        };
        let given = self.boxes.get(&pair.id).map_or(&[][..], Vec::as_slice);
        let boxes: Vec<_> = given.iter().filter_map(|one| geometry.place(one)).collect();
        let outside = given.len() - boxes.len();
        let tokens = if pair.text.is_empty() { Vec::new() } else { self.tokenizer.encode(&pair.text)? };
        Ok(Ok(Packed { pair, pixels, mask, boxes, outside, tokens }))
    }

    /// The planes, or which file has what fault. Image and mask are decoded one after the other, so that a thread
    /// never holds memory while it waits for more.
    fn planes<'a>(&self, pair: &'a Pair) -> Result<Planes, (&'static str, &'a str, Fault)> {
        let image = || {
            let source = Source::open(&self.folder.join(&pair.image))?;
            let _held = self.memory.hold(source.need());
            let film = source.decode()?;
            let shape = (film.width, film.height);
            prepare(film, self.options.size, self.options.resize).map(|(pixels, geometry)| (pixels, geometry, shape))
        };
        let (pixels, geometry, shape) = image().map_err(|fault| ("image", pair.image.as_str(), fault))?;
        let mask = || {
            let source = Source::open(&self.folder.join(&pair.mask))?;
            let _held = self.memory.hold(source.need());
            let mask = source.decode()?;
            if (mask.width, mask.height) != shape {
                let (width, height) = shape;
                return Err(Fault::Size(format!("{}x{}, not {width}x{height}", mask.width, mask.height)));
            }
            Ok(geometry.place_mask(&mask_values(mask.samples), shape.0))
        };
        let mask = (!pair.mask.is_empty()).then(mask).transpose();
        Ok((pixels, geometry, mask.map_err(|fault| ("mask", pair.mask.as_str(), fault))?))
    }
}

fn keep(packed: Packed, survey: &Survey, writer: &mut DatasetWriter, funnel: &mut Funnel) -> Result<(), Error> {
    let Packed { pair, pixels, mask, boxes, outside, tokens } = packed;
    let split = survey.split(&pair);
    funnel.kept += 1;
    funnel.empty_text += usize::from(pair.text.is_empty());
    funnel.longest_texts += usize::from(tokens.len() == MAX_TOKENS);
    funnel.masks += usize::from(mask.is_some());
    funnel.boxes += boxes.len();
    funnel.boxes_outside += outside;
    *funnel.splits.entry(split).or_default() += 1;
    writer.push(&Record {
        id: pair.id,
        patient_id: pair.patient_id,
        view: pair.view,
        findings: pair.findings,
        text: pair.text,
        boxes,
        columns: pair.columns,
        split,
        pixels: &pixels,
        mask: mask.as_deref(),
        tokens: &tokens,
    })
}

fn warnings(survey: &Survey, boxes: &HashMap<String, Vec<BoundingBox>>, funnel: &Funnel) -> Vec<String> {
    let mut warnings = Vec::new();
    let strangers = || boxes.keys().filter(|id| !survey.has(id));
    if let Some(first) = strangers().min() {
        let count = strangers().count();
        warnings.push(format!("boxes of {count} ids that are not in the table (first: {first})"));
    }
    if survey.alone > 0 {
        warnings.push(format!(
            "{} rows have neither split nor patient_id and were split by id: films of one patient may be on both sides",
            survey.alone
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
