//! Films from files. One file per family of formats; each is total: whatever the bytes, a film or a [`Fault`].

mod raster;

use std::path::Path;

/// Longest file that is read.
const FILE_BYTES: u64 = 1 << 29;

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
    /// A format this program does not read.
    #[error("the file is neither PNG nor JPEG")]
    Foreign,
    /// The format is known, the content is broken or cannot be read.
    #[error("the file is damaged or truncated: {0}")]
    Damaged(String),
    /// All pixels have the same value.
    #[error("the image is blank")]
    Blank,
    /// A mask that does not lie on its film.
    #[error("the mask's size is not the image's: {0}")]
    Size(String),
}

impl Fault {
    /// The reason without particulars, to count by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "file missing",
            Self::Foreign => "neither PNG nor JPEG",
            Self::Damaged(_) => "damaged or truncated",
            Self::Blank => "blank",
            Self::Size(_) => "size differs from the image's",
        }
    }
}

/// Reads a PNG or JPEG, recognised by content: 8 or 16 bits, gray, RGB or palette, with or without alpha.
///
/// Colours become luma (299 R + 587 G + 114 B) / 1000; alpha is ignored.
///
/// # Errors
/// A [`Fault`]; a truncated JPEG is one too, though decoders would fill it up with gray.
pub fn film(path: &Path) -> Result<Film, Fault> {
    let damaged = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Damaged(error.to_string()),
    };
    let length = std::fs::metadata(path).map_err(damaged)?.len();
    if length > FILE_BYTES {
        return Err(Fault::Damaged(format!("{length} bytes are too many")));
    }
    raster::decode(&std::fs::read(path).map_err(damaged)?)
}
