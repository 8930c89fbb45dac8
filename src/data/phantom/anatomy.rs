//! One patient's chest as smooth shapes, and the X-ray path lengths through body, lungs, heart and great vessels.
//!
//! Body units: the inner thorax reaches from x = -1 (patient's right) to 1, y points to the feet, the carina lies
//! near y = -0.3. Path lengths are in units of attenuation: what they add to the exponent of Beer's law.

use super::canvas::{Field, Frame, between, smooth, within};
use super::style::{Build, Span};
use crate::base::random::Rng;

/// The shape of one patient; indices [right, left] where there are two.
#[derive(Clone, Debug)]
pub(super) struct Anatomy {
    /// Top of the lungs, and the lowest point of the costophrenic angles.
    pub apex: f32,
    pub base: [f32; 2],
    /// How far the lungs reach to the side, and how much their upper parts slope.
    pub reach: [f32; 2],
    pub sloping: f32,
    /// Tops of the diaphragm's domes.
    pub dome: [f32; 2],
    /// The heart reaches this far right and left of the midline, from `heart_top` to `heart_bottom`.
    pub heart: [f32; 2],
    pub heart_span: [f32; 2],
    /// How far below the usual place the left ventricle is widest, as a share of the heart's height.
    pub axis: f32,
    /// The aortic knob: how far it stands out to the left, and its height.
    pub knob: [f32; 2],
    /// Attenuation of the whole chest and of the air in it, half-width of the trunk, slope of the shoulders.
    pub girth: f32,
    pub air: f32,
    pub trunk: f32,
    pub slope: f32,
    /// Breasts: half-distance, height and radius.
    pub breasts: Option<[f32; 3]>,
    /// Sideways bend of the spine.
    pub bend: f32,
    /// Ribs on each side, the least and the most that fit the height of a lung, and how steep they are.
    pub ribs: usize,
    pub ribs_a_lung: Span,
    pub steep: f32,
    /// Strength of bones and of lung markings.
    pub bone: f32,
    pub markings: f32,
    /// Seed of the parts drawn by lots inside the renderers, so that a patient keeps its ribs and vessels.
    pub lots: u64,
}

/// How the patient stood or lay for this film.
#[derive(Clone, Debug)]
pub(super) struct Pose {
    /// Bedside film: arms down, shoulder blades over the lungs.
    pub portable: bool,
    /// Turn about the body's long axis: shifts front against back, in body units.
    pub turned: f32,
    /// Where the upper arms end.
    pub elbow: [[f32; 2]; 2],
    /// Gas in the stomach: x, depth below the dome, half-axes.
    pub bubble: [f32; 4],
}

impl Pose {
    pub fn draw(portable: bool, turned: Span, rng: &mut Rng) -> Self {
        let arm = |rng: &mut Rng| match portable {
            true => [between(rng, 1.42, 1.6), between(rng, 1.0, 1.5)],
            false => [between(rng, 1.6, 2.0), between(rng, -0.2, 0.9)],
        };
        let gas = if rng.chance(0.5) { between(rng, 0.08, 0.2) } else { 0.0 };
        Self {
            portable,
            turned: within(rng, turned),
            elbow: [arm(rng), arm(rng)],
            bubble: [between(rng, 0.35, 0.62), between(rng, 0.1, 0.25), gas * between(rng, 1.0, 1.5), gas],
        }
    }
}

