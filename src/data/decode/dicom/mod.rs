//! DICOM files: one film in gray from each, by the rules that stand in it.
//!
//! Elements are read by dicom-rs, one by one; what is not needed for the picture is skipped. Pixels may be plain (either
//! byte order, deflated), RLE, JPEG (8 bits, or lossless of up to 16) or JPEG 2000. They become gray as a viewer shows
//! them: modality table or rescale, VOI table or window, MONOCHROME1 inverted.

mod codec;
mod elements;
mod gray;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use dicom_dictionary_std::tags;

use super::{Fault, Film, Samples, file};
use codec::{Codec, Shape};
use elements::{Elements, Key, Layout, TOP};
use gray::Gray;

pub(super) use elements::start;

/// What the picture needs.
const PICTURE: &[Key] = &[
    (TOP, tags::SAMPLES_PER_PIXEL),
    (TOP, tags::PHOTOMETRIC_INTERPRETATION),
    (TOP, tags::NUMBER_OF_FRAMES),
    (TOP, tags::ROWS),
    (TOP, tags::COLUMNS),
    (TOP, tags::BITS_ALLOCATED),
    (TOP, tags::BITS_STORED),
    (TOP, tags::HIGH_BIT),
    (TOP, tags::PIXEL_REPRESENTATION),
    (TOP, tags::RESCALE_INTERCEPT),
    (TOP, tags::RESCALE_SLOPE),
    (TOP, tags::WINDOW_CENTER),
    (TOP, tags::WINDOW_WIDTH),
    (TOP, tags::VOILUT_FUNCTION),
    (tags::MODALITY_LUT_SEQUENCE, tags::LUT_DESCRIPTOR),
    (tags::MODALITY_LUT_SEQUENCE, tags::LUT_DATA),
    (tags::VOILUT_SEQUENCE, tags::LUT_DESCRIPTOR),
    (tags::VOILUT_SEQUENCE, tags::LUT_DATA),
];

/// A film's file, read up to its pixels.
pub(super) struct Dicom {
    elements: Elements,
    layout: Layout,
    codec: Codec,
    shape: Shape,
    gray: Gray,
}

impl Dicom {
    /// Reads a file whose elements begin at `start`, up to its pixels.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if it is no film in gray or its transfer syntax is not read, [`Fault::Damaged`] if
    /// elements are broken, missing or contradict each other.
    pub fn open(file: impl Read + Seek + 'static, start: u64) -> Result<Self, Fault> {
        let elements = Elements::read(file, start, PICTURE)?;
        let syntax = elements.syntax;
        let unread = || Fault::Unsupported(format!("transfer syntax {} ({})", syntax.uid(), syntax.name()));
        let codec = Codec::of(syntax.uid()).ok_or_else(unread)?;
        let layout =
            elements.layout.ok_or_else(|| Fault::Damaged("it holds no pixel data, or ends before them".into()))?;
        if elements.number(tags::NUMBER_OF_FRAMES)?.is_some_and(|frames| frames > 1.0) {
            return Err(Fault::Unsupported("several frames in one file".into()));
        }
        if elements.number(tags::SAMPLES_PER_PIXEL)?.is_some_and(|samples| samples != 1.0) {
            return Err(Fault::Unsupported("in colour".into()));
        }
        let gray = Gray::of(&elements)?;
        let shape = shape(&elements, gray.bits)?;
        if codec != Codec::Plain && layout != Layout::Fragments {
            return Err(Fault::Damaged("its coded pixel data do not lie in fragments".into()));
        }
        Ok(Self { elements, layout, codec, shape, gray })
    }

    /// Pixels in a row, and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.shape.columns.into(), self.shape.rows.into())
    }

    /// Most bytes that are in memory at once while a file of `length` bytes is decoded and made 8-bit gray.
    pub fn need(&self, length: u64) -> u64 {
        let coded = if self.layout == Layout::Fragments { length } else { 0 };
        coded + self.shape.pixels() as u64 * self.codec.bytes_per_pixel()
    }

    /// The film.
    ///
    /// # Errors
    /// As [`Codec::decode`], or if there are fewer pixels than rows and columns say.
    pub fn decode(mut self) -> Result<Film, Fault> {
        let (width, height) = (self.shape.columns.into(), self.shape.rows.into());
        let mut bytes = match self.layout {
            Layout::Plain(_) => self.elements.plain(self.shape.bytes())?,
            Layout::Fragments => self.elements.fragments()?,
        };
        if self.codec == Codec::Plain {
            if bytes.len() < self.shape.bytes() {
                return Err(Fault::Damaged("it has fewer pixels than rows and columns say".into()));
            }
            bytes.truncate(self.shape.bytes());
        }
        if let Layout::Plain(vr) = self.layout
            && self.elements.big_endian()
        {
            codec::swap(&mut bytes, vr, self.shape.allocated);
        }
        let stored = self.codec.decode(bytes, &self.shape)?;
        Ok(Film { width, height, samples: self.gray.samples(stored) })
    }
}

fn shape(elements: &Elements, stored: u16) -> Result<Shape, Fault> {
    let [rows, columns] = [elements.count(tags::ROWS)?, elements.count(tags::COLUMNS)?];
    if rows == 0 || columns == 0 {
        return Err(Fault::Damaged("it has no pixels".into()));
    }
    let allocated = elements.count(tags::BITS_ALLOCATED)?;
    if allocated != 8 && allocated != 16 {
        return Err(Fault::Unsupported(format!("{allocated} bits allocated")));
    }
    let high = elements.number(tags::HIGH_BIT)?.map_or(Ok(stored - 1), |_| elements.count(tags::HIGH_BIT))?;
    if high >= allocated || high + 1 < stored {
        return Err(Fault::Damaged("its bits allocated, bits stored and high bit contradict each other".into()));
    }
    Ok(Shape { rows, columns, allocated, stored, high })
}

/// What a film is and whose, as it stands in the file. Anything of it may be somebody's name: nothing but digests, and terms
/// that are known, may leave the program.
#[derive(Default)]
pub struct Identity {
    /// SOP Instance UID: this film.
    pub film: Vec<u8>,
    /// Study Instance UID.
    pub study: Vec<u8>,
    /// Accession number.
    pub accession: Vec<u8>,
    /// Patient ID.
    pub patient: Vec<u8>,
    /// Such as `DX`.
    pub modality: Vec<u8>,
    /// View position, such as `PA`.
    pub view: Vec<u8>,
    /// Whether its transfer syntax is one that is read.
    pub read: bool,
}

/// What a file says about itself; `None` if it is no DICOM file.
///
/// # Errors
/// If it cannot be read or its elements are broken.
pub fn identity(path: &Path) -> Result<Option<Identity>, Fault> {
    let names = [
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::ACCESSION_NUMBER,
        tags::PATIENT_ID,
        tags::MODALITY,
        tags::VIEW_POSITION,
    ];
    let (mut file, _) = file::open(path).map_err(|error| Fault::of(&error))?;
    let Some(start) = start(&head(&mut file)?) else { return Ok(None) };
    let elements = Elements::read(file, start, &names.map(|tag| (TOP, tag)))?;
    let [film, study, accession, patient, modality, view] = names.map(|tag| elements.text(tag).into());
    let read = Codec::of(elements.syntax.uid()).is_some();
    Ok(Some(Identity { film, study, accession, patient, modality, view, read }))
}

/// The first bytes of a file, as many as tell what it is.
pub(super) fn head(file: &mut (impl Read + Seek)) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    file.by_ref().take(132).read_to_end(&mut head).map_err(|error| Fault::of(&error))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| Fault::of(&error))?;
    Ok(head)
}
