//! RandAugment as KAD's fine-tuning has it (Cubuk and others 2020, in ALBEF's version): twice one of ten operations is drawn,
//! each is done in half of the cases, all with strength 7 of 10.
//!
//! Here it comes before the crop and the mirror image, which are the device's, there behind them: contrast is stretched and
//! equalised over the whole film, and films are turned about its middle.

use crate::base::Rng;

/// Operations a film, of which each is done in half of the cases.
const DRAWS: usize = 2;
/// Strength, as a part of the strongest.
const STRENGTH: f64 = 0.7;
/// Of brightness and sharpness: 0.1 at the weakest, 1.9 at the strongest.
const FACTOR: f64 = 0.1 + 1.8 * STRENGTH;
/// Shear, 0.3 at the strongest.
const SHEAR: f64 = 0.3 * STRENGTH;
/// Shift in pixels, 10 at the strongest.
const SHIFT: f64 = 10.0 * STRENGTH;
/// Degrees, 30 at the strongest.
const TURN: f64 = 30.0 * STRENGTH;
/// What is seen beyond the film.
const BEYOND: f64 = 128.0;

/// Changes one film, `pixels` [side, side].
pub fn rand_augment(pixels: &mut [u8], rng: &mut Rng) {
    for _ in 0..DRAWS {
        let (operation, done) = (rng.below(10), rng.chance(0.5));
        let sign = if rng.chance(0.5) { 1.0 } else { -1.0 };
        if done {
            apply(operation, sign, pixels);
        }
    }
}

fn apply(operation: usize, sign: f64, pixels: &mut [u8]) {
    let (sin, cos) = (sign * TURN).to_radians().sin_cos();
    match operation {
        0 => {}
        1 => stretch(pixels),
        2 => equalize(pixels),
        3 => pixels.iter_mut().for_each(|pixel| *pixel = (f64::from(*pixel) * FACTOR).min(255.0) as u8),
        4 => sharpen(pixels),
        5 => warp(pixels, |[x, y], _| [x - sign * SHEAR * y, y]),
        6 => warp(pixels, |[x, y], _| [x, y - sign * SHEAR * x]),
        7 => warp(pixels, |[x, y], _| [x - sign * SHIFT, y]),
        8 => warp(pixels, |[x, y], _| [x, y - sign * SHIFT]),
        _ => warp(pixels, |[x, y], middle| {
            let [x, y] = [x - middle, y - middle];
            [cos * x - sin * y + middle, sin * x + cos * y + middle]
        }),
    }
}

/// The darkest becomes 0, the brightest 255.
fn stretch(pixels: &mut [u8]) {
    let (low, high) = pixels.iter().fold((255, 0), |(low, high), &pixel| (pixel.min(low), pixel.max(high)));
    if low < high {
        let range = u32::from(high - low);
        pixels.iter_mut().for_each(|pixel| *pixel = (u32::from(*pixel - low) * 255 / range) as u8);
    }
}

/// As many pixels of each brightness as can be: a pixel becomes what part of the film is darker (Pillow's steps).
fn equalize(pixels: &mut [u8]) {
    let mut counts = [0usize; 256];
    pixels.iter().for_each(|&pixel| counts[usize::from(pixel)] += 1);
    let brightest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let step = (pixels.len() - counts[brightest]) / 255;
    if step == 0 {
        return;
    }
    let mut darker = step / 2;
    let table = counts.map(|count| {
        let level = (darker / step).min(255) as u8;
        darker += count;
        level
    });
    pixels.iter_mut().for_each(|pixel| *pixel = table[usize::from(*pixel)]);
}

/// Away from the film smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, all but the outermost pixels.
fn sharpen(pixels: &mut [u8]) {
    let (side, from) = (side(pixels), pixels.to_vec());
    for y in 1..side.saturating_sub(1) {
        for x in 1..side - 1 {
            let own = f64::from(from[y * side + x]);
            let around =
                |y: usize| from[y * side + x - 1..y * side + x + 2].iter().map(|&pixel| f64::from(pixel)).sum::<f64>();
            let smooth = ((around(y - 1) + around(y) + around(y + 1) + 4.0 * own) / 13.0).round();
            pixels[y * side + x] = (smooth + FACTOR * (own - smooth)).clamp(0.0, 255.0) as u8;
        }
    }
}

