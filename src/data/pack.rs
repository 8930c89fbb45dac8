//! Packing: everything slow, done once. Tables and films in, a data set of shards out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::json;

use super::budget::Budget;
use super::dataset::DatasetWriter;
use super::decode::{self, Fault, Source};
use super::error::Error;
use super::funnel::Funnel;
use super::labels::SplitDigest;
use super::layout::{outline, rle};
use super::pairs::{BadRow, Mask, Pair};
use super::prepare::{Geometry, Resize, mask_values, prepare};
use super::record::{BoundingBox, MAX_TOKENS, Record, Split};
use super::rows::{Row, Rows};
use super::survey::Survey;
use super::tokenizer::Tokenizer;

/// Rows per thread that are worked on at a time: enough for the threads to end together.
const CHUNK: usize = 16;
/// Bytes of packed films and of texts that wait to be written, at most (and one row more).
const WAITING: usize = 64 << 20;

/// How to pack, and whereto.
#[derive(Clone, Debug)]
pub struct PackOptions {
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
    /// Of the split by patient, where rows give none.
    pub seed: u64,
    /// Threads; 0 is one per processor.
    pub threads: usize,
    /// The first row that cannot be used ends packing; else such rows are dropped and counted.
    pub strict: bool,
}

impl PackOptions {
    /// The defaults: 256 pixels, [`Resize::Fit`], lower-cased, a vocabulary of its own, seed 0, all processors.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
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
    fn error(self, table: &Path) -> Error {
        if self.line == 0 {
            let what = "repair or remove the file, or leave out --strict";
            return Error::Option(format!("{}: {}; {what}", table.display(), self.what));
        }
        let what = format!("{}; repair or remove the row, or leave out --strict", self.what);
        Error::Table { path: table.to_owned(), line: self.line, what }
    }
}

/// Packs films and texts into the folder `options.out`: those of a table ([`super::pairs::PairsTable`]) or of a published
/// data set ([`super::layout`]).
///
/// Rows that break a rule and rows whose film or mask cannot be used are dropped and counted, unless `options.strict`.
/// The result depends on the files and options, not on the number of threads. Rows are read one by one (two or
/// three times) and films wait for each other if they are large, so memory stays below 1 GB whatever the table, beside
/// what the rows themselves hold: layouts and archives hold all of theirs.
/// `progress` is called from the working threads; `cancelled` is looked at between rows.
///
/// # Errors
/// If a table breaks a rule, more than half of the rows cannot be used, the tokenizer cannot be read, the folder is
/// in use or cannot be written, or packing is cancelled. Then nothing that could be opened is left.
pub fn pack(
    table: &dyn Rows,
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Funnel, Error> {
    let survey = Survey::of(table, options.seed, options.strict)?;
    let pool = crate::base::threads::pool(options.threads).map_err(Error::Option)?;
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::load(path, options.lowercase)?,
        None => pool.install(|| trained(&survey, options.lowercase))?,
    };
    let writer = DatasetWriter::create(&options.out, options.size, survey.masks)?;
    let funnel = Funnel { rows: survey.rows, vocabulary: tokenizer.vocab_size(), ..Funnel::default() };
    let mut output = Output { survey: &survey, writer, funnel, digests: Split::ALL.map(SplitDigest::new) };
    let memory = Budget::new(decode::MEMORY);
    let work = Work { folder: table.folder(), options, tokenizer: &tokenizer, memory };
    let done = AtomicUsize::new(0);
    let one = |row: Row| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::UNPACKED);
        }
        let packed = work.pack(row);
        progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total: survey.rows });
        packed
    };
    let film_bytes = options.size * options.size * (1 + usize::from(survey.masks));
    let chunk_rows = (WAITING / film_bytes).clamp(1, CHUNK * pool.current_num_threads());
    let mut rows = survey.rows()?.fuse();
    loop {
        let chunk = take(&mut rows, chunk_rows)?;
        if chunk.is_empty() {
            break;
        }
        let packed: Vec<_> = pool.install(|| chunk.into_par_iter().map(one).collect());
        for packed in packed {
            match packed? {
                Ok(packed) => output.keep(packed)?,
                Err(refused) if options.strict => return Err(refused.error(table.path())),
                Err(refused) => {
                    let place = if refused.line > 0 { format!("line {}, ", refused.line) } else { String::new() };
                    output.funnel.drop_row(refused.reason, place + &refused.what);
                }
            }
        }
    }
    if done.into_inner() != survey.rows {
        return Err(Error::Table { path: table.path().to_owned(), line: 1, what: "it was changed meanwhile".into() });
    }
    output.finish(table, options, &tokenizer)
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
    tokenizer: &'a Tokenizer,
    /// Of the threads together, for decoding.
    memory: Budget,
}

/// What a film's files give.
struct Planes {
    pixels: Vec<u8>,
    geometry: Geometry,
    mask: Option<Vec<u8>>,
    /// In pixels of the film.
    boxes: Vec<BoundingBox>,
}

