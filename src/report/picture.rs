//! Small pictures: made smaller, coloured, written as PNG and read back.

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngDecoder, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder, Limits};

/// Longest side of a picture that is read.
const LONGEST: u32 = 1 << 13;

/// A plane [side, side] averaged down to [tile, tile], of which `side` is a multiple.
pub fn shrink(plane: &[f64], side: usize, tile: usize) -> Vec<f64> {
    let across = side / tile;
    let mean = |at: usize| {
        let (top, left) = (at / tile * across, at % tile * across);
        let rows = (top..top + across).map(|y| plane[y * side + left..][..across].iter().sum::<f64>());
        rows.sum::<f64>() / (across * across) as f64
    };
    (0..tile * tile).map(mean).collect()
}

/// A grid [cells, cells] as squares of a plane [tile, tile], from 0 where it is lowest to 1 where it is highest.
pub fn squares(grid: &[f64], cells: usize, tile: usize) -> Vec<f64> {
    let ends = |pick: fn(f64, f64) -> f64| grid.iter().copied().reduce(pick).unwrap_or(0.0);
    let (low, high) = (ends(f64::min), ends(f64::max));
    let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
    (0..tile * tile)
        .map(|at| (grid[at / tile * cells / tile * cells + at % tile * cells / tile] - low) * scale)
        .collect()
}

/// Numbers in [0, 1] as bytes.
pub fn bytes(plane: &[f64]) -> Vec<u8> {
    plane.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

/// What a plane means, and so its colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Attention: dark violet, red, yellow, of growing lightness, so that it can be read without colours too.
    Attention,
    /// A pseudo mask: blue.
    Pseudo,
    /// A predicted mask: orange.
    Predicted,
    /// The edge of a true mask: green.
    Truth,
}

/// What the maps of a film mean, in their order.
pub const KINDS: [Kind; 3] = [Kind::Attention, Kind::Pseudo, Kind::Predicted];

/// Colour of a warmth from 0 to 1, and how much of what lies below it it covers; all from 0 to 1. Dark violet, red, yellow: of
/// growing lightness, so that it can be read without colours too.
pub fn heat(warmth: f64) -> ([f64; 3], f64) {
    const STOPS: [[f64; 3]; 4] = [[0.15, 0.05, 0.35], [0.55, 0.1, 0.45], [0.95, 0.4, 0.2], [1.0, 0.95, 0.5]];
    let place = warmth * (STOPS.len() - 1) as f64;
    let stop = (place as usize).min(STOPS.len() - 2);
    let part = place - stop as f64;
    let mix = |channel: usize| STOPS[stop][channel] * (1.0 - part) + STOPS[stop + 1][channel] * part;
    ([mix(0), mix(1), mix(2)], 0.25 + 0.45 * warmth)
}

impl Kind {
    /// Colour of a value, red to blue and opacity.
    fn colour(self, value: u8) -> [u8; 4] {
        let part = f64::from(value) / 255.0;
        let opacity = |most: f64| (part * most * 255.0).round() as u8;
        match self {
            Self::Attention => {
                let ([red, green, blue], cover) = heat(part);
                [red, green, blue, cover].map(|of_one| (of_one * 255.0).round() as u8)
            }
            Self::Pseudo => [64, 156, 255, opacity(0.6)],
            Self::Predicted => [255, 128, 0, opacity(0.6)],
            Self::Truth => [0, 230, 118, value],
        }
    }

    /// A plane in its colours, as a layer to lie over a film.
    pub fn layer(self, plane: &[u8], tile: usize) -> Option<Vec<u8>> {
        let colours: Vec<u8> = plane.iter().flat_map(|&value| self.colour(value)).collect();
        png(&colours, [tile, tile], ExtendedColorType::Rgba8)
    }

    /// Lays a plane over a picture in red, green and blue.
    fn cover(self, picture: &mut [[u8; 3]], plane: &[u8]) {
        for (pixel, &value) in picture.iter_mut().zip(plane) {
            let [red, green, blue, opacity] = self.colour(value);
            let part = f64::from(opacity) / 255.0;
            let mixed = [red, green, blue].into_iter().zip(*pixel);
            let mut mixed =
                mixed.map(|(over, under)| (f64::from(over) * part + f64::from(under) * (1.0 - part)).round() as u8);
            *pixel = std::array::from_fn(|_| mixed.next().unwrap_or(0));
        }
    }
}

