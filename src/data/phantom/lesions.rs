//! Findings of lungs, pleura and heart, laid into the chest's fields with their true masks.

use super::canvas::{Field, between, smooth};
use super::chest::Chest;
use super::devices;
use super::finding::{Finding, Kind, Size, Zone};
use crate::base::random::Rng;

/// Lays one finding into the chest. The heart was enlarged before the chest was laid out; here it is only marked.
pub(super) fn lay(chest: &mut Chest, finding: &Finding, rng: &mut Rng) {
    let (zone, size) = (finding.zone.unwrap_or(Zone::Mid), finding.size.unwrap_or(Size::Moderate));
    let label = finding.kind.label();
    match finding.kind {
        Kind::Device(device) => devices::lay(chest, device, finding.side, rng),
        Kind::Cardiomegaly => {
            let pixels = heart(chest);
            chest.record(label, &pixels);
        }
        kind => {
            for &side in finding.side.lungs() {
                let pixels = match kind {
                    Kind::Nodule => nodule(chest, side, zone, size, rng),
                    Kind::Effusion => effusion(chest, side, size, rng),
                    Kind::Pneumothorax => pneumothorax(chest, side, zone, size, rng),
                    _ => filling(chest, kind == Kind::Consolidation, side, zone, size, rng),
                };
                chest.record(label, &pixels);
            }
        }
    }
}

/// One of three numbers by size.
fn by_size(size: Size, numbers: [f32; 3]) -> f32 {
    numbers[size as usize]
}

/// A point of visible lung in a zone, as distance from the midline and height, that leaves `margin` to the edges
/// where there is room.
fn place(chest: &Chest, side: usize, zone: Zone, margin: f32, rng: &mut Rng) -> [f32; 2] {
    let anatomy = &chest.anatomy;
    let (low, high) = match zone {
        Zone::Upper => (0.18, 0.3),
        Zone::Mid => (0.44, 0.56),
        Zone::Lower => (0.74, 0.88),
    };
    let y = anatomy.apex + between(rng, low, high) * (anatomy.dome[side] + 0.06 - anatomy.apex);
    let sign = if side == 0 { -1.0 } else { 1.0 };
    let (medial, lateral) = anatomy.edges(side, y);
    let steps = || (0..40).map(|step| medial + (lateral - medial) * step as f32 / 40.0);
    let shown = |&a: &f32| anatomy.heart_at(sign * a, y) < 0.05 && anatomy.diaphragm(side, a) > y;
    let (from, to) = (steps().find(shown).unwrap_or(medial), steps().rfind(shown).unwrap_or(lateral));
    let margin = margin.min(0.4 * (to - from));
    [between(rng, from + margin, to - margin), y]
}

/// Opacity or consolidation: air gives way in a blob with ragged edges; dense filling leaves the bronchi open.
fn filling(chest: &mut Chest, dense: bool, side: usize, zone: Zone, size: Size, rng: &mut Rng) -> Vec<usize> {
    let sign = if side == 0 { -1.0 } else { 1.0 };
    let radius = by_size(size, if dense { [0.28, 0.38, 0.5] } else { [0.3, 0.42, 0.56] }) * between(rng, 0.92, 1.08);
    let [a, y] = place(chest, side, zone, 0.75 * radius, rng);
    let centre = [sign * a, y];
    let (width, height, scale) = (chest.frame.width, chest.frame.height, chest.frame.scale);
    let coarse = Field::noise(width, height, 0.75 * radius * scale, rng);
    let fine = Field::noise(width, height, 0.25 * radius * scale, rng);
    let (lean, flat) = (between(rng, -0.35, 0.35), between(rng, 0.82, 1.2));
    // Some consolidations of the upper zone stop at a fissure.
    let fissure = (dense && zone == Zone::Upper && rng.chance(0.5)).then_some(y + 0.55 * radius);
    let bronchi = bronchi(chest, centre, radius, rng);
    let (depth, core) = if dense { (between(rng, 0.86, 0.97), 1.45) } else { (between(rng, 0.6, 0.75), 1.1) };
    let (anatomy, air) = (&chest.anatomy, &mut chest.air);
    let mut pixels = Vec::new();
    chest.frame.near(centre, 2.2 * radius, |index, [x, py]| {
        // Beyond the lung there is other air: the windpipe's, the stomach's.
        if x * sign < 0.0 || anatomy.across(side, x.abs(), py).abs() >= 1.0 {
            return;
        }
        let (dx, dy) = (x - centre[0], py - centre[1]);
        let (dx, dy) = ((dx - lean * dy) / (radius * flat), dy * flat / radius);
        let ragged = 0.3 * coarse.values[index] + 0.16 * fine.values[index];
        let mut filled = smooth(core * (1.06 - (dx * dx + dy * dy).sqrt() + ragged));
        if let Some(fissure) = fissure {
            filled *= smooth((fissure + 0.1 * (x - centre[0]) - py) / 0.03 + 0.5);
        }
        if air.values[index] > 0.2 * anatomy.air && filled > 0.45 {
            pixels.push(index);
        }
        let open =
            0.14 * fine.values[index] + if dense { 0.2 * bronchi.values[index] } else { 0.1 * coarse.values[index] };
        air.values[index] *= 1.0 - depth * filled * (1.0 - open).clamp(0.0, 1.15);
    });
    pixels
}