/// Each pixel is fetched from where `from` says, given its place (column, row) and the middle; blended.
fn warp(pixels: &mut [u8], from: impl Fn([f64; 2], f64) -> [f64; 2]) {
    let side = side(pixels);
    let film = pixels.to_vec();
    let at = |x: f64, y: f64| {
        let within = |place: f64| (0.0..side as f64).contains(&place);
        if within(x) && within(y) { f64::from(film[y as usize * side + x as usize]) } else { BEYOND }
    };
    for (place, pixel) in pixels.iter_mut().enumerate() {
        let [x, y] = from([(place % side) as f64, (place / side) as f64], side as f64 / 2.0);
        let ([left, top], [right, below]) = ([x.floor(), y.floor()], [x - x.floor(), y - y.floor()]);
        let row = |y: f64| at(left, y) * (1.0 - right) + at(left + 1.0, y) * right;
        *pixel = (row(top) * (1.0 - below) + row(top + 1.0) * below).round() as u8;
    }
}

fn side(pixels: &[u8]) -> usize {
    pixels.len().isqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A film with a slope from 40 to 40 + 3 (side - 1).
    fn slope(side: usize) -> Vec<u8> {
        (0..side * side).map(|place| (40 + 2 * (place % side) + place / side) as u8).collect()
    }

    #[test]
    fn contrast_is_stretched_to_the_whole_range() {
        let mut film = vec![50, 100, 75, 150];
        stretch(&mut film);
        assert_eq!(film, [0, 127, 63, 255]);
        let mut flat = vec![9; 4];
        stretch(&mut flat);
        assert_eq!(flat, [9; 4]);
    }

    /// 1024 pixels of four levels: Pillow 12.0's `ImageOps.equalize` gives these.
    #[test]
    fn equalised_as_pillow_does() {
        let mut film: Vec<u8> = (0..1024).map(|place| [10, 10, 20, 200][place % 4]).collect();
        equalize(&mut film);
        assert_eq!(film[..4], [0, 0, 171, 255]);
        let mut small = vec![1, 2, 3, 4];
        equalize(&mut small);
        assert_eq!(small, [1, 2, 3, 4]);
    }

    #[test]
    fn a_flat_film_stays_flat_where_it_is_sharpened_and_an_edge_gets_steeper() {
        let mut flat = vec![77; 25];
        sharpen(&mut flat);
        assert_eq!(flat, [77; 25]);
        let mut edge: Vec<u8> = (0..36).map(|place| if place % 6 < 3 { 100 } else { 150 }).collect();
        sharpen(&mut edge);
        // Beside the edge 3 of 13 parts are of the other side: 100 - 0.36 * (112 - 100), 150 + 0.36 * (150 - 138).
        assert_eq!(edge[6..12], [100, 100, 95, 154, 150, 150]);
        assert_eq!(edge[..6], [100, 100, 100, 150, 150, 150]);
    }

    #[test]
    fn a_shift_moves_by_whole_pixels_and_shows_gray_beyond() {
        let mut film = slope(16);
        warp(&mut film, |[x, y], _| [x - SHIFT, y]);
        assert_eq!(film[..8], [128, 128, 128, 128, 128, 128, 128, 40]);
        assert_eq!(film[15], 40 + 2 * 8);
    }

    #[test]
    fn turned_there_and_back_the_middle_is_the_same() {
        let film = slope(33);
        let mut turned = film.clone();
        apply(9, 1.0, &mut turned);
        assert!(turned.iter().zip(&film).any(|(now, then)| now.abs_diff(*then) > 3));
        apply(9, -1.0, &mut turned);
        for place in
            (0..film.len()).filter(|place| (12..22).contains(&(place % 33)) && (12..22).contains(&(place / 33)))
        {
            assert!(turned[place].abs_diff(film[place]) <= 1, "{place}: {} and {}", turned[place], film[place]);
        }
    }

    #[test]
    fn a_quarter_of_films_and_a_tenth_of_operations_stay() {
        let film = slope(16);
        let draw = |index| {
            let mut varied = film.clone();
            rand_augment(&mut varied, &mut Rng::new(3, 1, index));
            varied
        };
        assert_eq!(draw(5), draw(5));
        // Not done with 1/2, or done as identity with 1/20; twice: (0.55)^2 = 0.30, and a little of what changes nothing.
        let same = (0..1000).filter(|&index| draw(index) == film).count();
        assert!((250..400).contains(&same), "{same} of 1000");
    }
}