impl Anatomy {
    /// The patient named by the stream of `rng`. What all chests had in common at first is drawn from `later`, so that
    /// the numbers of the other stream keep their meanings.
    pub fn draw(build: &Build, rng: &mut Rng, later: &mut Rng) -> Self {
        let reach = within(rng, build.reach);
        let trunk = reach + within(rng, build.flank);
        let girth = 2.9 + 2.6 * (trunk - reach - 0.1) + between(rng, 0.0, 0.5);
        let dome = within(rng, build.dome);
        let base = dome + between(rng, 0.24, 0.38);
        let ratio = within(rng, build.ratio);
        let right = within(rng, build.right);
        let breast = [between(rng, 0.5, 0.62), dome + between(rng, -0.2, 0.05), between(rng, 0.38, 0.54)];
        Self {
            apex: between(rng, -1.0, -0.86),
            base: [base, base + between(rng, -0.02, 0.07)],
            reach: [reach, reach + between(rng, -0.05, 0.04)],
            sloping: between(rng, -0.12, 0.2),
            dome: [dome, dome + between(rng, 0.0, 0.11)],
            heart: [right, 2.0 * reach * ratio - right],
            heart_span: [between(rng, -0.22, -0.1), dome + between(rng, 0.14, 0.24)],
            axis: within(later, build.axis),
            knob: [within(rng, build.knob), between(rng, -0.46, -0.36)],
            girth,
            air: girth * within(rng, build.air),
            trunk,
            slope: within(rng, build.slope),
            breasts: rng.chance(0.4).then_some(breast),
            bend: within(rng, build.bend),
            ribs: build.ribs,
            ribs_a_lung: build.ribs_a_lung,
            steep: within(later, build.steep),
            bone: within(rng, build.bone),
            markings: within(rng, build.markings),
            lots: u64::from(rng.next_u32()),
        }
    }

    /// A bedside film: shallow breath, and a heart magnified by its distance from the detector.
    pub fn bedside(&mut self, rng: &mut Rng) {
        let rise = between(rng, 0.02, 0.12);
        for side in 0..2 {
            self.dome[side] -= rise;
            self.base[side] -= rise;
            self.heart[side] *= 1.06;
        }
        self.heart_span[1] -= rise;
    }

    /// An enlarged heart: `ratio` of its width to the thorax.
    pub fn enlarge(&mut self, ratio: f32) {
        let width = ratio * (self.reach[0] + self.reach[1]);
        self.heart = [(0.33 * width).min(0.5), width - (0.33 * width).min(0.5)];
        self.heart_span = [self.heart_span[0] - 0.04, self.heart_span[1] + 0.04];
    }

    /// Edges of a lung towards the midline and the ribs at height `y`, as distances from the midline.
    pub fn edges(&self, side: usize, y: f32) -> (f32, f32) {
        const TOP: f32 = 0.4;
        let down = ((y - self.apex) / (self.base[side] - self.apex)).max(0.0);
        let out = 1.0 - (down / 0.8).min(1.0);
        let out = out * (1.0 + self.sloping * (1.0 - out));
        let inward = 1.0 - (down / 0.22).min(1.0);
        let lateral = TOP + (self.reach[side] - 0.02 - TOP) * (1.0 - out * out).sqrt() + 0.02 * down;
        (TOP - (TOP - 0.14) * (1.0 - inward * inward).sqrt(), lateral)
    }

    /// Height of the diaphragm at distance `a` from the midline.
    pub fn diaphragm(&self, side: usize, a: f32) -> f32 {
        let middle = 0.5 * self.reach[side];
        let out = (a - middle) / (self.reach[side] - middle);
        let (square, top) = (out * out, self.dome[side]);
        match out > 0.0 {
            true => top + 0.13 * square + (self.base[side] - top - 0.13).max(0.0) * square * square * out.min(1.2),
            false => top + 0.16 * square,
        }
    }

    /// Where in the lung's width a point lies: -1 at the mediastinum, 1 at the ribs; beyond both outside the lung.
    pub fn across(&self, side: usize, a: f32, y: f32) -> f32 {
        if y <= self.apex {
            return 2.0;
        }
        let (medial, lateral) = self.edges(side, y);
        (2.0 * a - medial - lateral) / (lateral - medial).max(1e-3)
    }

