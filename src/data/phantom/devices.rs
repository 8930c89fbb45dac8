//! Tubes, lines and pacemakers: courses through the chest, their metal, and their masks.

use super::canvas::{Field, between, bezier, smooth};
use super::chest::Chest;
use super::finding::{Device, Kind, Side};
use crate::base::random::Rng;

/// A tube or wire: its radius in body units, how dense its wall and its core are, and its course in Bezier curves.
struct Tube {
    radius: f32,
    wall: f32,
    core: f32,
    courses: Vec<[[f32; 2]; 4]>,
}

/// Lays one device into the chest.
pub(super) fn lay(chest: &mut Chest, device: Device, side: Side, rng: &mut Rng) {
    let sign = if side == Side::Right { -1.0 } else { 1.0 };
    let mut metal = Field::zeros(chest.frame.width, chest.frame.height);
    let mut shape = metal.clone();
    let Tube { radius, wall, core, courses } = tube(chest, device, sign, rng);
    if device == Device::Pacemaker {
        generator(chest, courses[0][0], &mut metal, &mut shape);
    }
    // In the mask a thin line is as wide as a tube, so that it outlives shrinking to a network's input.
    let marked = radius.max(0.035);
    for course in courses {
        let line = bezier(course, 24);
        metal.stroke(&chest.frame, &line, [radius, radius], |q| {
            core * (1.0 - q * q).sqrt() + wall * smooth((q - 0.4) / 0.4)
        });
        shape.stroke(&chest.frame, &line, [marked, marked], |_| 1.0);
    }
    for (sum, add) in chest.added.values.iter_mut().zip(&metal.values) {
        *sum += add;
    }
    let pixels: Vec<usize> = (0..shape.values.len()).filter(|&index| shape.values[index] > 0.5).collect();
    chest.record(Kind::Device(device).label(), &pixels);
}

/// Where a device runs; `sign` is -1 for the patient's right.
fn tube(chest: &Chest, device: Device, sign: f32, rng: &mut Rng) -> Tube {
    let (anatomy, mut jitter) = (&chest.anatomy, |by: f32| between(rng, -by, by));
    let dome = anatomy.dome[1];
    match device {
        Device::EndotrachealTube => {
            let (start, tip) = ([jitter(0.05), -1.7], [0.01 + chest.pose.turned, -0.46 + jitter(0.05)]);
            let course = [start, [jitter(0.03), -1.2], [0.01, -0.8], tip];
            Tube { radius: 0.036, wall: 0.4, core: 0.15, courses: vec![course] }
        }
        Device::NasogastricTube => {
            let (start, hiatus, tip) =
                ([0.02 + jitter(0.04), -1.7], [0.1, dome - 0.02], [0.42 + jitter(0.08), dome + 0.32]);
            let above = [start, [0.0, -0.9], [0.05, -0.2], hiatus];
            let below = [hiatus, [0.15, dome + 0.18], [0.3, dome + 0.37], tip];
            Tube { radius: 0.015, wall: 0.4, core: 0.6, courses: vec![above, below] }
        }
        Device::CentralLine => {
            let (start, tip) = ([sign * (0.4 + jitter(0.1)), -1.5], [-0.13 + jitter(0.03), -0.08 + jitter(0.12)]);
            let course = [start, [sign * 0.3, -0.95], [-0.1 + 0.12 * sign, -0.75], tip];
            Tube { radius: 0.012, wall: 0.45, core: 0.75, courses: vec![course] }
        }
        Device::ChestTube => {
            let start = [sign * (anatomy.reach[0] + 0.3), 0.35 + jitter(0.15)];
            let tip = [sign * (0.5 + jitter(0.1)), -0.66 + jitter(0.1)];
            let course = [start, [sign * 0.75, 0.3], [sign * (0.86 + jitter(0.08)), -0.3], tip];
            Tube { radius: 0.042, wall: 0.45, core: 0.16, courses: vec![course] }
        }
        Device::Pacemaker => {
            let home = [sign * (0.74 + jitter(0.06)), -0.58 + jitter(0.06)];
            let vein = [-0.1 + 0.06 * sign, -0.62];
            let ventricle = [anatomy.heart[1] * 0.6, anatomy.heart_span[1] - 0.12];
            let atrium = [-0.16, 0.12 + jitter(0.05)];
            let courses = vec![
                [home, [sign * 0.5, -0.82], [sign * 0.25, -0.8], vein],
                [vein, [-0.22, -0.2], [-0.22, 0.42], ventricle],
                [vein, [-0.16, -0.2], [-0.05, 0.3], atrium],
            ];
            Tube { radius: 0.011, wall: 0.3, core: 0.9, courses }
        }
    }
}

/// The pacemaker's case: a rounded metal box with a lighter header.
fn generator(chest: &Chest, home: [f32; 2], metal: &mut Field, shape: &mut Field) {
    chest.frame.near(home, 0.25, |index, [x, y]| {
        let (dx, dy) = ((x - home[0]) / 0.16, (y - home[1]) / 0.125);
        let inside = 1.0 - (dx.powi(4) + dy.powi(4));
        if inside > 0.0 {
            metal.values[index] = (1.9 * smooth(inside / 0.25)) * if dy < -0.55 { 0.6 } else { 1.0 };
            shape.values[index] = 1.0;
        }
    });
}
