//! Pixel data of one film, from whatever they are coded in to stored values.

use dicom_core::VR;
use dicom_dictionary_std::uids;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::super::raster::jpeg_ends;
use super::Fault;

/// How pixels are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Plain,
    Rle,
    Jpeg,
    Jpeg2000,
}

/// What the elements say about the pixels of a film in gray.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub rows: u16,
    pub columns: u16,
    /// 8 or 16: bits from one value to the next.
    pub allocated: u16,
    /// Bits of a value, and the highest of them.
    pub stored: u16,
    pub high: u16,
}

impl Shape {
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of plain pixels.
    pub fn bytes(&self) -> usize {
        self.pixels() * usize::from(self.allocated / 8)
    }

    fn mask(&self) -> u16 {
        u16::MAX >> (16 - self.stored)
    }

    fn is(&self, width: u32, height: u32) -> Result<(), Fault> {
        match (width, height) == (self.columns.into(), self.rows.into()) {
            true => Ok(()),
            false => Err(Fault::Damaged("its coded pixels are of another size than its rows and columns say".into())),
        }
    }
}

impl Codec {
    /// By transfer syntax; `None` where there is no decoder in Rust, or none at all.
    pub fn of(syntax: &str) -> Option<Self> {
        Some(match syntax {
            uids::IMPLICIT_VR_LITTLE_ENDIAN
            | uids::EXPLICIT_VR_LITTLE_ENDIAN
            | uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN
            | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
            | "1.2.840.10008.1.2.2" => Self::Plain, // big endian, retired
            uids::RLE_LOSSLESS => Self::Rle,
            uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT | uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1 => {
                Self::Jpeg
            }
            uids::JPEG2000_LOSSLESS | uids::JPEG2000 => Self::Jpeg2000,
            _ => return None,
        })
    }

    /// Most bytes of memory per pixel, without the file, from reading to 8-bit gray.
    pub fn bytes_per_pixel(self) -> u64 {
        match self {
            Self::Plain => 6,
            Self::Rle => 6,
            Self::Jpeg => 10,
            Self::Jpeg2000 => 20,
        }
    }

    /// Stored values [rows, columns], each of `shape.stored` bits; of plain pixels `bytes` are little endian.
    ///
    /// # Errors
    /// If the pixels are damaged, of another size, or of a kind that the decoders lack.
    pub fn decode(self, bytes: Vec<u8>, shape: &Shape) -> Result<Vec<u16>, Fault> {
        let mask = shape.mask();
        let lowest = shape.high + 1 - shape.stored;
        let cells = |bytes: &[u8]| match shape.allocated {
            8 => bytes.iter().map(|&value| u16::from(value) >> lowest & mask).collect(),
            _ => bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair) >> lowest & mask).collect(),
        };
        match self {
            Self::Plain => Ok(cells(&bytes)),
            Self::Rle => rle(&bytes, shape).map(|bytes| cells(&bytes)),
            Self::Jpeg => jpeg(&bytes, shape),
            Self::Jpeg2000 => jpeg_2000(&bytes, shape),
        }
    }
}

/// Puts the bytes of big-endian words in the order of little-endian ones.
pub(super) fn swap(bytes: &mut [u8], vr: VR, allocated: u16) {
    if allocated == 16 || vr == VR::OW {
        bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
    }
}

fn damaged(codec: &str) -> Fault {
    Fault::Damaged(format!("its {codec} pixel data cannot be decoded"))
}

/// PS3.5 annex G: 16 numbers of 32 bits, how many segments and where each begins; a segment holds one byte of every
/// pixel, the highest first. (The decoder of dicom-rs panics where a segment is too short.)
fn rle(fragment: &[u8], shape: &Shape) -> Result<Vec<u8>, Fault> {
    let fault = || damaged("RLE");
    let number = |at: usize| fragment.as_chunks::<4>().0.get(at).map(|&four| u32::from_le_bytes(four) as usize);
    let planes = usize::from(shape.allocated / 8);
    if number(0) != Some(planes) {
        return Err(fault());
    }
    let mut bytes = vec![0; shape.bytes()];
    for plane in 0..planes {
        let begin = number(1 + plane).filter(|&begin| begin >= 64).ok_or_else(fault)?;
        let end = if plane + 1 < planes { number(2 + plane).ok_or_else(fault)? } else { fragment.len() };
        let mut segment = fragment.get(begin..end).ok_or_else(fault)?.iter();
        let mut targets = bytes.iter_mut().skip(planes - 1 - plane).step_by(planes);
        let mut left = shape.pixels();
        while left > 0 {
            let &head = segment.next().ok_or_else(fault)?;
            let count = match head as i8 {
                -128 => continue,
                literal @ 0.. => literal as usize + 1,
                run => (1 - isize::from(run)) as usize,
            }
            .min(left);
            left -= count;
            if (head as i8) < 0 {
                let &value = segment.next().ok_or_else(fault)?;
                targets.by_ref().take(count).for_each(|target| *target = value);
            } else {
                let values = segment.as_slice().get(..count).ok_or_else(fault)?;
                targets.by_ref().zip(values).take(count).for_each(|(target, &value)| *target = value);
                segment = segment.as_slice()[count..].iter();
            }
        }
    }
    Ok(bytes)
}