    /// How far the mediastinum's shadow reaches to one side of the midline at height `y`: vena cava and atrium on the
    /// right; aortic knob, pulmonary trunk and ventricle on the left.
    pub fn border(&self, side: usize, y: f32) -> f32 {
        let ([top, bottom], heart) = (self.heart_span, self.heart[side]);
        let high = bottom - top;
        let points = match side {
            0 => [
                (-1.1, 0.1),
                (-0.65, 0.13),
                (-0.25, 0.15),
                (top, 0.15 + 0.3 * (heart - 0.15)),
                (top + 0.34 * high, 0.9 * heart),
                (top + 0.58 * high, heart),
                (top + 0.82 * high, 0.9 * heart),
                (bottom, 0.75 * heart),
            ],
            _ => [
                (-1.1, 0.1),
                (self.knob[1] - 0.2, 0.13),
                (self.knob[1], self.knob[0]),
                (self.knob[1] + 0.17, self.knob[0] - 0.06),
                (top + 0.1 * high, 0.16 + 0.22 * heart),
                (top + 0.38 * high, 0.05 + 0.68 * heart),
                (top + (0.68 + self.axis) * high, 0.985 * heart),
                (bottom, 0.9 * heart),
            ],
        };
        let next = points.iter().position(|&(height, _)| height > y).unwrap_or(points.len());
        match next {
            0 => points[0].1,
            8 => points[7].1 * (1.0 - ((y - bottom) / 0.2).min(1.0).powi(2)).sqrt(),
            _ => {
                let ((from, low), (to, high)) = (points[next - 1], points[next]);
                let part = (y - from) / (to - from);
                low + (high - low) * (0.4 * part + 0.6 * smooth(part))
            }
        }
    }

    /// Thickness of heart and great vessels at a point, 0 to 1.
    pub fn heart_at(&self, x: f32, y: f32) -> f32 {
        let reach = x.abs() / self.border(usize::from(x > 0.0), y).max(1e-3);
        (1.0 - reach * reach * reach).max(0.0).sqrt()
    }

    /// Path lengths through the body and through the air in it, [height, width] each.
    pub fn render(&self, frame: &Frame, pose: &Pose) -> (Field, Field) {
        let body = Field::sampled(frame, |[x, y]| self.flesh(pose, x, y));
        let air = |[x, y]: [f32; 2]| self.lung_air(pose, x, y) + self.airway(pose, x, y) + self.gut(pose, x, y);
        (body, Field::sampled(frame, air))
    }

    /// Soft tissue, had it no air in it: trunk, shoulders, neck, arms, abdomen, breasts.
    fn flesh(&self, pose: &Pose, x: f32, y: f32) -> f32 {
        let a = x.abs();
        let side = usize::from(x > 0.0);
        let half = self.trunk + 0.34 * smooth((-0.3 - y) / 0.45) + 0.08 * smooth((y - 0.4) / 0.8);
        let shoulder = -1.1 - self.slope * (1.0 - smooth((a - 0.3) / 0.95)) + 0.25 * smooth((a - 1.1) / 0.5);
        let wide = (a / half).min(1.0);
        let deep = ((y - shoulder) / 0.55).clamp(0.0, 1.0);
        let belly = 1.0 + 0.14 * smooth((y - 0.45) / 0.4);
        let trunk = self.girth * belly * ((1.0 - wide * wide * wide) * deep * (2.0 - deep)).max(0.0).sqrt();
        let neck = 0.75 * self.girth * (1.0 - (a / 0.42) * (a / 0.42)).max(0.0).sqrt() * smooth((-0.6 - y) / 0.3);
        let trunk = trunk.max(neck) + 0.2 * trunk.min(neck);
        if a < 1.0 {
            return trunk + self.breast(a, y);
        }
        let start = [1.3, -0.8];
        let along = [pose.elbow[side][0] - start[0], pose.elbow[side][1] - start[1]];
        let offset = [a - start[0], y - start[1]];
        let at = (offset[0] * along[0] + offset[1] * along[1]) / (along[0] * along[0] + along[1] * along[1]);
        let at = at.clamp(0.0, 1.0);
        let far = [offset[0] - at * along[0], offset[1] - at * along[1]];
        let arm = (1.0 - (far[0] * far[0] + far[1] * far[1]) / 0.075).max(0.0).sqrt() * 0.5 * self.girth;
        trunk.max(arm) + 0.2 * trunk.min(arm) + self.breast(a, y)
    }

