//! Films from files. One file per family of formats; each is total: whatever the bytes, a film or a [`Fault`].

pub mod dicom;
mod header;
mod raster;

use std::borrow::Cow;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use dicom::Dicom;
use header::Header;

use super::file;

/// Most memory that decoding one film may take, bytes.
pub const MEMORY: u64 = 512 << 20;

/// Gray values, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 8 bits.
    Eight(Vec<u8>),
    /// 16 bits.
    Sixteen(Vec<u16>),
}

/// A decoded gray image [height, width].
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// Pixels in a row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// The values [height, width].
    pub samples: Samples,
}

/// Why a file gives no film.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// There is no such file.
    #[error("the file is missing")]
    Missing,
    /// The system does not let it be read, or it is no file.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// A format this program does not read.
    #[error("the file is neither PNG, JPEG nor DICOM")]
    Foreign,
    /// DICOM of a kind that is not read; says which, without a word of what is in the file.
    #[error("the DICOM file is of a kind that is not read: {0}")]
    Unsupported(String),
    /// The format is known, the content is broken or cannot be read.
    #[error("the file is damaged or truncated: {0}")]
    Damaged(String),
    /// Decoding takes more memory than is allowed.
    #[error("{width} x {height} pixels take {} MiB to decode, {} are the limit; make the image smaller", need >> 20, MEMORY >> 20)]
    TooLarge {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes of memory.
        need: u64,
    },
    /// All pixels have the same value.
    #[error("the image is blank")]
    Blank,
    /// A film that has another shape than its boxes and mask were measured on.
    #[error(
        "the film is {}x{}, its boxes or mask are measured on {}x{}, which has another shape; give the film uncropped",
        film.0, film.1, frame.0, frame.1
    )]
    Frame {
        /// Width and height.
        film: (usize, usize),
        /// Width and height of what they were measured on.
        frame: (usize, usize),
    },
    /// A mask that does not lie on its film.
    #[error("the mask's size is not the image's: {0}")]
    Size(String),
}

impl Fault {
    /// The reason without particulars, to count by.
    pub fn reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Unsupported(kind) => return format!("DICOM not read: {kind}").into(),
            Self::Missing => "file missing",
            Self::Unreadable(_) => "file cannot be read",
            Self::Foreign => "neither PNG, JPEG nor DICOM",
            Self::Damaged(_) => "damaged or truncated",
            Self::TooLarge { .. } => "too large",
            Self::Blank => "blank",
            Self::Frame { .. } => "another shape than its boxes and mask",
            Self::Size(_) => "size differs from the image's",
        })
    }

    fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// A film's file, of which the header has been read.
pub struct Source {
    length: u64,
    kind: Kind,
}

/// What the bytes of a film are read from.
trait Input: Read + Seek {}
impl<T: Read + Seek> Input for T {}

enum Kind {
    Raster(Box<dyn Input>, Header),
    Dicom(Box<Dicom>),
}

impl Source {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// A [`Fault`], also if decoding would take more than [`MEMORY`].
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let (file, length) = file::open(path).map_err(|error| Fault::of(&error))?;
        Self::of(Box::new(file), length)
    }

    /// A film whose bytes are in memory already; [`Source::need`] does not count these.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Self, Fault> {
        let length = bytes.len() as u64;
        Self::of(Box::new(Cursor::new(bytes)), length)
    }

    fn of(mut file: Box<dyn Input>, length: u64) -> Result<Self, Fault> {
        let kind = match dicom::start(&dicom::head(&mut file)?) {
            Some(start) => Kind::Dicom(Box::new(Dicom::open(file, start)?)),
            None => {
                let header = header::read(&mut file)?;
                Kind::Raster(file, header)
            }
        };
        let source = Self { length, kind };
        let (width, height) = match &source.kind {
            Kind::Raster(_, header) => (header.width, header.height),
            Kind::Dicom(dicom) => dicom.size(),
        };
        let need = source.need();
        if need > MEMORY {
            return Err(Fault::TooLarge { width, height, need });
        }
        Ok(source)
    }

    /// Most bytes that are in memory at once while this film is decoded and made 8-bit gray, at most [`MEMORY`].
    pub fn need(&self) -> u64 {
        match &self.kind {
            Kind::Raster(_, header) => header.need(self.length),
            Kind::Dicom(dicom) => dicom.need(self.length),
        }
    }

    /// Reads a PNG, JPEG or DICOM file, recognised by content. PNG and JPEG: 8 or 16 bits, gray, RGB, CMYK or palette,
    /// with or without alpha; of an animation the first picture. DICOM: see [`dicom`].
    ///
    /// Colours become luma (299 R + 587 G + 114 B) / 1000; alpha is ignored.
    ///
    /// # Errors
    /// A [`Fault`]; a truncated JPEG is one too, though decoders would fill it up with gray.
    pub fn decode(self) -> Result<Film, Fault> {
        let (mut file, header) = match self.kind {
            Kind::Raster(file, header) => (file, header),
            Kind::Dicom(dicom) => return dicom.decode(),
        };
        let mut bytes = Vec::with_capacity(self.length as usize);
        file.rewind().map_err(|error| Fault::of(&error))?;
        // A file that grows meanwhile is cut: what was promised by `need` holds.
        file.take(self.length).read_to_end(&mut bytes).map_err(|error| Fault::of(&error))?;
        raster::decode(bytes, &header)
    }
}

/// Opens and decodes a film.
///
/// # Errors
/// As [`Source::open`] and [`Source::decode`].
pub fn film(path: &Path) -> Result<Film, Fault> {
    Source::open(path)?.decode()
}
