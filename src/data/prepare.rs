//! From a decoded film to gray values [size, size]: window, crop, resize, pad; and the same way for boxes and masks.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::decode::{Fault, Film, Samples};
use super::record::BoundingBox;

/// A border pixel is this close to black or to white.
const BORDER_LEVELS: u8 = 12;
/// Share of a border line's pixels that may differ (burnt-in specks, compression noise).
const BORDER_SPECKS: f64 = 0.01;
/// What lies outside the window of a 16-bit film, at each end.
const WINDOW_TAIL: f64 = 0.001;

/// How a film becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Borders cropped, longest side resized to the size, the rest black, the film in the middle.
    #[default]
    Fit,
    /// Borders cropped, both sides resized to the size; the aspect is lost.
    Stretch,
    /// What the released code does: cropped to the rows and columns that are not zero, stretched to 0..256 by
    /// darkest and brightest value, both sides resized (bilinear, no anti-aliasing), cut to 8 bits. The brightest
    /// value is 256 and becomes 0, as there.
    Official,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
    /// Width.
    pub w: usize,
    /// Height.
    pub h: usize,
}

/// Which part of the source lies where on the packed film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// What was kept of the source.
    pub crop: Area,
    /// Where it lies on the packed film.
    pub placed: Area,
    /// Side of the packed film.
    pub size: usize,
}

impl Geometry {
    fn new(crop: Area, size: usize, keep_aspect: bool) -> Self {
        let longest = crop.w.max(crop.h);
        let side = |length: usize| if keep_aspect { ((length * size + longest / 2) / longest).max(1) } else { size };
        let (w, h) = (side(crop.w), side(crop.h));
        Self { crop, placed: Area { x: (size - w) / 2, y: (size - h) / 2, w, h }, size }
    }

    /// A box of the source on the packed film, cut to what was kept; `None` if nothing of it is left.
    pub fn place(&self, of: &BoundingBox) -> Option<BoundingBox> {
        let along = |start: f32, length: f32, crop: (usize, usize), placed: (usize, usize)| {
            let scale = placed.1 as f64 / crop.1 as f64;
            let at = |value: f64| ((value - crop.0 as f64) * scale).clamp(0.0, placed.1 as f64) + placed.0 as f64;
            let (from, to) = (at(f64::from(start)), at(f64::from(start) + f64::from(length)));
            (from as f32, (to - from) as f32)
        };
        let (x, w) = along(of.x, of.w, (self.crop.x, self.crop.w), (self.placed.x, self.placed.w));
        let (y, h) = along(of.y, of.h, (self.crop.y, self.crop.h), (self.placed.y, self.placed.h));
        (w > 0.0 && h > 0.0).then(|| BoundingBox { label: of.label.clone(), x, y, w, h })
    }

    /// A mask of the source [height, width] on the packed film [size, size], by nearest neighbour; 0 in the padding.
    pub fn place_mask(&self, mask: &[u8], width: usize) -> Vec<u8> {
        let mut placed = vec![0; self.size * self.size];
        let source = |at: usize, from: usize, length: usize, of: usize| from + (2 * at + 1) * length / (2 * of);
        for y in 0..self.placed.h {
            let row = &mask[source(y, self.crop.y, self.crop.h, self.placed.h) * width..][..width];
            let start = (self.placed.y + y) * self.size + self.placed.x;
            for (x, value) in placed[start..][..self.placed.w].iter_mut().enumerate() {
                *value = row[source(x, self.crop.x, self.crop.w, self.placed.w)];
            }
        }
        placed
    }
}

/// Makes a film square: gray values [size, size] and where they come from.
///
/// A 16-bit film is windowed to 8 bits first, linearly between its 0.1 and 99.9 percent values. Borders: while at
/// least 99 % of an outer row's or column's pixels are within 12 levels of black, or of white, that line is cut
/// off; if less than a quarter of a side would be left, nothing is. Resizing is a triangle filter over the area a
/// pixel covers (anti-aliased).
///
/// # Errors
/// [`Fault::Blank`] if all values are equal.
pub fn prepare(film: Film, size: usize, resize: Resize) -> Result<(Vec<u8>, Geometry), Fault> {
    let (width, height) = (film.width, film.height);
    if resize == Resize::Official {
        return official(&film, size);
    }
    let values = to_8_bits(film.samples);
    if values.iter().all(|&value| value == values[0]) {
        return Err(Fault::Blank);
    }
    let geometry = Geometry::new(content(&values, width, height), size, resize == Resize::Fit);
    let failed = |error: &dyn std::fmt::Display| Fault::Damaged(error.to_string());
    let source = ImageRef::new(width as u32, height as u32, &values, PixelType::U8).map_err(|error| failed(&error))?;
    let (crop, placed) = (geometry.crop, geometry.placed);
    let mut resized = Image::new(placed.w as u32, placed.h as u32, PixelType::U8);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        crop.x as f64,
        crop.y as f64,
        crop.w as f64,
        crop.h as f64,
    );
    Resizer::new().resize(&source, &mut resized, &options).map_err(|error| failed(&error))?;
    let mut pixels = vec![0; size * size];
    for (y, row) in resized.buffer().chunks_exact(placed.w).enumerate() {
        pixels[(placed.y + y) * size + placed.x..][..placed.w].copy_from_slice(row);
    }
    Ok((pixels, geometry))
}

/// The values of a mask's file in 8 bits; 16 bits lose the lower 8.
pub fn mask_values(samples: Samples) -> Vec<u8> {
    match samples {
        Samples::Eight(values) => values,
        Samples::Sixteen(values) => values.into_iter().map(|value| (value >> 8) as u8).collect(),
    }
}