    fn breast(&self, a: f32, y: f32) -> f32 {
        let Some([apart, height, radius]) = self.breasts else { return 0.0 };
        let (dx, dy) = ((a - apart) / radius, (y - height) / radius);
        // The upper edge fades into the chest wall, the lower one ends in a fold.
        let dy = if dy < 0.0 { 0.62 * dy } else { dy };
        let inside = (1.0 - dx * dx - dy * dy).max(0.0);
        0.42 * inside.sqrt() * smooth(dy * 0.8 + 0.75)
    }

    /// Air of the lungs, less what heart and vessels take.
    fn lung_air(&self, pose: &Pose, x: f32, y: f32) -> f32 {
        let side = usize::from(x > 0.0);
        let a = x.abs();
        if a > 1.1 || !(self.apex..self.base[side] + 0.3).contains(&y) {
            return 0.0;
        }
        let across = self.across(side, a, y).abs();
        if across >= 1.0 {
            return 0.0;
        }
        let dome = self.diaphragm(side, a);
        let down = (y - self.apex) / (self.base[side] - self.apex);
        let depth = self.air * (0.42 + 0.58 * smooth(down / 0.45)) * (1.0 - across * across * across).sqrt();
        let above = smooth((dome - y) / 0.03 + 0.5);
        let recess = 0.16 * (1.0 - (y - dome) / 0.3).clamp(0.0, 1.0) * (1.0 - above);
        let heart = self.heart_at(x - pose.turned * 0.6, y);
        depth * (above + recess) * (1.0 - 0.9 * smooth(1.7 * heart))
    }

    /// Air of the windpipe and the main bronchi.
    fn airway(&self, pose: &Pose, x: f32, y: f32) -> f32 {
        let x = x - pose.turned - self.bend * smooth((-0.4 - y) / 0.5);
        if !(-1.6..0.1).contains(&y) || x.abs() > 0.4 {
            return 0.0;
        }
        let tube = |distance: f32, radius: f32| (1.0 - (distance / radius) * (distance / radius)).max(0.0).sqrt();
        let trachea = tube(x, 0.075) * smooth((-0.27 - y) / 0.06);
        let (drop, steep) = (y + 0.31, if x < 0.0 { 1.1 } else { 0.75 });
        let bronchus =
            tube((drop - steep * x.abs()) * 0.7, 0.05) * smooth((0.3 - x.abs()) / 0.2) * smooth(drop / 0.03 + 1.0);
        0.5 * trachea.max(0.7 * bronchus) * smooth((y + 1.6) / 0.5)
    }

    /// Gas in the stomach.
    fn gut(&self, pose: &Pose, x: f32, y: f32) -> f32 {
        let [across, below, wide, high] = pose.bubble;
        if high == 0.0 {
            return 0.0;
        }
        let top = self.diaphragm(1, across) + below + high;
        let inside = ellipse(x, y, [across, top], [wide, high], 0.0);
        0.75 * inside * smooth((y - self.diaphragm(1, x.abs())) / 0.08 - 0.3)
    }
}

/// Thickness of an ellipsoid over a point, 1 at its centre; `shear` leans it to larger x further down.
fn ellipse(x: f32, y: f32, centre: [f32; 2], half: [f32; 2], shear: f32) -> f32 {
    let dy = y - centre[1];
    let dx = (x - centre[0] - shear * dy) / half[0];
    let dy = dy / half[1];
    (1.0 - dx * dx - dy * dy).max(0.0).sqrt()
}
