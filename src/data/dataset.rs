//! A packed data set: a folder of shards, the tokenizer they were made with, and `dataset.json`, written last.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::record::{Record, Split};
use super::shard::{MAX_SIZE, Shard, ShardWriter, VERSION};

/// The file of a packed data set that is written last and names all others.
pub const MANIFEST: &str = "dataset.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
const FORMAT: &str = "g2d-shards";
/// Present, and locked, while a folder is written; a folder that has it and no manifest may be started over.
const MARKER: &str = "unfinished.pack";
/// A shard is closed when its films reach this many bytes,
const SHARD_BYTES: usize = 1 << 28;
/// or its tables, which are kept in memory until then, this many.
const TABLE_BYTES: usize = 1 << 25;
/// A manifest longer than this is not read.
pub(super) const MANIFEST_BYTES: u64 = 1 << 26;

/// A shard, as `dataset.json` describes it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShardEntry {
    pub(super) file: String,
    records: usize,
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

/// What `dataset.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    size: usize,
    records: usize,
    vocab_size: usize,
    /// BLAKE3 of `tokenizer.json`.
    pub(super) tokenizer_blake3: String,
    /// [`Manifest::total`] of the fields above and the shards.
    digest: String,
    pub(super) shards: Vec<ShardEntry>,
    /// How it was made (options, funnel); for people, not read back.
    made: serde_json::Value,
}

impl Manifest {
    /// Reads it; every name in it is that of a file in the folder. `Err` says what is wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("it is damaged: {error}"))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let (format, version) = (&manifest.format, manifest.version);
            return Err(format!("{format:?} version {version}, this program reads {FORMAT} {VERSION}"));
        }
        if manifest.total() != manifest.digest {
            return Err(DIFFERS.into());
        }
        let files = || manifest.shards.iter().map(|entry| &entry.file);
        if let Some(file) = files().find(|file| Path::new(file).file_name() != Some(file.as_ref())) {
            return Err(format!("{file:?} is not the name of a file"));
        }
        let stems: BTreeSet<_> = files().filter_map(|file| Path::new(file).file_stem()).collect();
        let alike =
            stems.len() < manifest.shards.len() || files().any(|file| [MANIFEST, TOKENIZER].contains(&file.as_str()));
        if alike { Err("two of its files have the same name".into()) } else { Ok(manifest) }
    }

    /// The digest of the whole: BLAKE3 over one line of the shape and one line per file's digest.
    fn total(&self) -> String {
        let mut lines = format!("{} {} {} {}\n", self.version, self.size, self.records, self.vocab_size);
        for digest in std::iter::once(&self.tokenizer_blake3).chain(self.shards.iter().map(|shard| &shard.blake3)) {
            lines.push_str(digest);
            lines.push('\n');
        }
        blake3::hash(lines.as_bytes()).to_hex().to_string()
    }
}

/// A packed data set, open for reading. Films are numbered from 0 in the order in which they were packed.
pub struct Dataset {
    dir: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
    /// Number of the first film of each shard.
    starts: Vec<usize>,
}

