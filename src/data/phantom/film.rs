//! From attenuation to a film: exposure, scatter, noise, the display curve, collimation, markers and cables.

use super::canvas::{Field, Frame, between, bezier, smooth, within};
use super::chest::Chest;
use super::style::Technique;
use crate::base::random::Rng;

/// Draws the film's format, of sides of at most `longest` pixels, and how the body lies on it.
pub(super) fn frame(technique: &Technique, portable: bool, longest: usize, rng: &mut Rng) -> Frame {
    let aspects = if portable { technique.bedside_aspects } else { technique.aspects };
    let aspect = *rng.pick(aspects) * between(rng, 0.97, 1.03);
    let short = |ratio: f32| (longest as f32 * ratio).round() as usize;
    let (width, height) = if aspect < 1.0 { (short(aspect), longest) } else { (longest, short(1.0 / aspect)) };
    let fit = within(rng, technique.fit) * width as f32;
    let scale = fit.min(between(rng, 0.47, 0.54) * height as f32);
    let [deviation, limit] = technique.turn;
    let turn = (rng.normal() as f32 * deviation).clamp(-limit, limit);
    let middle = [0.5 + between(rng, -0.03, 0.03), 0.5 + between(rng, -0.02, 0.06)];
    let centre = [middle[0] * width as f32, middle[1] * height as f32];
    Frame { width, height, scale, centre, turn: [turn.cos(), turn.sin()] }
}

/// Exposes and develops the chest; [height, width], 0 black.
pub(super) fn develop(technique: &Technique, chest: &mut Chest, rng: &mut Rng) -> Vec<u8> {
    let portable = chest.pose.portable;
    if portable && rng.chance(technique.cables) {
        cables(chest, rng);
    }
    let mut dose = chest.attenuation();
    dose.soften(within(rng, technique.blur));
    for value in &mut dose.values {
        *value = (-*value).exp();
    }
    let scatter = within(rng, if portable { technique.bedside_scatter } else { technique.scatter });
    let veil = dose.blurred((0.16 * chest.frame.scale) as usize);
    for (value, veil) in dose.values.iter_mut().zip(&veil.values) {
        *value += scatter * veil.min(0.3);
    }
    let usual = if portable { 11_000.0 } else { 22_000.0 };
    let mut density = exposed(&dose, usual * within(rng, technique.photons), rng);
    if rng.chance(technique.equalised) {
        equalise(&mut density, chest, rng);
    }
    let mut gray = displayed(technique, &density, &dose, rng);
    if rng.chance(technique.collimated) {
        collimate(&mut gray, rng);
    }
    if rng.chance(technique.lettered) {
        mark(technique, &mut gray, portable, rng);
    }
    gray.values.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect()
}

/// Logarithm of the noisy exposure; `photons` per pixel in the open beam. The counts' noise is taken as normal.
fn exposed(dose: &Field, photons: f32, rng: &mut Rng) -> Field {
    let mut grain = Field::zeros(dose.width, dose.height);
    for value in &mut grain.values {
        // Four bytes' sum, scaled to deviation 1, is normal enough for grain.
        let sum: u32 = rng.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
        *value = (sum as f32 - 510.0) / 147.8;
    }
    grain.soften(0.22);
    for (grain, &dose) in grain.values.iter_mut().zip(&dose.values) {
        let noise = 1.5 * *grain / (photons * dose).sqrt();
        *grain = -(dose * (1.0 + noise).max(0.2)).ln();
    }
    grain
}

/// The local contrast of processed digital films: fine structure lifted against the wide.
fn equalise(density: &mut Field, chest: &Chest, rng: &mut Rng) {
    let wide = density.blurred((between(rng, 0.08, 0.2) * chest.frame.scale) as usize);
    let (lift, press) = (between(rng, 0.2, 0.8), between(rng, 0.0, 0.25));
    for (value, wide) in density.values.iter_mut().zip(&wide.values) {
        let fine = (*value - wide).clamp(-0.5, 0.5);
        *value += lift * fine - press * wide;
    }
}

/// The display curve: a window from the lungs to the densest tissue, and a gamma.
fn displayed(technique: &Technique, density: &Field, dose: &Field, rng: &mut Rng) -> Field {
    let pairs = density.values.iter().zip(&dose.values).step_by(7);
    let mut inside: Vec<f32> = pairs.filter(|&(_, &dose)| dose < 0.6).map(|(value, _)| *value).collect();
    inside.sort_by(f32::total_cmp);
    let rank = |part: f32| inside.get((part * inside.len() as f32) as usize).copied().unwrap_or(1.0);
    let (dark, bright) = (rank(0.03), rank(0.97));
    let range = (bright - dark).max(0.5);
    let low = dark - between(rng, 0.1, 0.4) * range;
    let high = bright + between(rng, -0.05, 0.25) * range;
    let gamma = within(rng, technique.gamma);
    let mut gray = density.clone();
    for value in &mut gray.values {
        let part = (*value - low) / (high - low);
        // Straight in the middle, bent at both ends as film and screens are.
        let bent = if part < 0.85 { part } else { 1.0 - 0.15 * (-(part - 0.85) / 0.15).exp() };
        *value = bent.max(0.0).powf(gamma);
    }
    gray
}