/// Air bronchograms: a few thin tubes that fan out from the hilum's direction through a filled region.
fn bronchi(chest: &Chest, centre: [f32; 2], radius: f32, rng: &mut Rng) -> Field {
    let mut field = Field::zeros(chest.frame.width, chest.frame.height);
    let heading = centre[1].atan2(centre[0] - 0.25 * centre[0].signum());
    for _ in 0..4 {
        let mut angle = heading + between(rng, -0.7, 0.7);
        let mut at = [centre[0] - 0.7 * radius * angle.cos(), centre[1] - 0.7 * radius * angle.sin()];
        for step in 0..6 {
            let next = [at[0] + 0.22 * radius * angle.cos(), at[1] + 0.22 * radius * angle.sin()];
            let wide = 0.014 - 0.0014 * step as f32;
            field.stroke(&chest.frame, &[at, next], [wide, wide], |q| 1.0 - q * q);
            angle += between(rng, -0.25, 0.25);
            at = next;
        }
    }
    field
}

fn nodule(chest: &mut Chest, side: usize, zone: Zone, size: Size, rng: &mut Rng) -> Vec<usize> {
    let sign = if side == 0 { -1.0 } else { 1.0 };
    let radius = by_size(size, [0.085, 0.125, 0.175]) * between(rng, 0.93, 1.07);
    let [a, y] = place(chest, side, zone, 1.2 * radius, rng);
    let centre = [sign * a, y];
    let lobes = Field::noise(chest.frame.width, chest.frame.height, radius * chest.frame.scale, rng);
    let dense = between(rng, 0.8, 1.05) + 1.6 * radius;
    let mut pixels = Vec::new();
    chest.frame.near(centre, 1.5 * radius, |index, [x, py]| {
        let far = ((x - centre[0]).powi(2) + (py - centre[1]).powi(2)).sqrt() / radius + 0.14 * lobes.values[index];
        if far < 1.15 {
            chest.added.values[index] += dense * smooth((1.15 - far) / 0.3) * (1.25 - 0.6 * far * far).max(0.0).sqrt();
            if far < 1.0 {
                pixels.push(index);
            }
        }
    });
    pixels
}

/// Fluid that rises along the ribs and hides the costophrenic angle.
fn effusion(chest: &mut Chest, side: usize, size: Size, rng: &mut Rng) -> Vec<usize> {
    let sign = if side == 0 { -1.0 } else { 1.0 };
    let anatomy = &chest.anatomy;
    let level = anatomy.dome[side] + by_size(size, [0.08, -0.14, -0.52]) + between(rng, -0.04, 0.04);
    let rise = by_size(size, [0.26, 0.28, 0.3]) + between(rng, -0.03, 0.03);
    let dense = between(rng, 0.15, 0.35);
    let mut pixels = Vec::new();
    chest.frame.near([sign * 0.5, anatomy.dome[side]], 1.1, |index, [x, y]| {
        let a = x * sign;
        let (medial, lateral) = anatomy.edges(side, y);
        if a < 0.03 || a > lateral + 0.02 || y > anatomy.base[side] + 0.3 {
            return;
        }
        let out = ((a - medial) / (lateral - medial).max(1e-3)).clamp(0.0, 1.0);
        let fluid = smooth((y - level + rise * out * out * out) / 0.15 + 0.5);
        let above = anatomy.diaphragm(side, a) > y;
        if fluid > 0.5 && above && a < lateral && chest.air.values[index] > 0.06 * anatomy.air {
            pixels.push(index);
        }
        chest.air.values[index] *= 1.0 - 0.97 * fluid;
        chest.added.values[index] += dense * fluid * smooth((lateral - a) / 0.05) * if above { 1.0 } else { 0.4 };
    });
    pixels
}

