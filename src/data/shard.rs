//! One shard: a file of films, written once, read through a memory map.
//!
//! All numbers are little-endian; sections begin at multiples of 64 bytes, gaps are zero.
//!
//! | section | content |
//! | --- | --- |
//! | header, 64 bytes | magic `G2DSHARD`; u32 version, size, planes, bytes of an index entry; u64 records, tokens, bytes of about; 16 zero bytes |
//! | records | per film `planes` planes [size, size] of u8: the gray values and, if `planes` is 2, the mask (zero if the film has none) |
//! | tokens | u32 token ids of all films, one after the other |
//! | index | per film 32 bytes: u64 first token, u64 first byte in about, u32 count of tokens, u32 bytes of about, u8 split (0 train, 1 val, 2 test), u8 whether it has a mask, 6 zero bytes |
//! | about | per film a JSON object: id, patient_id, view, findings, text, boxes, columns |
//!
//! The digest of a shard is BLAKE3 over everything after the header, then the header. It stands in `dataset.json`.
//! `docs/shards.md` says the same for readers in other languages.
#![allow(unsafe_code)] // one use: the memory map

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};

use super::error::Error;
use super::record::{MAX_TOKENS, Record, Split};

/// Version of the layout; a reader refuses others.
pub const VERSION: u32 = 1;
/// Largest side of a packed film, in pixels.
pub const MAX_SIZE: usize = 4096;

const MAGIC: [u8; 8] = *b"G2DSHARD";
const ALIGN: u64 = 64;

#[cfg(target_endian = "big")]
compile_error!("shards are mapped as they lie in the file, which is little-endian");

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    magic: [u8; 8],
    version: u32,
    size: u32,
    planes: u32,
    entry_bytes: u32,
    records: u64,
    tokens: u64,
    about_bytes: u64,
    zero: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Entry {
    first_token: u64,
    first_byte: u64,
    tokens: u32,
    bytes: u32,
    split: u8,
    mask: u8,
    zero: [u8; 6],
}

/// Where the sections lie, in bytes from the start of the file.
struct Layout {
    tokens: u64,
    index: u64,
    about: u64,
    end: u64,
}

impl Header {
    /// `None` where a sum or product does not fit 64 bits.
    fn layout(&self) -> Option<Layout> {
        let aligned = |at: u64| at.checked_next_multiple_of(ALIGN);
        let plane = u64::from(self.size) * u64::from(self.size);
        let records = self.records.checked_mul(plane.checked_mul(u64::from(self.planes))?)?;
        let tokens = aligned(records.checked_add(ALIGN)?)?;
        let index = aligned(tokens.checked_add(self.tokens.checked_mul(4)?)?)?;
        let about = aligned(index.checked_add(self.records.checked_mul(size_of::<Entry>() as u64)?)?)?;
        Some(Layout { tokens, index, about, end: about.checked_add(self.about_bytes)? })
    }
}

/// Writes one shard. Films go straight to the file, the small tables are kept until [`ShardWriter::finish`].
///
/// ```
/// use g2d::data::record::Record;
/// use g2d::data::shard::{Shard, ShardWriter};
///
/// let path = std::env::temp_dir().join(format!("g2d-{}.shard", std::process::id()));
/// let mut writer = ShardWriter::create(&path, 2, false)?;
/// let film = Record { id: "film".into(), pixels: &[0, 80, 160, 255], tokens: &[2, 7, 3], ..Record::default() };
/// writer.push(&film)?;
/// let (_, digest) = writer.finish()?;
///
/// let shard = Shard::open(&path, 10)?; // of a vocabulary of 10
/// assert_eq!((shard.len(), shard.digest()), (1, digest));
/// assert_eq!(shard.record(0)?, film);
/// # drop(shard);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), g2d::data::Error>(())
/// ```
pub struct ShardWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    header: Header,
    written: u64,
    tokens: Vec<u32>,
    index: Vec<Entry>,
    about: Vec<u8>,
}

