//! Elements of a DICOM file, by dicom-rs: those that are asked for and no others, so that names, ids and dates that
//! nobody needs never enter memory. Lengths are believed only as far as the file goes.

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

use dicom_core::header::{Header, Length};
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::{Codec, Endianness, TransferSyntax, TransferSyntaxIndex};
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_parser::{DynStatefulDecoder, StatefulDecode};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::Fault;

/// A sequence, of which the first item is read, and an element in it.
pub(super) type Key = (Tag, Tag);
/// In place of a sequence: the data set itself.
pub(super) const TOP: Tag = Tag(0, 0);

/// Longest value that is read, bytes: a lookup table of 65,536 entries of 16 bits.
const VALUE_BYTES: u32 = 1 << 17;
/// Longest group of file meta elements.
const META_BYTES: u32 = 1 << 20;

type Reader = LazyDataSetReader<DynStatefulDecoder<Box<dyn Read>>>;

static REGISTRY: TransferSyntaxRegistry = TransferSyntaxRegistry;

/// How pixel data lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As one value.
    Plain(VR),
    /// As fragments, behind a table of their offsets.
    Fragments,
}

/// A file that was read up to its pixel data.
pub(super) struct Elements {
    reader: Reader,
    values: HashMap<Key, PrimitiveValue>,
    /// How the file is encoded.
    pub syntax: &'static TransferSyntax,
    /// `None` if the file ends before.
    pub layout: Option<Layout>,
}

/// Where the elements begin, behind the magic word; `None` if these first 132 bytes are not of a DICOM file.
pub(in crate::data) fn start(head: &[u8]) -> Option<u64> {
    let magic = |at: &usize| head.get(*at..at + 4) == Some(b"DICM");
    [128, 0].into_iter().find(magic).map(|at| at as u64 + 4)
}

fn broken() -> Fault {
    // Never the parser's own words: they quote values.
    Fault::Damaged("its elements cannot be followed".into())
}

impl Elements {
    /// Reads a file whose elements begin at `start`, up to the pixel data.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if the transfer syntax is unknown, [`Fault::Damaged`] if the elements are no elements.
    pub fn read(file: impl Read + Seek + 'static, start: u64, wanted: &[Key]) -> Result<Self, Fault> {
        let mut input = BufReader::new(file);
        input.seek(SeekFrom::Start(start)).map_err(|error| Fault::of(&error))?;
        let syntax = syntax(&mut input)?;
        let input: Box<dyn Read> = match syntax.codec() {
            Codec::Dataset(Some(inflate)) => Box::new(BufReader::new(inflate.adapt_reader(Box::new(input)))),
            _ => Box::new(input),
        };
        let mut reader = reader(input, syntax)?;
        let (values, layout) = scan(&mut reader, wanted)?;
        Ok(Self { reader, values, syntax, layout })
    }

    /// Whether numbers have their highest byte first.
    pub fn big_endian(&self) -> bool {
        self.syntax.endianness() == Endianness::Big
    }

    /// The first of the numbers of an element, if it is there.
    ///
    /// # Errors
    /// If it is no finite number.
    pub fn number(&self, tag: Tag) -> Result<Option<f64>, Fault> {
        match self.values.get(&(TOP, tag)) {
            None | Some(PrimitiveValue::Empty) => Ok(None),
            Some(value) => match value.to_float64() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(Fault::Damaged(format!("element {tag} is not a number"))),
            },
        }
    }

    /// A number of 16 bits.
    ///
    /// # Errors
    /// If it is missing or something else.
    pub fn count(&self, tag: Tag) -> Result<u16, Fault> {
        match self.number(tag)? {
            None => Err(Fault::Damaged(format!("element {tag} is missing"))),
            Some(number) if number.fract() == 0.0 && (0.0..=65535.0).contains(&number) => Ok(number as u16),
            Some(_) => Err(Fault::Damaged(format!("element {tag} is out of range"))),
        }
    }

    /// The bytes of a text, without padding; empty if it is missing.
    pub fn text(&self, tag: Tag) -> &[u8] {
        match self.values.get(&(TOP, tag)) {
            Some(PrimitiveValue::U8(bytes)) => bytes.strip_suffix(b"\0").unwrap_or(bytes).trim_ascii(),
            _ => &[],
        }
    }

    /// An element of the first item of a sequence, if it is there.
    pub fn within(&self, sequence: Tag, tag: Tag) -> Option<&PrimitiveValue> {
        self.values.get(&(sequence, tag))
    }

    /// The first `length` bytes of plain pixel data; fewer if there are fewer.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn plain(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        let Some(Ok(LazyDataToken::LazyValue { header, decoder })) = self.reader.advance() else {
            return Err(broken());
        };
        let mut bytes = Vec::new();
        if header.len >= Length(length as u32) {
            decoder.read_to_vec(length as u32, &mut bytes).map_err(|_| broken())?;
        }
        Ok(bytes)
    }

    /// The fragments of the pixel data, joined.
    ///
    /// # Errors
    /// If they end before they say so.
    pub fn fragments(&mut self) -> Result<Vec<u8>, Fault> {
        let (mut bytes, mut items, mut open) = (Vec::new(), 0, false);
        while let Some(Ok(token)) = self.reader.advance() {
            match token {
                LazyDataToken::ItemStart { .. } if !open => (items, open) = (items + 1, true),
                LazyDataToken::ItemEnd if open => open = false,
                LazyDataToken::LazyItemValue { len, decoder } if items == 1 => {
                    decoder.skip_bytes(len).map_err(|_| broken())?; // the table of offsets
                }
                LazyDataToken::LazyItemValue { len, decoder } => {
                    let whole = bytes.len() + len as usize;
                    decoder.read_to_vec(len, &mut bytes).map_err(|_| broken())?;
                    if bytes.len() != whole {
                        break;
                    }
                }
                LazyDataToken::SequenceEnd => return Ok(bytes),
                _ => return Err(broken()),
            }
        }
        Err(Fault::Damaged("its pixel data are cut off".into()))
    }
}

