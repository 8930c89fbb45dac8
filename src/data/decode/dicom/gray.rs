//! From stored values to gray: modality, window and photometric interpretation (DICOM PS3.3 C.7.6.3.1, C.11.1, C.11.2).

use dicom_core::{PrimitiveValue, Tag};
use dicom_dictionary_std::tags;

use super::elements::Elements;
use super::{Fault, Samples};

/// A lookup table.
struct Lut {
    /// The value that the first entry is for; smaller ones take it too.
    first: f64,
    entries: Vec<u16>,
    /// The largest entry that its bits allow.
    brightest: f64,
}

/// From stored values to what the apparatus measured.
enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Lut(Lut),
}

/// From those to what is to be seen.
enum Window {
    /// All of it.
    Whole,
    Linear {
        center: f64,
        width: f64,
    },
    LinearExact {
        center: f64,
        width: f64,
    },
    Sigmoid {
        center: f64,
        width: f64,
    },
    Lut(Lut),
}

/// How stored values become gray.
pub(super) struct Gray {
    /// Bits of a stored value, 1 to 16.
    pub bits: u16,
    signed: bool,
    modality: Modality,
    window: Window,
    /// The smallest value is white.
    inverted: bool,
}

impl Gray {
    /// Reads the rules from a file's elements. A table goes before a line, a VOI LUT before a window, the first window
    /// before others; a window whose width is not possible is none.
    ///
    /// # Errors
    /// If an element is missing or impossible, or the film is in colour.
    pub fn of(elements: &Elements) -> Result<Self, Fault> {
        let inverted = match elements.text(tags::PHOTOMETRIC_INTERPRETATION) {
            b"MONOCHROME1" => true,
            b"MONOCHROME2" => false,
            b"" => return Err(Fault::Damaged("its photometric interpretation is missing".into())),
            _ => return Err(Fault::Unsupported("in colour".into())),
        };
        let bits = elements.count(tags::BITS_STORED)?;
        if !(1..=16).contains(&bits) {
            return Err(Fault::Unsupported(format!("{bits} bits stored")));
        }
        let signed = elements.number(tags::PIXEL_REPRESENTATION)? == Some(1.0);
        let modality = match lut(elements, tags::MODALITY_LUT_SEQUENCE)? {
            Some(lut) => Modality::Lut(lut),
            None => Modality::Rescale {
                slope: elements.number(tags::RESCALE_SLOPE)?.unwrap_or(1.0),
                intercept: elements.number(tags::RESCALE_INTERCEPT)?.unwrap_or(0.0),
            },
        };
        let window = match lut(elements, tags::VOILUT_SEQUENCE)? {
            Some(lut) => Window::Lut(lut),
            None => window(elements)?,
        };
        Ok(Self { bits, signed, modality, window, inverted })
    }

    /// Gray of every stored value [2^bits], 0 to 1.
    fn table(&self) -> Vec<f64> {
        let codes = 1i32 << self.bits;
        let value = |code: i32| f64::from(if self.signed && code >= codes / 2 { code - codes } else { code });
        let measured = |code: i32| match &self.modality {
            Modality::Rescale { slope, intercept } => value(code) * slope + intercept,
            Modality::Lut(lut) => lut.at(value(code)),
        };
        // Between what is possible: bits or table say what, not this film.
        let ends = match &self.modality {
            Modality::Lut(lut) => [0.0, lut.brightest],
            Modality::Rescale { .. } if self.signed => [measured(codes / 2), measured(codes / 2 - 1)],
            Modality::Rescale { .. } => [measured(0), measured(codes - 1)],
        };
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let seen = |measured: f64| match &self.window {
            Window::Whole => (measured - low) / (high - low),
            Window::Linear { center, width } => ramp(measured, center - 0.5, width - 1.0),
            Window::LinearExact { center, width } => ramp(measured, *center, *width),
            Window::Sigmoid { center, width } => 1.0 / (1.0 + (-4.0 * (measured - center) / width).exp()),
            Window::Lut(lut) => lut.at(measured) / lut.brightest,
        };
        let gray = |code| if self.inverted { 1.0 - seen(measured(code)) } else { seen(measured(code)) };
        // A slope of 0 makes one gray of everything.
        (0..codes).map(|code| gray(code).clamp(0.0, 1.0)).map(|gray| if gray.is_nan() { 0.0 } else { gray }).collect()
    }