/// Air around a lung that has shrunk towards its hilum: no markings outside, and the pleura as a thin line.
fn pneumothorax(chest: &mut Chest, side: usize, zone: Zone, size: Size, rng: &mut Rng) -> Vec<usize> {
    let sign = if side == 0 { -1.0 } else { 1.0 };
    let anatomy = chest.anatomy.clone();
    let shrink = by_size(size, [0.2, 0.3, 0.44]) * between(rng, 0.94, 1.06);
    let extent = by_size(size, [0.18, 0.36, 0.75]);
    let hilum = [0.22, 0.0];
    // Above 0 inside the shrunken lung, 0 on the pleura.
    let inside = |a: f32, y: f32| {
        let down = (y - anatomy.apex) / (anatomy.base[side] - anatomy.apex);
        let weight = if zone == Zone::Lower {
            smooth((down - 0.7 + extent * 0.6) / 0.35)
        } else {
            1.0 - smooth((down - extent) / 0.4)
        };
        let scale = 1.0 - shrink * weight;
        let (a, y) = (hilum[0] + (a - hilum[0]) / scale, hilum[1] + (y - hilum[1]) / scale);
        let across = anatomy.across(side, a, y);
        let low = if zone == Zone::Lower { (anatomy.diaphragm(side, a) + 0.02 - y) * 8.0 } else { 1.0 };
        let lung = if across < 0.0 && y > anatomy.apex + 0.3 { 1.0 } else { 1.0 - across * across };
        lung.min(low).max(-1.0)
    };
    let line = between(rng, 0.14, 0.26);
    let mut pixels = Vec::new();
    chest.frame.near([sign * 0.5, -0.05], 1.25, |index, [x, y]| {
        let a = x * sign;
        let below = y > anatomy.diaphragm(side, a) + 0.02;
        if a < 0.0 || below || anatomy.across(side, a, y).abs() >= 1.0 || chest.air.values[index] <= 0.0 {
            return;
        }
        const STEP: f32 = 0.01;
        let here = inside(a, y);
        let slope = [inside(a + STEP, y) - here, inside(a, y + STEP) - here].map(|change| change / STEP);
        let distance = here / (slope[0] * slope[0] + slope[1] * slope[1]).sqrt().max(0.5);
        let outside = smooth(0.5 - distance / 0.02);
        chest.markings.values[index] *= 1.0 - 0.95 * outside;
        chest.air.values[index] *= 1.0 - 0.6 * shrink + (0.25 + 0.6 * shrink) * outside;
        chest.added.values[index] += line * (1.0 - (distance / 0.014).powi(2)).max(0.0);
        if here < 0.0 && chest.air.values[index] > 0.1 * anatomy.air {
            pixels.push(index);
        }
    });
    pixels
}

fn heart(chest: &Chest) -> Vec<usize> {
    let [top, bottom] = chest.anatomy.heart_span;
    let mut pixels = Vec::new();
    chest.frame.near([0.1, (top + bottom) / 2.0], 1.3, |index, [x, y]| {
        let x = x - chest.pose.turned * 0.6;
        let out = (x / chest.anatomy.border(usize::from(x > 0.0), y).max(1e-3)).powi(2);
        if out < 0.99 && y > top + 0.2 * (bottom - top) * out && y < bottom - 0.22 * (bottom - top) * out * out {
            pixels.push(index);
        }
    });
    pixels
}