impl ShardWriter {
    /// Starts a shard of films [size, size]; `masks` tells whether a record has a second plane.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path, size: usize, masks: bool) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io("write", path))?;
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            size: size as u32,
            planes: 1 + u32::from(masks),
            entry_bytes: size_of::<Entry>() as u32,
            ..Header::zeroed()
        };
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: blake3::Hasher::new(),
            header,
            written: ALIGN,
            tokens: Vec::new(),
            index: Vec::new(),
            about: Vec::new(),
        };
        writer.file.write_all(&[0; ALIGN as usize]).map_err(Error::io("write", path))?;
        Ok(writer)
    }

    /// Films so far.
    pub fn records(&self) -> usize {
        self.index.len()
    }

    /// Bytes of the tables that are kept in memory so far.
    pub fn table_bytes(&self) -> usize {
        size_of_val(&self.tokens[..]) + size_of_val(&self.index[..]) + self.about.len()
    }

    /// Adds a film.
    ///
    /// # Errors
    /// If its planes are not [size, size], its tokens too many, or the file cannot be written.
    pub fn push(&mut self, record: &Record) -> Result<(), Error> {
        let plane = (self.header.size * self.header.size) as usize;
        let mask_fits = record.mask.is_none_or(|mask| self.header.planes == 2 && mask.len() == plane);
        if record.pixels.len() != plane || !mask_fits || record.tokens.len() > MAX_TOKENS {
            return Err(Error::shard(&self.path, format!("record {:?} does not have the shard's shape", record.id)));
        }
        self.write(record.pixels)?;
        if self.header.planes == 2 {
            match record.mask {
                Some(mask) => self.write(mask)?,
                None => self.write(&vec![0; plane])?,
            }
        }
        let about = serde_json::to_vec(record).map_err(|error| Error::shard(&self.path, error.to_string()))?;
        self.index.push(Entry {
            first_token: self.tokens.len() as u64,
            first_byte: self.about.len() as u64,
            tokens: record.tokens.len() as u32,
            bytes: about.len() as u32,
            split: record.split as u8,
            mask: u8::from(record.mask.is_some()),
            zero: [0; 6],
        });
        self.tokens.extend_from_slice(record.tokens);
        self.about.extend_from_slice(&about);
        Ok(())
    }

    /// Writes the tables and the header, syncs, and returns the length in bytes and the digest (hexadecimal).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<(u64, String), Error> {
        self.header.records = self.index.len() as u64;
        self.header.tokens = self.tokens.len() as u64;
        self.header.about_bytes = self.about.len() as u64;
        let (tokens, index, about) =
            (std::mem::take(&mut self.tokens), std::mem::take(&mut self.index), std::mem::take(&mut self.about));
        for section in [bytemuck::cast_slice(&tokens), bytemuck::cast_slice(&index), &about] {
            let gap = self.written.next_multiple_of(ALIGN) - self.written;
            self.write(&[0; ALIGN as usize][..gap as usize])?;
            self.write(section)?;
        }
        let header = self.header;
        self.hasher.update(bytemuck::bytes_of(&header));
        let digest = self.hasher.finalize().to_hex().to_string();
        let mut end = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(bytemuck::bytes_of(&header))?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        end().map_err(Error::io("write", &self.path))?;
        Ok((self.written, digest))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// A shard that is open for reading. Opening checks every number that later reads rely on.
pub struct Shard {
    path: PathBuf,
    file: File,
    map: memmap2::Mmap,
    header: Header,
    layout: Layout,
}