    /// Stored values, each below 2^bits, as gray: 8 bits if the file says what is to be seen, or has no more of them;
    /// else 16.
    pub fn samples(&self, stored: Vec<u16>) -> Samples {
        let table = self.table();
        if self.bits <= 8 || !matches!(self.window, Window::Whole) {
            let table: Vec<u8> = table.into_iter().map(|gray| (gray * 255.0).round() as u8).collect();
            return Samples::Eight(stored.into_iter().map(|value| table[usize::from(value)]).collect());
        }
        let table: Vec<u16> = table.into_iter().map(|gray| (gray * 65535.0).round() as u16).collect();
        Samples::Sixteen(stored.into_iter().map(|value| table[usize::from(value)]).collect())
    }
}

/// 0 up to half a width below the center, 1 from half a width above it.
fn ramp(value: f64, center: f64, width: f64) -> f64 {
    match () {
        () if value <= center - width / 2.0 => 0.0,
        () if value > center + width / 2.0 => 1.0,
        () => (value - center) / width + 0.5,
    }
}

fn window(elements: &Elements) -> Result<Window, Fault> {
    let [center, width] = [elements.number(tags::WINDOW_CENTER)?, elements.number(tags::WINDOW_WIDTH)?];
    let (Some(center), Some(width)) = (center, width) else { return Ok(Window::Whole) };
    Ok(match elements.text(tags::VOILUT_FUNCTION) {
        b"LINEAR_EXACT" if width > 0.0 => Window::LinearExact { center, width },
        b"SIGMOID" if width > 0.0 => Window::Sigmoid { center, width },
        b"LINEAR_EXACT" | b"SIGMOID" => Window::Whole,
        _ if width >= 1.0 => Window::Linear { center, width },
        _ => Window::Whole,
    })
}

impl Lut {
    fn at(&self, value: f64) -> f64 {
        let last = self.entries.len() - 1;
        // Both ends go on outside the table.
        f64::from(self.entries[((value - self.first).max(0.0) as usize).min(last)])
    }
}

/// The table in the first item of a sequence: how many entries, the value of the first, bits of an entry.
fn lut(elements: &Elements, sequence: Tag) -> Result<Option<Lut>, Fault> {
    let descriptor = match elements.within(sequence, tags::LUT_DESCRIPTOR) {
        None | Some(PrimitiveValue::Empty) => return Ok(None),
        Some(descriptor) => descriptor,
    };
    let short = || Fault::Damaged(format!("the lookup table in element {sequence} is shorter than it says"));
    let numbers = descriptor.to_multi_int::<i32>().map_err(|_| short())?;
    let &[count, first, bits] = &numbers[..] else { return Err(short()) };
    let count = match (count & 0xFFFF) as usize {
        0 => 1 << 16,
        count => count,
    };
    let bits = if (1..=16).contains(&bits) { bits } else { 16 };
    let packed = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect();
    let mut entries: Vec<u16> = match elements.within(sequence, tags::LUT_DATA) {
        Some(PrimitiveValue::U16(words)) if words.len() < count && bits <= 8 => packed(words),
        Some(PrimitiveValue::U16(words)) => words.to_vec(),
        Some(PrimitiveValue::I16(words)) => words.iter().map(|&word| word as u16).collect(),
        Some(PrimitiveValue::U8(bytes)) if bytes.len() >= 2 * count => {
            bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect()
        }
        Some(PrimitiveValue::U8(bytes)) => bytes.iter().copied().map(u16::from).collect(),
        _ => return Err(short()),
    };
    if entries.len() < count {
        return Err(short());
    }
    entries.truncate(count);
    Ok(Some(Lut { first: first.into(), entries, brightest: f64::from((1u32 << bits) - 1) }))
}