/// A film with its true mask, and beside it under each of its maps, planes [tile, tile] all, as one PNG.
pub fn strip(film: &[u8], truth: &[u8], maps: &[Vec<u8>], tile: usize) -> Option<Vec<u8>> {
    let edge = edge(truth, tile);
    let layers = [(Kind::Truth, &edge)].into_iter().chain(KINDS.into_iter().zip(maps));
    let tiles: Vec<Vec<[u8; 3]>> = layers
        .map(|(kind, plane)| {
            let mut picture: Vec<[u8; 3]> = film.iter().map(|&gray| [gray; 3]).collect();
            kind.cover(&mut picture, plane);
            picture
        })
        .collect();
    let rows = (0..tile).flat_map(|y| tiles.iter().flat_map(move |picture| &picture[y * tile..(y + 1) * tile]));
    png(rows.copied().collect::<Vec<_>>().as_flattened(), [tile * tiles.len(), tile], ExtendedColorType::Rgb8)
}

/// The edge of what is set (above one half) in a plane [tile, tile]: set pixels beside one that is not.
pub fn edge(plane: &[u8], tile: usize) -> Vec<u8> {
    let set = |y: usize, x: usize| plane[y * tile + x] > 127;
    let inner = |at: usize| {
        let (y, x) = (at / tile, at % tile);
        let within = |at: usize| (1..tile - 1).contains(&at);
        within(y) && within(x) && set(y - 1, x) && set(y + 1, x) && set(y, x - 1) && set(y, x + 1)
    };
    (0..tile * tile).map(|at| if set(at / tile, at % tile) && !inner(at) { 255 } else { 0 }).collect()
}

/// A PNG of pixels of a kind; `None` if they are not as many as the size says.
pub fn png(pixels: &[u8], [width, height]: [usize; 2], kind: ExtendedColorType) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    // The encoder panics on another number of pixels.
    (pixels.len() == width * height * usize::from(kind.bits_per_pixel()) / 8).then_some(())?;
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Best, FilterType::Adaptive);
    encoder.write_image(pixels, width as u32, height as u32, kind).ok()?;
    Some(file)
}

/// Gray pixels of a PNG, its width and its height; `None` if it is none of ours.
pub fn gray(png: &[u8]) -> Option<(Vec<u8>, [usize; 2])> {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LONGEST), Some(LONGEST));
    let decoder = PngDecoder::with_limits(Cursor::new(png), limits).ok()?;
    match DynamicImage::from_decoder(decoder).ok()? {
        DynamicImage::ImageLuma8(picture) => {
            let size = [picture.width() as usize, picture.height() as usize];
            Some((picture.into_raw(), size))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_shrink_to_their_means_and_grids_grow_to_squares() {
        let plane: Vec<f64> = (0..16).map(f64::from).collect();
        assert_eq!(shrink(&plane, 4, 2), [2.5, 4.5, 10.5, 12.5]);
        let grown = squares(&[2.0, 4.0, 3.0, 2.0], 2, 4);
        assert_eq!(grown[..8], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(grown[8..12], [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(squares(&[0.25; 4], 2, 2), [0.0; 4]);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not() {
        let pixels: Vec<u8> = (0..12).collect();
        let file = png(&pixels, [4, 3], ExtendedColorType::L8).unwrap();
        assert_eq!(gray(&file), Some((pixels.clone(), [4, 3])));
        assert_eq!(gray(&file[..file.len() / 2]), None);
        assert_eq!(gray(&Kind::Pseudo.layer(&pixels[..4], 2).unwrap()), None, "not gray");
        assert_eq!(png(&pixels, [4, 4], ExtendedColorType::L8), None);
    }

    #[test]
    fn a_strip_has_a_tile_for_the_film_and_one_for_each_map() {
        let plane = vec![0; 16];
        for maps in 2..=3 {
            let file = strip(&plane, &plane, &vec![plane.clone(); maps], 4).unwrap();
            let picture = image::load_from_memory(&file).unwrap();
            assert_eq!((picture.width() as usize, picture.height()), (4 * (maps + 1), 4));
        }
    }

    #[test]
    fn masks_are_as_opaque_as_they_are_sure_and_edges_are_thin() {
        let mut picture = [[100; 3]; 2];
        Kind::Predicted.cover(&mut picture, &[0, 255]);
        assert_eq!(picture, [[100; 3], [193, 117, 40]]);
        let plane: Vec<u8> =
            (0..25).map(|at| if (1..4).contains(&(at / 5)) && (1..4).contains(&(at % 5)) { 255 } else { 0 }).collect();
        let edge = edge(&plane, 5);
        assert_eq!((edge[12], edge.iter().filter(|&&value| value == 255).count()), (0, 8));
    }
}
