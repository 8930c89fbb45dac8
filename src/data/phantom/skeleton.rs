//! Bones and lung markings: spine, ribs, clavicles, shoulder blades, humeri; hila and branching vessels.

use super::anatomy::{Anatomy, Pose};
use super::canvas::{Field, Frame, between, bezier, smooth, within};
use crate::base::random::Rng;

const BONES: u32 = 1;
const VESSELS: u32 = 2;
const MUSCLES: u32 = 3;

/// Attenuation of the bones, [height, width].
pub(super) fn bones(anatomy: &Anatomy, frame: &Frame, pose: &Pose) -> Field {
    let mut rng = Rng::new(anatomy.lots, BONES, 0);
    let mut bones = Bones { sum: spine(anatomy, frame, &mut rng), layer: Field::zeros(frame.width, frame.height) };
    for side in 0..2 {
        bones.ribs(anatomy, frame, side, &mut rng);
        bones.shoulder(anatomy, frame, pose, side, &mut rng);
    }
    for value in &mut bones.sum.values {
        *value *= anatomy.bone;
    }
    bones.sum
}

/// Bones add up where they cross; each is first drawn on a layer of its own, zero between bones.
struct Bones {
    sum: Field,
    layer: Field,
}

/// A hollow bone: a dense rim around a lighter core.
fn hollow(core: f32, rim: f32) -> impl Fn(f32) -> f32 {
    move |q| core * (1.0 - q * q).sqrt() + rim * smooth((q - 0.45) / 0.35) * smooth((1.0 - q) / 0.2)
}

fn spine(anatomy: &Anatomy, frame: &Frame, rng: &mut Rng) -> Field {
    let (pitch, phase) = (between(rng, 0.15, 0.18), between(rng, 0.0, 1.0));
    Field::sampled(frame, |[x, y]| {
        let half = 0.1 + 0.03 * smooth((y + 1.0) / 1.8);
        if x.abs() > 2.0 * half {
            return 0.0;
        }
        let x = (x - anatomy.bend * (1.5 * y).cos()) / half;
        let part = (y / pitch + phase).rem_euclid(1.0) - 0.5;
        let disc = smooth((part.abs() - 0.34) / 0.1);
        let vertebra = smooth((1.25 - 0.15 * disc - x.abs()) / 0.5);
        let pedicle = |at: f32| smooth(1.6 - 4.0 * ((x - at) * (x - at) + 6.0 * part * part).sqrt());
        let spinous = smooth(1.5 - (30.0 * x * x + 30.0 * (part - 0.25) * (part - 0.25)));
        vertebra * (0.32 - 0.16 * disc) + 0.12 * (pedicle(-0.65) + pedicle(0.65)) + 0.16 * spinous
    })
}

impl Bones {
    fn ribs(&mut self, anatomy: &Anatomy, frame: &Frame, side: usize, rng: &mut Rng) {
        let sign = if side == 0 { -1.0 } else { 1.0 };
        let pitch = (anatomy.base[side] - anatomy.apex) / within(rng, anatomy.ribs_a_lung);
        // Fainter below the diaphragm.
        let weight = |[x, y]: [f32; 2]| 1.0 - 0.6 * smooth((y - anatomy.diaphragm(side, x.abs())) / 0.2);
        for rib in 0..anatomy.ribs {
            let down = rib as f32;
            let root = anatomy.apex + 0.02 + pitch * (down - 0.15) + between(rng, -0.01, 0.01);
            let turn = root + 0.1 * anatomy.steep + 0.035 * anatomy.steep * down + between(rng, -0.01, 0.01);
            let wall = anatomy.edges(side, turn + 0.05).1 + 0.01;
            let back = [
                [0.1, root],
                [0.35 * wall + 0.1, root - 0.06 - 0.006 * down],
                [0.9 * wall, root - 0.02 + 0.012 * down],
                [wall, turn],
            ];
            let lower = turn + 0.2 + 0.02 * down;
            let inner = (0.25 + 0.045 * down).min(wall * 0.8);
            let front = [[wall, turn], [wall + 0.03, turn + 0.1], [0.8 * wall, lower], [inner, lower + 0.1]];
            let mirrored = |curve: [[f32; 2]; 4]| bezier(curve.map(|[x, y]| [sign * x, y]), 14);
            let wide = between(rng, 0.036, 0.046);
            self.lay(frame, &mirrored(back), [wide * 0.8, wide], hollow(0.2, 0.12), weight);
            if rib < 8 {
                self.lay(frame, &mirrored(front), [wide, wide * 1.15], hollow(0.13, 0.09), weight);
            }
        }
    }