impl Shard {
    /// Maps a shard and checks its structure (not its digest: [`Shard::digest`]).
    ///
    /// # Errors
    /// If it cannot be read, is truncated, damaged, or of another version; if a token is not below `vocab_size`.
    pub fn open(path: &Path, vocab_size: usize) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        if !file.metadata().map_err(Error::io("read", path))?.is_file() {
            return Err(Error::shard(path, "it is no file"));
        }
        // SAFETY: the map is only read. A packed file is never changed in place (it is written under another name
        // and renamed), so the bytes stay what they are unless somebody truncates the file while it is in use, for
        // which `uncut` looks before films are read.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("read", path))?;
        let damaged = |what: String| Error::shard(path, what);
        let Some(header) = map.get(..size_of::<Header>()).map(bytemuck::pod_read_unaligned::<Header>) else {
            return Err(damaged(format!("{} bytes are too few for a shard", map.len())));
        };
        if header.magic != MAGIC {
            return Err(damaged("this is not a shard (it does not begin with G2DSHARD)".into()));
        }
        if header.version != VERSION {
            return Err(damaged(format!("layout version {}, this program reads {VERSION}", header.version)));
        }
        let shape_fits = (1..=MAX_SIZE as u32).contains(&header.size)
            && (1..=2).contains(&header.planes)
            && header.entry_bytes as usize == size_of::<Entry>()
            && header.zero == [0; 16];
        let layout = header.layout().filter(|layout| shape_fits && layout.end == map.len() as u64);
        let Some(layout) = layout else {
            return Err(damaged(format!("the file is truncated or its header damaged ({} bytes)", map.len())));
        };
        let shard = Self { path: path.to_owned(), file, map, header, layout };
        shard.check_tables(vocab_size)?;
        Ok(shard)
    }

    fn check_tables(&self, vocab_size: usize) -> Result<(), Error> {
        let (mut token, mut byte) = (0, 0);
        for (position, entry) in self.index().iter().enumerate() {
            let sound = (entry.first_token, entry.first_byte) == (token, byte)
                && entry.tokens as usize <= MAX_TOKENS
                && (entry.split as usize) < Split::ALL.len()
                && u32::from(entry.mask) < self.header.planes;
            if !sound {
                return Err(Error::shard(&self.path, format!("the index entry of record {position} is damaged")));
            }
            token += u64::from(entry.tokens);
            byte += u64::from(entry.bytes);
        }
        if (token, byte) != (self.header.tokens, self.header.about_bytes) {
            return Err(Error::shard(&self.path, "the index does not cover the tables"));
        }
        match self.all_tokens().iter().find(|&&token| token as usize >= vocab_size) {
            Some(token) => Err(Error::shard(&self.path, format!("token {token} of a vocabulary of {vocab_size}"))),
            None => Ok(()),
        }
    }

    fn index(&self) -> &[Entry] {
        bytemuck::cast_slice(&self.map[self.layout.index as usize..][..self.len() * size_of::<Entry>()])
    }

    fn all_tokens(&self) -> &[u32] {
        bytemuck::cast_slice(&self.map[self.layout.tokens as usize..][..self.header.tokens as usize * 4])
    }

    /// Films in the shard.
    pub fn len(&self) -> usize {
        self.header.records as usize
    }

    /// Whether it holds no film.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Side of a film in pixels.
    pub fn size(&self) -> usize {
        self.header.size as usize
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.layout.end
    }

    /// The digest, computed now from the whole file (hexadecimal).
    pub fn digest(&self) -> String {
        let (header, body) = self.map.split_at(size_of::<Header>());
        blake3::Hasher::new().update(body).update(header).finalize().to_hex().to_string()
    }

    /// Split of film `position`, which is below [`Shard::len`].
    pub fn split(&self, position: usize) -> Split {
        Split::ALL[self.index()[position].split as usize]
    }

    /// Tokens of film `position`, which is below [`Shard::len`].
    pub fn tokens(&self, position: usize) -> &[u32] {
        let entry = &self.index()[position];
        &self.all_tokens()[entry.first_token as usize..][..entry.tokens as usize]
    }

    /// Gray values [size, size] of film `position`, which is below [`Shard::len`].
    pub fn pixels(&self, position: usize) -> &[u8] {
        self.plane(position, 0)
    }

    /// Looks whether the file is as long as it was when it was opened: to read behind its end would kill the process.
    ///
    /// # Errors
    /// If it was cut since.
    pub fn uncut(&self) -> Result<(), Error> {
        let now = self.file.metadata().map_err(Error::io("read", &self.path))?.len();
        if now >= self.layout.end {
            return Ok(());
        }
        let what = format!("it was cut to {now} of {} bytes while in use", self.layout.end);
        Err(Error::shard(&self.path, what))
    }

    fn plane(&self, position: usize, plane: usize) -> &[u8] {
        let bytes = self.size() * self.size();
        &self.map[ALIGN as usize + (position * self.header.planes as usize + plane) * bytes..][..bytes]
    }

    /// Film `position`, which is below [`Shard::len`], with all that is known about it.
    ///
    /// # Errors
    /// If its description is damaged, or the file was cut while in use.
    pub fn record(&self, position: usize) -> Result<Record<'_>, Error> {
        self.uncut()?;
        let entry = &self.index()[position];
        let about = &self.map[self.layout.about as usize + entry.first_byte as usize..][..entry.bytes as usize];
        let mut record: Record = serde_json::from_slice(about)
            .map_err(|error| Error::shard(&self.path, format!("the description of record {position}: {error}")))?;
        record.split = self.split(position);
        record.tokens = self.tokens(position);
        record.pixels = self.pixels(position);
        record.mask = (entry.mask == 1).then(|| self.plane(position, 1));
        Ok(record)
    }
}