fn reader(input: Box<dyn Read>, syntax: &TransferSyntax) -> Result<Reader, Fault> {
    Ok(LazyDataSetReader::new(DynStatefulDecoder::new_with_ts(input, syntax, 0).map_err(|_| broken())?))
}

/// Reads the file meta group, which begins with its length, and finds the transfer syntax in it.
fn syntax(input: &mut impl Read) -> Result<&'static TransferSyntax, Fault> {
    let mut head = [0; 12];
    input.read_exact(&mut head).map_err(|_| broken())?;
    let [.., a, b, c, d] = head;
    let length = u32::from_le_bytes([a, b, c, d]);
    if head[..8] != *b"\x02\0\0\0UL\x04\0" || length > META_BYTES {
        return Err(broken());
    }
    let mut meta = Vec::new();
    input.take(length.into()).read_to_end(&mut meta).map_err(|_| broken())?;
    let explicit = REGISTRY.get(uids::EXPLICIT_VR_LITTLE_ENDIAN).ok_or_else(broken)?;
    let mut reader = reader(Box::new(std::io::Cursor::new(meta)), explicit)?;
    let (values, _) = scan(&mut reader, &[(TOP, tags::TRANSFER_SYNTAX_UID)])?;
    let Some(PrimitiveValue::U8(uid)) = values.get(&(TOP, tags::TRANSFER_SYNTAX_UID)) else {
        return Err(Fault::Damaged("its transfer syntax is missing".into()));
    };
    let uid = String::from_utf8_lossy(uid);
    let uid = uid.trim_matches(|end: char| end == '\0' || end.is_whitespace());
    REGISTRY.get(uid).ok_or_else(|| match uid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        true => Fault::Unsupported(format!("transfer syntax {uid:.64} (of no known name)")),
        false => broken(),
    })
}

/// What is open around an element.
enum Open {
    /// A sequence, and how many items of it began.
    Sequence(Tag, u32),
    Item,
}

type Values = HashMap<Key, PrimitiveValue>;

/// Reads the wanted elements up to the pixel data, or to the end.
fn scan(reader: &mut Reader, wanted: &[Key]) -> Result<(Values, Option<Layout>), Fault> {
    let (mut values, mut open) = (Values::new(), Vec::new());
    while let Some(token) = reader.advance() {
        match token.map_err(|_| broken())? {
            LazyDataToken::PixelSequenceStart if open.is_empty() => return Ok((values, Some(Layout::Fragments))),
            LazyDataToken::ElementHeader(header) if open.is_empty() && header.tag() == tags::PIXEL_DATA => {
                return Ok((values, Some(Layout::Plain(header.vr()))));
            }
            LazyDataToken::PixelSequenceStart => open.push(Open::Sequence(tags::PIXEL_DATA, 0)),
            LazyDataToken::SequenceStart { tag, .. } => open.push(Open::Sequence(tag, 0)),
            LazyDataToken::ItemStart { .. } => match open.last_mut() {
                Some(Open::Sequence(_, items)) => {
                    *items += 1;
                    open.push(Open::Item);
                }
                _ => return Err(broken()),
            },
            // The parser takes ends of what never began, and goes astray.
            LazyDataToken::ItemEnd if !matches!(open.pop(), Some(Open::Item)) => return Err(broken()),
            LazyDataToken::SequenceEnd if !matches!(open.pop(), Some(Open::Sequence(..))) => return Err(broken()),
            LazyDataToken::LazyValue { header, decoder } => {
                let key = match open[..] {
                    [] => Some((TOP, header.tag())),
                    [Open::Sequence(sequence, 1), Open::Item] => Some((sequence, header.tag())),
                    _ => None,
                };
                let length = header.len.0;
                let Some(key) = key.filter(|key| wanted.contains(key)) else {
                    decoder.skip_bytes(length).map_err(|_| broken())?;
                    continue;
                };
                if length > VALUE_BYTES {
                    return Err(broken());
                }
                // Text as it is: what it is compared and hashed as needs no character set.
                let text = [VR::UI, VR::LO, VR::SH, VR::CS].contains(&header.vr());
                let value =
                    if text { decoder.read_value_bytes(&header) } else { decoder.read_value_preserved(&header) };
                values.insert(key, value.map_err(|_| broken())?);
            }
            token => token.skip().map_err(|_| broken())?,
        }
    }
    Ok((values, None))
}