impl Dataset {
    /// Opens the folder `dir`, maps its shards and checks their structure; of the small files also the digests. The
    /// digests of shards take reading all of them: [`Dataset::verify`].
    ///
    /// # Errors
    /// If packing did not finish there, or a file is missing, truncated, damaged or of another version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let manifest = read_manifest(&path)?;
        let tokenizer = dir.join(TOKENIZER);
        let bytes = fs::read(&tokenizer).map_err(Error::io("read", &tokenizer))?;
        if blake3::hash(&bytes).to_hex().as_str() != manifest.tokenizer_blake3 {
            return Err(differs(&tokenizer));
        }
        let (mut shards, mut starts, mut records) = (Vec::new(), Vec::new(), 0);
        for entry in &manifest.shards {
            let shard = Shard::open(&dir.join(&entry.file), manifest.vocab_size)?;
            if (shard.len(), shard.bytes(), shard.size()) != (entry.records, entry.bytes, manifest.size) {
                return Err(Error::shard(&dir.join(&entry.file), format!("it is not the shard {MANIFEST} describes")));
            }
            starts.push(records);
            records += shard.len();
            shards.push(shard);
        }
        if records != manifest.records {
            return Err(Error::shard(&path, format!("{} records announced, {records} there", manifest.records)));
        }
        Ok(Self { dir: dir.to_owned(), manifest, shards, starts })
    }

    /// The folder it was opened from.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// Number of films.
    pub fn len(&self) -> usize {
        self.manifest.records
    }

    /// Whether there is no film.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Side of a film in pixels.
    pub fn size(&self) -> usize {
        self.manifest.size
    }

    /// Digest of all shards and the tokenizer (hexadecimal); equal digests mean equal films, texts and tokens.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Token ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.manifest.vocab_size
    }

    /// The `tokenizer.json` the texts were tokenised with (the format of the `tokenizers` libraries).
    pub fn tokenizer_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER)
    }

    /// Film `index`, which is below [`Dataset::len`], with all that is known about it.
    ///
    /// # Errors
    /// If its description is damaged.
    pub fn record(&self, index: usize) -> Result<Record<'_>, Error> {
        let (shard, position) = self.locate(index);
        shard.record(position)
    }

    /// Looks whether the file that film `index` lies in was cut since it was opened, see [`Shard::uncut`].
    ///
    /// # Errors
    /// If it was.
    pub fn uncut(&self, index: usize) -> Result<(), Error> {
        self.locate(index).0.uncut()
    }

    /// Gray values [size, size] of film `index`, which is below [`Dataset::len`].
    pub fn pixels(&self, index: usize) -> &[u8] {
        let (shard, position) = self.locate(index);
        shard.pixels(position)
    }

    /// Token ids of film `index`, which is below [`Dataset::len`]; empty if it has no text.
    pub fn tokens(&self, index: usize) -> &[u32] {
        let (shard, position) = self.locate(index);
        shard.tokens(position)
    }

    /// Numbers of the films of one split (all if `None`), in order; with `with_text` only those that have a text.
    pub fn select(&self, split: Option<Split>, with_text: bool) -> Vec<usize> {
        let chosen = |&index: &usize| {
            let (shard, position) = self.locate(index);
            split.is_none_or(|split| shard.split(position) == split)
                && !(with_text && shard.tokens(position).is_empty())
        };
        (0..self.len()).filter(chosen).collect()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// How it was made, for people: the options, and under `funnel` what became of the rows.
    pub fn made(&self) -> &serde_json::Value {
        &self.manifest.made
    }

    /// Reads every shard and compares its digest with what was packed, about a gigabyte a second. `progress` is told
    /// how many bytes were compared and how many there are.
    ///
    /// # Errors
    /// If a shard is not what it was when packed; the first such file is named.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let (mut done, all) = (0, self.shards.iter().map(Shard::bytes).sum());
        for (shard, entry) in self.shards.iter().zip(&self.manifest.shards) {
            self.compare(shard, entry)?;
            done += shard.bytes();
            progress(done, all);
        }
        Ok(())
    }

    /// Reads the one shard whose file has this name and compares its digest; `None` if the data set has no such shard.
    ///
    /// # Errors
    /// As [`Dataset::verify`].
    pub fn verify_shard(&self, file: &str) -> Option<Result<(), Error>> {
        let mut shards = self.shards.iter().zip(&self.manifest.shards);
        shards.find(|(_, entry)| entry.file == file).map(|(shard, entry)| self.compare(shard, entry))
    }

    fn compare(&self, shard: &Shard, entry: &ShardEntry) -> Result<(), Error> {
        if shard.digest() == entry.blake3 { Ok(()) } else { Err(differs(&self.dir.join(&entry.file))) }
    }

    fn locate(&self, index: usize) -> (&Shard, usize) {
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], index - self.starts[shard])
    }
}

pub(super) const DIFFERS: &str = "the content is not what was packed (digests differ)";

fn differs(path: &Path) -> Error {
    Error::shard(path, DIFFERS)
}