fn to_8_bits(samples: Samples) -> Vec<u8> {
    let values = match samples {
        Samples::Eight(values) => return values,
        Samples::Sixteen(values) => values,
    };
    let mut histogram = vec![0u64; 1 << 16];
    for &value in &values {
        histogram[usize::from(value)] += 1;
    }
    let tail = (values.len() as f64 * WINDOW_TAIL) as u64;
    let mut low = first_beyond(tail, &histogram, 0..1 << 16);
    let mut high = first_beyond(tail, &histogram, (0..1 << 16).rev());
    if low == high {
        // Nearly all pixels are equal: the window is the whole range.
        low = usize::from(values.iter().copied().min().unwrap_or(0));
        high = usize::from(values.iter().copied().max().unwrap_or(0));
    }
    let span = (high - low).max(1);
    // Once for each level: a division for each pixel would take as long as resizing.
    let levels = (0..histogram.len()).map(|level| ((level.clamp(low, high) - low) * 255 + span / 2) / span);
    let table: Vec<u8> = levels.map(|level| level as u8).collect();
    values.iter().map(|&value| table[usize::from(value)]).collect()
}

/// The first level at which more than `tail` pixels were met.
fn first_beyond(tail: u64, histogram: &[u64], mut levels: impl Iterator<Item = usize>) -> usize {
    let mut met = 0;
    let beyond = levels.find(|&level| {
        met += histogram[level];
        met > tail
    });
    beyond.unwrap_or(0)
}

/// The film without its borders.
fn content(values: &[u8], width: usize, height: usize) -> Area {
    let is_border = |pixels: &mut dyn Iterator<Item = u8>| {
        let (mut dark, mut bright, mut all) = (0usize, 0usize, 0usize);
        for pixel in pixels {
            dark += usize::from(pixel <= BORDER_LEVELS);
            bright += usize::from(pixel >= 255 - BORDER_LEVELS);
            all += 1;
        }
        dark.max(bright) as f64 >= all as f64 * (1.0 - BORDER_SPECKS)
    };
    let whole = Area { x: 0, y: 0, w: width, h: height };
    let (mut left, mut right, mut top, mut bottom) = (0, width, 0, height);
    loop {
        let before = (left, right, top, bottom);
        let row = |y: usize| is_border(&mut values[y * width..][left..right].iter().copied());
        if bottom > top && row(top) {
            top += 1;
        }
        if bottom > top && row(bottom - 1) {
            bottom -= 1;
        }
        let column = |x: usize| is_border(&mut (top..bottom).map(|y| values[y * width + x]));
        if right > left && column(left) {
            left += 1;
        }
        if right > left && column(right - 1) {
            right -= 1;
        }
        if 4 * (right - left) < width || 4 * (bottom - top) < height {
            return whole;
        }
        if before == (left, right, top, bottom) {
            return Area { x: left, y: top, w: right - left, h: bottom - top };
        }
    }
}

fn official(film: &Film, size: usize) -> Result<(Vec<u8>, Geometry), Fault> {
    match &film.samples {
        Samples::Eight(values) => official_of(values, film.width, film.height, size),
        Samples::Sixteen(values) => official_of(values, film.width, film.height, size),
    }
}

/// Values are turned into f64 one by one: a second copy of a large film would take eight times its memory.
fn official_of<T: Copy + Default + PartialEq + Into<f64>>(
    values: &[T],
    width: usize,
    height: usize,
    size: usize,
) -> Result<(Vec<u8>, Geometry), Fault> {
    let zero = T::default();
    let row_holds = |&y: &usize| values[y * width..][..width].iter().any(|&value| value != zero);
    let column_holds = |&x: &usize| (0..height).any(|y| values[y * width + x] != zero);
    let rows = (0..height).find(row_holds).zip((0..height).rfind(row_holds));
    let columns = (0..width).find(column_holds).zip((0..width).rfind(column_holds));
    let (Some((top, bottom)), Some((left, right))) = (rows, columns) else {
        return Err(Fault::Blank);
    };
    let crop = Area { x: left, y: top, w: right + 1 - left, h: bottom + 1 - top };
    let at = |x: usize, y: usize| -> f64 { values[(top + y) * width + left + x].into() };
    let kept = || (0..crop.h).flat_map(|y| (0..crop.w).map(move |x| (x, y))).map(|(x, y)| at(x, y));
    let (low, high) = (kept().fold(f64::INFINITY, f64::min), kept().fold(0.0, f64::max));
    if high <= low {
        return Err(Fault::Blank);
    }
    let scaled = |x: usize, y: usize| (at(x, y) - low) / (high - low) * 256.0;
    let weights = |output: usize, length: usize| {
        let place = ((output as f64 + 0.5) * length as f64 / size as f64 - 0.5).clamp(0.0, (length - 1) as f64);
        (place as usize, (place as usize + 1).min(length - 1), place.fract())
    };
    let mut pixels = Vec::with_capacity(size * size);
    for y in 0..size {
        let (y0, y1, down) = weights(y, crop.h);
        for x in 0..size {
            let (x0, x1, across) = weights(x, crop.w);
            let row = |y: usize| scaled(x0, y) * (1.0 - across) + scaled(x1, y) * across;
            // Cut to 8 bits, so that 256 becomes 0.
            pixels.push((row(y0) * (1.0 - down) + row(y1) * down) as u32 as u8);
        }
    }
    Ok((pixels, Geometry::new(crop, size, false)))
}
