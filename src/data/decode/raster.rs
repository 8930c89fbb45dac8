//! PNG and JPEG, decoded by the `image` crate.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::{Fault, Film, Samples};

/// Longest side that is decoded.
const MAX_SIDE: u32 = 1 << 15;

pub(super) fn decode(bytes: &[u8]) -> Result<Film, Fault> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(Fault::Foreign),
    };
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(Fault::Damaged("it has no end marker".into()));
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|error| Fault::Damaged(error.to_string()))?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    if width == 0 || height == 0 {
        return Err(Fault::Damaged("it has no pixels".into()));
    }
    let samples = match decoded {
        DynamicImage::ImageLuma8(image) => Samples::Eight(image.into_raw()),
        DynamicImage::ImageLumaA8(image) => Samples::Eight(gray::<_, 2>(image.as_raw())),
        DynamicImage::ImageRgb8(image) => Samples::Eight(gray::<_, 3>(image.as_raw())),
        DynamicImage::ImageRgba8(image) => Samples::Eight(gray::<_, 4>(image.as_raw())),
        DynamicImage::ImageLuma16(image) => Samples::Sixteen(image.into_raw()),
        DynamicImage::ImageLumaA16(image) => Samples::Sixteen(gray::<_, 2>(image.as_raw())),
        DynamicImage::ImageRgb16(image) => Samples::Sixteen(gray::<_, 3>(image.as_raw())),
        DynamicImage::ImageRgba16(image) => Samples::Sixteen(gray::<_, 4>(image.as_raw())),
        _ => return Err(Fault::Foreign),
    };
    Ok(Film { width, height, samples })
}

/// One gray value per pixel of `CHANNELS` values. Weights in 1/65536, as Pillow's conversion to `L`.
fn gray<T: Copy + Into<u64> + TryFrom<u64> + Default, const CHANNELS: usize>(values: &[T]) -> Vec<T> {
    let luma = |pixel: &[T]| match pixel {
        [red, green, blue, ..] => {
            let sum = 19595 * (*red).into() + 38470 * (*green).into() + 7471 * (*blue).into();
            T::try_from((sum + 0x8000) >> 16).unwrap_or_default()
        }
        _ => pixel[0],
    };
    values.chunks_exact(CHANNELS).map(luma).collect()
}

/// Whether an end marker (FF D9) follows the last start of scan (FF DA): neither can occur inside coded data.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last(0xD9).is_some_and(|end| last(0xDA).is_none_or(|scan| scan < end))
}