fn read_manifest(path: &Path) -> Result<Manifest, Error> {
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::shard(
                path,
                "there is no such file: the folder is no packed data set or packing did not finish",
            ));
        }
        found => found.map_err(Error::io("read", path))?.len(),
    };
    if length > MANIFEST_BYTES {
        return Err(Error::shard(path, format!("{length} bytes are too many for this file")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Manifest::parse(&bytes).map_err(|what| Error::shard(path, what))
}

/// Writes a data set into a folder. Until [`DatasetWriter::finish`] the folder has no `dataset.json` and cannot be
/// opened; a writer that is dropped before removes what it wrote.
pub struct DatasetWriter {
    dir: PathBuf,
    size: usize,
    masks: bool,
    shard: Option<ShardWriter>,
    shards: Vec<ShardEntry>,
    records: usize,
    /// Locked as long as the writer lives.
    _marker: File,
    /// Whether the folder was not there before.
    new: bool,
    finished: bool,
}

impl DatasetWriter {
    /// Takes the folder `dir` (made if need be) for films [size, size]; `masks` makes room for masks.
    ///
    /// # Errors
    /// If the size is not in 1..=4096; if the folder holds anything but an unfinished pack, which is then removed;
    /// if it cannot be written or somebody is writing to it.
    pub fn create(dir: &Path, size: usize, masks: bool) -> Result<Self, Error> {
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(Error::Option(format!("size {size} is not possible; give 1 to {MAX_SIZE} pixels")));
        }
        let new = !dir.exists();
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        check_free(dir)?;
        let path = dir.join(MARKER);
        let marker = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        // A file system that has no locks does not stop us.
        if let Err(TryLockError::WouldBlock) = marker.try_lock() {
            return Err(Error::OutputInUse {
                path: dir.to_owned(),
                what: "another pack is being written there".into(),
            });
        }
        let writer = Self {
            dir: dir.to_owned(),
            size,
            masks,
            shard: None,
            shards: Vec::new(),
            records: 0,
            _marker: marker,
            new,
            finished: false,
        };
        writer.remove_parts()?;
        Ok(writer)
    }

    /// Adds a film.
    ///
    /// # Errors
    /// If its planes are not [size, size] or a file cannot be written.
    pub fn push(&mut self, record: &Record) -> Result<(), Error> {
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => {
                let path = self.dir.join(shard_name(self.shards.len()));
                self.shard.insert(ShardWriter::create(&path, self.size, self.masks)?)
            }
        };
        shard.push(record)?;
        self.records += 1;
        let film_bytes = shard.records() * self.size * self.size * (1 + usize::from(self.masks));
        if film_bytes >= SHARD_BYTES || shard.table_bytes() >= TABLE_BYTES {
            self.close_shard()?;
        }
        Ok(())
    }

    /// Writes the tokenizer and, last, `dataset.json` with `made` in it (how the data was made, for people).
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(mut self, tokenizer: &str, vocab_size: usize, made: serde_json::Value) -> Result<(), Error> {
        self.close_shard()?;
        write_beside(&self.dir.join(TOKENIZER), tokenizer.as_bytes())?;
        let mut manifest = Manifest {
            format: FORMAT.into(),
            version: VERSION,
            size: self.size,
            records: self.records,
            vocab_size,
            tokenizer_blake3: blake3::hash(tokenizer.as_bytes()).to_hex().to_string(),
            digest: String::new(),
            shards: std::mem::take(&mut self.shards),
            made,
        };
        manifest.digest = manifest.total();
        let path = self.dir.join(MANIFEST);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::shard(&path, error.to_string()))?;
        write_beside(&path, &json)?;
        self.finished = true;
        let marker = self.dir.join(MARKER);
        fs::remove_file(&marker).map_err(Error::io("remove", &marker))
    }

    fn close_shard(&mut self) -> Result<(), Error> {
        if let Some(shard) = self.shard.take() {
            let (file, records) = (shard_name(self.shards.len()), shard.records());
            let (bytes, blake3) = shard.finish()?;
            self.shards.push(ShardEntry { file, records, bytes, blake3 });
        }
        Ok(())
    }

    /// Removes shards, tokenizer and temporary files of a pack that did not finish.
    fn remove_parts(&self) -> Result<(), Error> {
        for name in names(&self.dir)?.iter().filter(|name| is_part(name)) {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

impl Drop for DatasetWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: what stays is marked as unfinished and is removed by the next pack into this folder.
            self.shard = None;
            if self.remove_parts().is_ok() {
                let _ = fs::remove_file(self.dir.join(MARKER));
                if self.new {
                    let _ = fs::remove_dir(&self.dir);
                }
            }
        }
    }
}

fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.g2d")
}

fn is_part(name: &str) -> bool {
    let shard = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".g2d"));
    shard.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        || name == TOKENIZER
        || name.ends_with(".partial")
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let read = || -> std::io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(Error::io("read", dir))?;
    names.sort();
    Ok(names)
}

/// A folder may be written if it is empty or holds only the parts of a pack that did not finish.
fn check_free(dir: &Path) -> Result<(), Error> {
    let names = names(dir)?;
    let unfinished = names.iter().any(|name| name == MARKER);
    match names.iter().find(|name| !(unfinished && (is_part(name) || *name == MARKER))) {
        Some(name) => Err(Error::OutputInUse { path: dir.to_owned(), what: format!("it holds {name}") }),
        None => Ok(()),
    }
}

/// Writes beside, syncs, renames: the file is whole or absent.
pub(super) fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(Error::io("write", path))
}