    fn shoulder(&mut self, anatomy: &Anatomy, frame: &Frame, pose: &Pose, side: usize, rng: &mut Rng) {
        let sign = if side == 0 { -1.0 } else { 1.0 };
        let place = |[x, y]: [f32; 2]| [sign * x, y];
        let (low, lift) = (anatomy.apex + between(rng, 0.18, 0.32), between(rng, 0.1, 0.3));
        let medial = 0.11 + sign * pose.turned;
        let clavicle = [[medial, low], [0.4, low - 0.04], [0.66, low - 1.25 * lift], [1.12, low - lift]].map(place);
        self.lay(frame, &bezier(clavicle, 16), [0.05, 0.036], hollow(0.3, 0.2), |_| 1.0);
        let out = if pose.portable { 0.0 } else { between(rng, 0.14, 0.24) };
        // The blade: a wide thin sheet with a denser border towards the spine, and its spine above.
        let (top, tip) = ([0.86 + out, -0.72], [1.02 + out, 0.1 + between(rng, -0.1, 0.1)]);
        let sheet = [[1.16 + out, -0.68], [1.12 + out, -0.4], [1.08 + out, -0.2], [1.05 + out, 0.0]].map(place);
        self.lay(frame, &bezier(sheet, 10), [0.24, 0.06], |q| 0.14 * smooth((1.0 - q) * 2.0), |_| 1.0);
        let border = [top, [0.84 + out, -0.45], [0.92 + out, -0.2], tip].map(place);
        self.lay(frame, &bezier(border, 10), [0.022, 0.022], |q| 0.16 * (1.0 - q * q), |_| 1.0);
        let crest = [top, [1.0 + out, -0.86], [1.1 + out, -0.92], [1.32, -0.98]].map(place);
        self.lay(frame, &bezier(crest, 10), [0.035, 0.06], hollow(0.16, 0.1), |_| 1.0);
        let head = [1.34, -0.84];
        self.lay(frame, &[place(head), place([1.345, -0.83])], [0.14, 0.14], hollow(0.45, 0.16), |_| 1.0);
        let elbow = pose.elbow[side];
        let shaft = [[1.4, -0.72], [elbow[0] * 0.98, elbow[1]]].map(place);
        self.lay(frame, &shaft, [0.085, 0.07], hollow(0.3, 0.35), |_| 1.0);
    }

    /// Adds one bone, weighted by place.
    fn lay(
        &mut self,
        frame: &Frame,
        line: &[[f32; 2]],
        radii: [f32; 2],
        profile: impl Fn(f32) -> f32,
        weight: impl Fn([f32; 2]) -> f32,
    ) {
        let rows = self.layer.stroke(frame, line, radii, profile);
        for row in rows {
            for column in 0..frame.width {
                let index = row * frame.width + column;
                if self.layer.values[index] > 0.0 {
                    let at = frame.body(column as f32, row as f32);
                    self.sum.values[index] += self.layer.values[index] * weight(at);
                    self.layer.values[index] = 0.0;
                }
            }
        }
    }
}

/// Unevenness of muscle and fat, as shares of the body's thickness.
pub(super) fn muscles(anatomy: &Anatomy, frame: &Frame, body: &mut Field) {
    let mut rng = Rng::new(anatomy.lots, MUSCLES, 0);
    let wide = Field::noise(frame.width, frame.height, 0.55 * frame.scale, &mut rng);
    let fine = Field::noise(frame.width, frame.height, 0.19 * frame.scale, &mut rng);
    for ((value, wide), fine) in body.values.iter_mut().zip(&wide.values).zip(&fine.values) {
        *value *= 1.0 + 0.06 * wide + 0.025 * fine;
    }
}

/// Vessels and fine texture of the lungs as attenuation, to be weighted by the air around them; [height, width].
pub(super) fn markings(anatomy: &Anatomy, frame: &Frame, pose: &Pose) -> Field {
    let mut rng = Rng::new(anatomy.lots, VESSELS, 0);
    let mut field = Field::noise(frame.width, frame.height, 0.035 * frame.scale, &mut rng);
    let coarse = Field::noise(frame.width, frame.height, 0.1 * frame.scale, &mut rng);
    for (value, wide) in field.values.iter_mut().zip(&coarse.values) {
        *value = 0.08 * *value + 0.1 * wide;
    }
    let mut tree = Field::zeros(frame.width, frame.height);
    for sign in [-1.0f32, 1.0] {
        let hilum = [sign * 0.27 + pose.turned * 0.5, if sign < 0.0 { 0.0 } else { -0.06 }];
        let reach = between(&mut rng, 0.1, 0.14);
        frame.near(hilum, 0.3, |index, [x, y]| {
            let (dx, dy) = ((x - hilum[0]) / reach, (y - hilum[1]) / (1.5 * reach));
            field.values[index] += 0.4 * smooth(1.25 - 0.75 * (dx * dx + dy * dy));
        });
        let count = 9 + rng.below(4);
        for branch in 0..count {
            // Fanned from straight up over the side to straight down.
            let angle =
                std::f32::consts::PI * (0.06 + 0.9 * branch as f32 / count as f32) + between(&mut rng, -0.1, 0.1);
            let start = [hilum[0] - sign * 0.04, hilum[1] + 0.26 * (branch as f32 / count as f32 - 0.45)];
            grow(&mut tree, frame, start, [sign, angle], between(&mut rng, 0.02, 0.034), &mut rng);
        }
    }
    for (value, vessel) in field.values.iter_mut().zip(&tree.values) {
        *value = (*value + vessel) * anatomy.markings;
    }
    field
}

/// One vessel and its branches; `heading`: side and angle from straight up. A tube's path length grows with its width.
fn grow(tree: &mut Field, frame: &Frame, start: [f32; 2], heading: [f32; 2], width: f32, rng: &mut Rng) {
    let mut open = vec![(start, heading[1], width)];
    while let Some((mut at, mut angle, mut width)) = open.pop() {
        while width > 0.0035 {
            let step = between(rng, 0.05, 0.09);
            angle += between(rng, -0.3, 0.3);
            let next = [at[0] + heading[0] * step * angle.sin(), at[1] - step * angle.cos()];
            let strength = 13.0 * width.min(0.026);
            tree.stroke(frame, &[at, next], [width * 0.75, width * 0.75], |q| strength * (1.0 - q * q).sqrt());
            at = next;
            width *= 0.86;
            if rng.chance(0.45) {
                let fork = if rng.chance(0.5) { 0.5 } else { -0.5 };
                open.push((at, angle + fork, width * 0.8));
                angle -= 0.4 * fork;
            }
        }
    }
}
