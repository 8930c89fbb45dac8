//! Reads what an ONNX file holds by name: its initialisers and the words that came with it. Of protocol buffers no more than
//! that takes.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

use super::tensors::{MOST_EXTENTS, Tensor};

/// How a `ModelProto` begins: field 1, the version, as an integer.
pub const START: &[u8] = &[0x08];

/// Names and tensors.
pub type Named = Vec<(String, Tensor)>;
/// Keys and values.
pub type Words = BTreeMap<String, String>;

/// Tensors and words of a file.
///
/// # Errors
/// In words, if it is cut, damaged or keeps its numbers elsewhere.
pub fn read(bytes: &[u8]) -> Result<(Named, Words), String> {
    let (mut tensors, mut words) = (Vec::new(), BTreeMap::new());
    for field in Fields::of(bytes, 0..bytes.len()) {
        match field? {
            (7, Content::Bytes(graph)) => {
                for field in Fields::of(bytes, graph) {
                    if let (5, Content::Bytes(initialiser)) = field? {
                        tensors.push(tensor(bytes, initialiser)?);
                    }
                }
            }
            (14, Content::Bytes(entry)) => {
                let pair = Fields::of(bytes, entry).collect::<Result<Vec<_>, _>>()?;
                if let [(1, Content::Bytes(key)), (2, Content::Bytes(value))] = &pair[..] {
                    words.insert(text(&bytes[key.clone()]), text(&bytes[value.clone()]));
                }
            }
            _ => {}
        }
    }
    Ok((tensors, words))
}

fn tensor(bytes: &[u8], within: Range<usize>) -> Result<(String, Tensor), String> {
    let (mut shape, mut kind, mut name, mut raw) = (Vec::new(), 0, String::new(), None);
    for field in Fields::of(bytes, within) {
        match field? {
            (1, Content::Integer(extent)) if shape.len() < MOST_EXTENTS => shape.push(extent as usize),
            (2, Content::Integer(number)) => kind = number,
            (8, Content::Bytes(range)) => name = text(&bytes[range]),
            (9, Content::Bytes(range)) => raw = Some(range),
            _ => {}
        }
    }
    let dtype = match kind {
        1 => Dtype::F32,
        6 => Dtype::I32,
        7 => Dtype::I64,
        10 => Dtype::F16,
        11 => Dtype::F64,
        16 => Dtype::BF16,
        _ => return Err(format!("{name} in it has the type {kind} of ONNX, which is not read")),
    };
    let raw = raw.ok_or_else(|| format!("{name} in it keeps its numbers elsewhere"))?;
    let wanted = shape.iter().try_fold(dtype.bitsize() / 8, |product, &extent| product.checked_mul(extent));
    if wanted != Some(raw.len()) {
        return Err(format!(
            "{name} in it has {} bytes, which its shape {shape:?} does not: fetch it again",
            raw.len()
        ));
    }
    let tensor = Tensor::rows(dtype, shape, raw.start);
    Ok((name, tensor))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a field holds.
enum Content {
    Integer(u64),
    Bytes(Range<usize>),
    Other,
}

/// The fields of a message that lies in this range of a file.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], within: Range<usize>) -> Self {
        Self { bytes, at: within.start, end: within.end }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes[..self.end].get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, length: u64) -> Option<Range<usize>> {
        let length = usize::try_from(length).ok().filter(|&length| length <= self.end - self.at)?;
        self.at += length;
        Some(self.at - length..self.at)
    }

    fn field(&mut self) -> Option<(u64, Content)> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => Content::Integer(self.varint()?),
            1 => self.skip(8).map(|_| Content::Other)?,
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.skip(length)?)
            }
            5 => self.skip(4).map(|_| Content::Other)?,
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<(u64, Content), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.at = self.end;
        }
        Some(field.ok_or_else(|| "it is cut or damaged, or no ONNX file: fetch it again".into()))
    }
}