/// Black borders where the beam was collimated, some slightly askew.
fn collimate(gray: &mut Field, rng: &mut Rng) {
    let black = between(rng, 0.0, 0.06);
    let shortest = gray.width.min(gray.height) as f32;
    let edges = [0; 4].map(|_| if rng.chance(0.5) { between(rng, 0.01, 0.07) * shortest } else { -1e3 });
    let askew = if rng.chance(0.4) { between(rng, -0.02, 0.02) } else { 0.0 };
    let (width, height) = (gray.width, gray.height);
    for (row, values) in gray.values.chunks_exact_mut(width).enumerate() {
        for (column, value) in values.iter_mut().enumerate() {
            let (x, y) = (column as f32, row as f32);
            let (tilted_x, tilted_y) = (x + askew * (y - height as f32 / 2.0), y - askew * (x - width as f32 / 2.0));
            let inside = (tilted_x - edges[0])
                .min(width as f32 - 1.0 - tilted_x - edges[1])
                .min(tilted_y - edges[2])
                .min(height as f32 - 1.0 - tilted_y - edges[3]);
            *value = black + (*value - black) * smooth(inside / 1.5 + 0.5);
        }
    }
}

/// Rows of 5 x 7 letters, one bit a pixel.
fn letter(name: char) -> [u8; 7] {
    match name {
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'A' => [14, 17, 17, 31, 17, 17, 17],
        _ => [30, 17, 17, 30, 16, 16, 16],
    }
}

/// The side's letter, lead or burnt in, sometimes with the projection under it.
fn mark(technique: &Technique, gray: &mut Field, portable: bool, rng: &mut Rng) {
    let (left, zoom) = (rng.chance(technique.left), 1 + rng.below(2));
    let (name, bright) = (if left { "L" } else { "R" }, between(rng, 0.75, 1.0));
    let from_edge = gray.width / 40 + rng.below(gray.width / 12);
    let column = if left { gray.width - from_edge - 12 * zoom } else { from_edge };
    let row = gray.height / 40 + rng.below(gray.height / 5);
    let lead = rng.chance(0.3);
    let view = if portable { "AP" } else { "PA" };
    let lines = if rng.chance(0.3) { vec![name, view] } else { vec![name] };
    for (line, text) in lines.into_iter().enumerate() {
        for (index, name) in text.chars().enumerate() {
            let at = [column + index * 6 * zoom, row + line * 9 * zoom];
            stamp(gray, name, at, zoom, bright, lead);
        }
    }
}

fn stamp(gray: &mut Field, name: char, at: [usize; 2], zoom: usize, bright: f32, lead: bool) {
    let bits = letter(name);
    for row in 0..9 * zoom {
        for column in 0..7 * zoom {
            let (x, y) = (at[0] + column, at[1] + row);
            let (glyph_x, glyph_y) = ((column / zoom).wrapping_sub(1), (row / zoom).wrapping_sub(1));
            let ink = glyph_x < 5 && glyph_y < 7 && bits[glyph_y] >> (4 - glyph_x) & 1 == 1;
            if x < gray.width && y < gray.height {
                let value = &mut gray.values[y * gray.width + x];
                // A lead letter lies on a plate that also stops some of the beam.
                *value = if ink {
                    bright
                } else if lead {
                    *value + 0.35 * (bright - *value)
                } else {
                    *value
                };
            }
        }
    }
}

/// Monitoring cables and electrodes on the skin of a bedside patient; no finding.
fn cables(chest: &mut Chest, rng: &mut Rng) {
    for _ in 0..1 + rng.below(3) {
        let side = if rng.chance(0.5) { -1.0 } else { 1.0 };
        let pad = [side * between(rng, 0.55, 1.0), between(rng, -0.6, 0.5)];
        let away = [side * between(rng, 0.9, 1.5), between(rng, -1.2, 1.3)];
        let bend = [between(rng, -0.6, 0.6), between(rng, -0.5, 0.5)];
        let course = [pad, [pad[0] + bend[0], pad[1] + 0.3], [away[0] + bend[1], away[1] - 0.3], away];
        let mut wire = Field::zeros(chest.frame.width, chest.frame.height);
        wire.stroke(&chest.frame, &bezier(course, 20), [0.009, 0.009], |q| 0.3 * (1.0 - q * q).sqrt());
        wire.stroke(&chest.frame, &[pad, pad], [0.035, 0.035], |q| if q < 0.5 { 0.5 } else { 0.22 });
        for (sum, add) in chest.added.values.iter_mut().zip(&wire.values) {
            *sum += add;
        }
    }
}
