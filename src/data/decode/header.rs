//! What the first bytes of a PNG or JPEG say: its size, and so how much memory it takes, before anything is decoded.

use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};

use image::ImageFormat;

use super::Fault;

/// What decides how a file is decoded, and how much memory that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub format: ImageFormat,
    pub width: u32,
    pub height: u32,
    /// Bytes of memory per pixel at the worst moment between reading and 8-bit gray.
    bytes_per_pixel: u64,
    /// How often the file itself lies in memory.
    copies: u64,
}

impl Header {
    /// Most bytes that are in memory at once while a file of `length` bytes is decoded and made 8-bit gray.
    pub fn need(&self, length: u64) -> u64 {
        // Decoders work on blocks of up to 32 pixels.
        let padded = |side: u32| u64::from(side).next_multiple_of(32);
        let pixels = padded(self.width).saturating_mul(padded(self.height));
        length.saturating_mul(self.copies).saturating_add(pixels.saturating_mul(self.bytes_per_pixel))
    }
}

/// Reads the header of a file and leaves the reader somewhere behind it.
///
/// # Errors
/// [`Fault::Foreign`] if it is neither PNG nor JPEG, [`Fault::Damaged`] if it is cut off or has no pixels.
pub(super) fn read(file: &mut (impl Read + Seek)) -> Result<Header, Fault> {
    let mut input = BufReader::new(file);
    let start = input.fill_buf().map_err(fault)?;
    if start.is_empty() {
        return Err(Fault::Damaged("it is empty".into()));
    }
    let header = match image::guess_format(start) {
        Ok(ImageFormat::Png) => png(&mut input),
        Ok(ImageFormat::Jpeg) => jpeg(&mut input),
        _ => return Err(Fault::Foreign),
    };
    let header = header.map_err(fault)?;
    if header.width == 0 || header.height == 0 {
        return Err(Fault::Damaged("it has no pixels".into()));
    }
    Ok(header)
}

fn fault(error: std::io::Error) -> Fault {
    match error.kind() {
        ErrorKind::UnexpectedEof => Fault::Damaged("its header is cut off or broken".into()),
        _ => Fault::Unreadable(error.to_string()),
    }
}

type Input<'a, R> = BufReader<&'a mut R>;

fn bytes<const N: usize, R: Read>(input: &mut Input<R>) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map(|()| bytes)
}

/// Chunks up to the first image data.
fn png<R: Read + Seek>(input: &mut Input<R>) -> std::io::Result<Header> {
    let start: [u8; 16] = bytes(input)?; // signature, length and name of the first chunk
    if start[12..] != *b"IHDR" {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let [width, height] = [bytes(input)?, bytes(input)?].map(u32::from_be_bytes);
    let [bits, colour, ..]: [u8; 9] = bytes(input)?; // compression, filter, interlacing, checksum
    let mut transparent = false;
    loop {
        let length = u32::from_be_bytes(bytes(input)?);
        let kind: [u8; 4] = bytes(input)?;
        match &kind {
            b"IDAT" | b"IEND" => break,
            b"tRNS" => transparent = true,
            _ => {}
        }
        input.seek_relative(i64::from(length) + 4)?;
    }
    // A palette becomes colours; transparency becomes a channel.
    let channels = match colour {
        0 => 1,
        4 => 2,
        6 => 4,
        _ => 3,
    };
    let decoded = (channels + u64::from(transparent)) * if bits == 16 { 2 } else { 1 };
    // 16-bit gray and what it becomes in 8 bits lie side by side.
    let bytes_per_pixel = if bits == 16 { decoded.max(3) } else { decoded };
    Ok(Header { format: ImageFormat::Png, width, height, bytes_per_pixel, copies: 1 })
}

/// Segments up to the first scan.
fn jpeg<R: Read + Seek>(input: &mut Input<R>) -> std::io::Result<Header> {
    let mut frame = None;
    loop {
        while bytes::<1, R>(input)? != [0xFF] {}
        let mut marker = 0xFF;
        while marker == 0xFF {
            [marker] = bytes(input)?;
        }
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
            continue; // stands alone
        }
        let length = u16::from_be_bytes(bytes(input)?);
        if length < 2 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match (marker, frame) {
            (0xC0..=0xCF, _) if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                let [_precision]: [u8; 1] = bytes(input)?;
                let [height, width] = [bytes(input)?, bytes(input)?].map(|side| u16::from_be_bytes(side).into());
                let [components]: [u8; 1] = bytes(input)?;
                frame = Some((width, height, components, ![0xC0, 0xC1].contains(&marker)));
                input.seek_relative(i64::from(length) - 8)?;
            }
            (0xDA, Some((width, height, components, progressive))) => {
                let [in_scan]: [u8; 1] = bytes(input)?;
                let decoded = if components == 1 { 1 } else { 3 };
                // Scans that hold a part of the picture are gathered as 16-bit coefficients.
                let gathered = if progressive || in_scan != components { 2 * u64::from(components) } else { 0 };
                let bytes_per_pixel = decoded + gathered;
                return Ok(Header { format: ImageFormat::Jpeg, width, height, bytes_per_pixel, copies: 2 });
            }
            (0xD9 | 0xDA, _) => return Err(ErrorKind::UnexpectedEof.into()),
            _ => input.seek_relative(i64::from(length) - 2)?,
        }
    }
}