/// What is the matter with which file.
type FileFault = (&'static str, String, Fault);

impl Work<'_> {
    fn pack(&self, row: Row) -> Result<Result<Packed, Refused>, Error> {
        let mut pair = match row {
            Ok(pair) => pair,
            Err(BadRow { line, reason, what }) => {
                return Ok(Err(Refused { line, reason: format!("row: {reason}"), what }));
            }
        };
        let Planes { pixels, geometry, mask, boxes: given } = match self.planes(&mut pair) {
            Ok(planes) => planes,
            Err((kind, file, fault)) => {
                let what = format!("id {}: {file}: {fault}", pair.id);
                return Ok(Err(Refused { line: pair.line, reason: format!("{kind}: {}", fault.reason()), what }));
            }
        };
        let boxes: Vec<_> = given.iter().filter_map(|one| geometry.place(one)).collect();
        let outside = given.len() - boxes.len();
        let tokens = if pair.text.is_empty() { Vec::new() } else { self.tokenizer.encode(&pair.text)? };
        Ok(Ok(Packed { pair, pixels, mask, boxes, outside, tokens }))
    }

    /// The planes, or which file has what fault. Image and mask are decoded one after the other, so that a thread
    /// never holds memory while it waits for more.
    fn planes(&self, pair: &mut Pair) -> Result<Planes, FileFault> {
        let image = || {
            let source = Source::open(&self.folder.join(&pair.image))?;
            let _held = self.memory.hold(source.need());
            let film = source.decode()?;
            let shape = (film.width, film.height);
            prepare(film, self.options.size, self.options.resize).map(|(pixels, geometry)| (pixels, geometry, shape))
        };
        let bad_image = |fault| ("image", pair.image.clone(), fault);
        let (pixels, geometry, shape) = image().map_err(bad_image)?;
        let frame = pair.frame.map_or(shape, |(width, height)| (width as usize, height as usize));
        let measured = !pair.boxes.is_empty() || matches!(pair.mask, Mask::Runs(_));
        if measured && !alike(frame, shape) {
            return Err(bad_image(Fault::Frame { film: shape, frame }));
        }
        let mask = match &pair.mask {
            Mask::None => None,
            Mask::Runs(runs) => Some(geometry.place_mask(&rle::paint(runs, frame, shape), shape.0)),
            Mask::Drawn(outlines) => Some(geometry.place_mask(&outline::paint(outlines, shape), shape.0)),
            Mask::File(file) => Some(self.mask(file, shape, &geometry).map_err(|fault| ("mask", file.clone(), fault))?),
        };
        let (across, down) = (shape.0 as f32 / frame.0 as f32, shape.1 as f32 / frame.1 as f32);
        let scaled = |one: BoundingBox| {
            let (x, y, w, h) = (one.x * across, one.y * down, one.w * across, one.h * down);
            BoundingBox { label: one.label, x, y, w, h }
        };
        let boxes = std::mem::take(&mut pair.boxes).into_iter().map(scaled).collect();
        Ok(Planes { pixels, geometry, mask, boxes })
    }

    fn mask(&self, file: &str, shape: (usize, usize), geometry: &Geometry) -> Result<Vec<u8>, Fault> {
        let source = Source::open(&self.folder.join(file))?;
        let _held = self.memory.hold(source.need());
        let mask = source.decode()?;
        if (mask.width, mask.height) != shape {
            let (width, height) = shape;
            return Err(Fault::Size(format!("{}x{}, not {width}x{height}", mask.width, mask.height)));
        }
        Ok(geometry.place_mask(&mask_values(mask.samples), shape.0))
    }
}

/// Whether two sizes are of one shape, but for the rounding of a pixel.
fn alike(one: (usize, usize), other: (usize, usize)) -> bool {
    (one.0 * other.1).abs_diff(one.1 * other.0) <= one.0.max(one.1)
}

/// What is being written, and counted.
struct Output<'a> {
    survey: &'a Survey<'a>,
    writer: DatasetWriter,
    funnel: Funnel,
    digests: [SplitDigest; 3],
}

impl Output<'_> {
    fn keep(&mut self, packed: Packed) -> Result<(), Error> {
        let Packed { pair, pixels, mask, boxes, outside, tokens } = packed;
        let (split, funnel) = (self.survey.split(&pair), &mut self.funnel);
        funnel.kept += 1;
        funnel.empty_text += usize::from(pair.text.is_empty());
        funnel.longest_texts += usize::from(tokens.len() == MAX_TOKENS);
        funnel.masks += usize::from(mask.is_some());
        funnel.boxes += boxes.len();
        funnel.boxes_outside += outside;
        *funnel.splits.entry(split).or_default() += 1;
        self.digests[split as usize].add(&pair.id);
        self.writer.push(&Record {
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

    fn finish(self, table: &dyn Rows, options: &PackOptions, tokenizer: &Tokenizer) -> Result<Funnel, Error> {
        let Self { survey, writer, mut funnel, digests } = self;
        if funnel.kept * 2 < funnel.rows {
            let (rows, dropped) = (funnel.rows, funnel.rows - funnel.kept);
            let (path, reasons) = (table.path().to_owned(), funnel.reasons());
            return Err(Error::TooManyDropped { path, dropped, rows, reasons });
        }
        funnel.filters = table.filters().to_vec();
        funnel.warnings = table.warnings(&|id| survey.has(id));
        warn(survey, &mut funnel);
        let digests = Split::ALL.into_iter().zip(digests.map(SplitDigest::finish));
        funnel.split_digests = digests.filter(|(split, _)| funnel.splits.contains_key(split)).collect();
        let stored = if table.nameless() { funnel.without_examples() } else { funnel.clone() };
        let made = json!({
            "resize": options.resize, "lowercase": options.lowercase, "seed": options.seed, "funnel": stored,
            "tokenizer": if options.tokenizer.is_some() { "given" } else { "trained" },
        });
        writer.finish(tokenizer.json(), tokenizer.vocab_size(), made)?;
        Ok(funnel)
    }
}

fn warn(survey: &Survey, funnel: &mut Funnel) {
    let warnings = &mut funnel.warnings;
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
}
