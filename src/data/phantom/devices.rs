//! Tubes, lines and pacemakers: courses through the chest, their metal, and their masks.

use super::canvas::{Field, between, bezier, smooth};
use super::chest::Chest;
use super::finding::{Device, Kind, Side};
use crate::base::random::Rng;

/// Lays one device into the chest.
pub(super) fn lay(chest: &mut Chest, device: Device, side: Side, rng: &mut Rng) {
    let sign = if side == Side::Right { -1.0 } else { 1.0 };
    let mut metal = Field::zeros(chest.frame.width, chest.frame.height);
    let mut shape = metal.clone();
    let mut jitter = |by: f32| between(rng, -by, by);
    // A tube: its radius, how dense wall and core are, and its course.
    let (radius, wall, core, courses) = match device {
        Device::EndotrachealTube => {
            let tip = -0.46 + jitter(0.05);
            (
                0.036,
                0.4,
                0.15,
                vec![[[jitter(0.05), -1.7], [jitter(0.03), -1.2], [0.01, -0.8], [0.01 + chest.pose.turned, tip]]],
            )
        }
        Device::NasogastricTube => {
            let end = [0.42 + jitter(0.08), chest.anatomy.dome[1] + 0.32];
            let hiatus = [0.1, chest.anatomy.dome[1] - 0.02];
            (
                0.015,
                0.4,
                0.6,
                vec![
                    [[0.02 + jitter(0.04), -1.7], [0.0, -0.9], [0.05, -0.2], hiatus],
                    [hiatus, [0.15, hiatus[1] + 0.2], [0.3, end[1] + 0.05], end],
                ],
            )
        }
        Device::CentralLine => {
            let tip = [-0.13 + jitter(0.03), -0.08 + jitter(0.12)];
            let start = [sign * (0.4 + jitter(0.1)), -1.5];
            (0.012, 0.45, 0.75, vec![[start, [sign * 0.3, -0.95], [-0.1 + 0.12 * sign, -0.75], tip]])
        }
        Device::ChestTube => {
            let start = [sign * (chest.anatomy.reach[0] + 0.3), 0.35 + jitter(0.15)];
            let tip = [sign * (0.5 + jitter(0.1)), -0.66 + jitter(0.1)];
            (0.042, 0.45, 0.16, vec![[start, [sign * 0.75, 0.3], [sign * (0.86 + jitter(0.08)), -0.3], tip]])
        }
        Device::Pacemaker => {
            let home = [sign * (0.74 + jitter(0.06)), -0.58 + jitter(0.06)];
            let vein = [-0.1 + 0.06 * sign, -0.62];
            let tip = [chest.anatomy.heart[1] * 0.6, chest.anatomy.heart_span[1] - 0.12];
            let atrium = [-0.16, 0.12 + jitter(0.05)];
            generator(chest, home, &mut metal, &mut shape);
            (
                0.013,
                0.3,
                0.9,
                vec![
                    [home, [sign * 0.5, -0.82], [sign * 0.25, -0.8], vein],
                    [vein, [-0.22, -0.2], [-0.22, 0.42], tip],
                    [vein, [-0.16, -0.2], [-0.05, 0.3], atrium],
                ],
            )
        }
    };
    for course in courses {
        let line = bezier(course, 24);
        metal.stroke(&chest.frame, &line, [radius, radius], |q| {
            core * (1.0 - q * q).sqrt() + wall * smooth((q - 0.4) / 0.4)
        });
        shape.stroke(&chest.frame, &line, [radius.max(0.035), radius.max(0.035)], |_| 1.0);
    }
    for (sum, add) in chest.added.values.iter_mut().zip(&metal.values) {
        *sum += add;
    }
    let pixels: Vec<usize> = (0..shape.values.len()).filter(|&index| shape.values[index] > 0.5).collect();
    chest.record(Kind::Device(device).label(), &pixels);
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
