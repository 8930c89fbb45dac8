//! PNG and JPEG, decoded by the `image` crate.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::header::Header;
use super::{Fault, Film, MEMORY, Samples};

pub(super) fn decode(bytes: Vec<u8>, header: &Header) -> Result<Film, Fault> {
    let damaged = |error: image::ImageError| Fault::Damaged(error.to_string());
    if header.format == ImageFormat::Jpeg && !jpeg_ends(&bytes) {
        return Err(Fault::Damaged("it has no end marker".into()));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), header.format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    if decoder.dimensions() != (header.width, header.height) {
        return Err(Fault::Damaged("it has more than one size".into()));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    drop(bytes);
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let samples = match decoded {
        DynamicImage::ImageLuma8(image) => Samples::Eight(image.into_raw()),
        DynamicImage::ImageLumaA8(image) => Samples::Eight(gray::<_, 2>(image.into_raw())),
        DynamicImage::ImageRgb8(image) => Samples::Eight(gray::<_, 3>(image.into_raw())),
        DynamicImage::ImageRgba8(image) => Samples::Eight(gray::<_, 4>(image.into_raw())),
        DynamicImage::ImageLuma16(image) => Samples::Sixteen(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => Samples::Sixteen(gray::<_, 2>(image.into_raw())),
        DynamicImage::ImageRgb16(image) => Samples::Sixteen(gray::<_, 3>(image.into_raw())),
        DynamicImage::ImageRgba16(image) => Samples::Sixteen(gray::<_, 4>(image.into_raw())),
        _ => return Err(Fault::Foreign),
    };
    Ok(Film { width, height, samples })
}

/// One gray value per pixel of `CHANNELS` values, in the same memory. Weights in 1/65536, as Pillow's conversion to `L`.
fn gray<T: Copy + Into<u64> + TryFrom<u64> + Default, const CHANNELS: usize>(mut values: Vec<T>) -> Vec<T> {
    let luma = |pixel: &[T]| match pixel {
        [red, green, blue, ..] => {
            let sum = 19595 * (*red).into() + 38470 * (*green).into() + 7471 * (*blue).into();
            T::try_from((sum + 0x8000) >> 16).unwrap_or_default()
        }
        _ => pixel[0],
    };
    let pixels = values.len() / CHANNELS;
    for pixel in 0..pixels {
        values[pixel] = luma(&values[pixel * CHANNELS..][..CHANNELS]);
    }
    values.truncate(pixels);
    values.shrink_to_fit();
    values
}

/// Whether an end marker (FF D9) follows the last start of scan (FF DA): neither can occur inside coded data.
pub(super) fn jpeg_ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last(0xD9).is_some_and(|end| last(0xDA).is_none_or(|scan| scan < end))
}