/// What a JPEG says before its first scan.
struct Jpeg {
    /// The marker of its frame, which is its process.
    process: u8,
    precision: u8,
    height: u16,
    width: u16,
    components: u8,
    /// Bits that a lossless scan leaves out.
    transform: u8,
    restarts: bool,
}

/// Segments up to the first scan; `None` if they are broken.
fn jpeg_header(bytes: &[u8]) -> Option<Jpeg> {
    let mut jpeg = None;
    let mut restarts = false;
    let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let &[0xFF, marker, high, low, ref behind @ ..] = rest else { return None };
        if marker == 0xFF {
            rest = &rest[1..]; // fill
            continue;
        }
        let segment = behind.get(..usize::from(u16::from_be_bytes([high, low])).checked_sub(2)?)?;
        rest = &behind[segment.len()..];
        match (marker, segment) {
            (0xC4 | 0xC8 | 0xCC, _) => {}
            (0xC0..=0xCF, &[precision, h, eight, w, idth, components, ..]) => {
                let [height, width] = [[h, eight], [w, idth]].map(u16::from_be_bytes);
                jpeg = Some(Jpeg { process: marker, precision, height, width, components, transform: 0, restarts });
            }
            (0xDD, &[high, low]) => restarts = [high, low] != [0, 0],
            (0xDA, &[.., last]) => return jpeg.map(|jpeg| Jpeg { transform: last & 15, restarts, ..jpeg }),
            (0xD9, _) => return None,
            _ => {}
        }
    }
}

fn jpeg(bytes: &[u8], shape: &Shape) -> Result<Vec<u16>, Fault> {
    let fault = || damaged("JPEG");
    let header = jpeg_header(bytes).filter(|_| jpeg_ends(bytes)).ok_or_else(fault)?;
    shape.is(header.width.into(), header.height.into())?;
    match header.process {
        _ if header.components != 1 => return Err(Fault::Unsupported("in colour".into())),
        0xC0..=0xC2 if header.precision == 8 => {}
        0xC0..=0xC2 => return Err(Fault::Unsupported(format!("lossy JPEG of {} bits", header.precision))),
        0xC3 if !(2..=16).contains(&header.precision) || header.transform >= header.precision => return Err(fault()),
        // The decoder does not begin anew at them.
        0xC3 if header.restarts => return Err(Fault::Unsupported("lossless JPEG with restarts".into())),
        0xC3 => {}
        other => return Err(Fault::Unsupported(format!("JPEG of process {}", other - 0xC0))),
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(2 * shape.pixels());
    let values = decoder.decode().map_err(|_| fault())?;
    let mask = shape.mask();
    // Of more than 8 bits it gives pairs of bytes, in this machine's order.
    match header.precision {
        8 if values.len() == shape.pixels() => Ok(values.into_iter().map(|value| u16::from(value) & mask).collect()),
        _ if values.len() == 2 * shape.pixels() => {
            Ok(values.as_chunks().0.iter().map(|&pair| u16::from_ne_bytes(pair) & mask).collect())
        }
        _ => Err(fault()),
    }
}

fn jpeg_2000(bytes: &[u8], shape: &Shape) -> Result<Vec<u16>, Fault> {
    let fault = || damaged("JPEG 2000");
    let end = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xD9]).ok_or_else(fault)?;
    let bytes = &bytes[..end + 2];
    let begin = bytes.windows(4).position(|four| four == [0xFF, 0x4F, 0xFF, 0x51]).ok_or_else(fault)?;
    // Behind the sizes: how many components, and sign and bits of the first.
    let &[high, low, depth] = bytes.get(begin + 40..begin + 43).ok_or_else(fault)? else { return Err(fault()) };
    if [high, low] != [0, 1] {
        return Err(Fault::Unsupported("in colour".into()));
    }
    let (signed, precision) = (depth & 0x80 != 0, (depth & 0x7F) + 1);
    if precision > 16 {
        return Err(Fault::Unsupported(format!("JPEG 2000 of {precision} bits")));
    }
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(&bytes[begin..], &settings).map_err(|_| fault())?;
    shape.is(image.width(), image.height())?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|_| fault())?;
    let samples = decoded.components().first().map_or(&[][..], |component| component.samples());
    if samples.len() != shape.pixels() {
        return Err(fault());
    }
    // The decoder shifts signed values too: they come as what is above the lowest.
    let (brightest, shift) = ((1u32 << precision) - 1, if signed { 1u16 << (precision - 1) } else { 0 });
    let mask = shape.mask();
    let value = |sample: f32| (sample.round().clamp(0.0, brightest as f32) as u16).wrapping_sub(shift) & mask;
    Ok(samples.iter().map(|&sample| value(sample)).collect())
}
