//! Smooth fields on the film's pixel grid: the film's geometry, strokes, value noise and cheap blurs.

use super::style::Span;
use crate::base::random::Rng;
use std::ops::Range;

/// Where the body lies on the film: body units (1 = half the thorax) to pixels, by turn, scale and shift.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    /// Pixels per body unit.
    pub scale: f32,
    pub centre: [f32; 2],
    /// Cosine and sine of the turn in the film's plane.
    pub turn: [f32; 2],
}

impl Frame {
    /// The body point under a pixel.
    pub fn body(&self, column: f32, row: f32) -> [f32; 2] {
        let (dx, dy) = ((column - self.centre[0]) / self.scale, (row - self.centre[1]) / self.scale);
        [self.turn[0] * dx + self.turn[1] * dy, self.turn[0] * dy - self.turn[1] * dx]
    }

    /// The pixel over a body point.
    pub fn pixel(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [
            self.centre[0] + self.scale * (self.turn[0] * x - self.turn[1] * y),
            self.centre[1] + self.scale * (self.turn[1] * x + self.turn[0] * y),
        ]
    }

    /// Calls `visit(pixel index, body point)` for each pixel of the film within `reach` body units of `at`.
    pub fn near(&self, at: [f32; 2], reach: f32, mut visit: impl FnMut(usize, [f32; 2])) {
        let ([column, row], reach) = (self.pixel(at), reach * self.scale);
        let (columns, rows) = (span(column, reach, self.width), span(row, reach, self.height));
        for row in rows {
            for column in columns.clone() {
                visit(row * self.width + column, self.body(column as f32, row as f32));
            }
        }
    }
}

/// The whole numbers within `reach` of `centre`, cut to 0..`end`.
fn span(centre: f32, reach: f32, end: usize) -> Range<usize> {
    let low = (centre - reach).floor().max(0.0) as usize;
    let high = ((centre + reach).ceil() + 1.0).max(0.0) as usize;
    low.min(end)..high.min(end)
}

/// Smooth step: 0 up to 0, 1 from 1 on.
pub(super) fn smooth(at: f32) -> f32 {
    let at = at.clamp(0.0, 1.0);
    at * at * (3.0 - 2.0 * at)
}

/// Uniform in [low, high), in single precision.
pub(super) fn between(rng: &mut Rng, low: f32, high: f32) -> f32 {
    rng.uniform(f64::from(low), f64::from(high)) as f32
}

/// The same for a span of the two.
pub(super) fn within(rng: &mut Rng, [low, high]: Span) -> f32 {
    between(rng, low, high)
}

/// A cubic Bezier curve as a polyline of `count` + 1 points.
pub(super) fn bezier(control: [[f32; 2]; 4], count: usize) -> Vec<[f32; 2]> {
    let point = |step: usize| {
        let t = step as f32 / count as f32;
        let s = 1.0 - t;
        let weights = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
        [0, 1].map(|axis| (0..4).map(|k| weights[k] * control[k][axis]).sum())
    };
    (0..=count).map(point).collect()
}

/// Numbers per pixel, [height, width].
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Field {
    pub fn zeros(width: usize, height: usize) -> Self {
        Self { width, height, values: vec![0.0; width * height] }
    }

    /// A smooth function of the body, taken at every second pixel and interpolated between them.
    pub fn sampled(frame: &Frame, value: impl Fn([f32; 2]) -> f32) -> Self {
        let (across, down) = (frame.width / 2 + 1, frame.height / 2 + 1);
        let place = |index: usize| frame.body((2 * (index % across)) as f32, (2 * (index / across)) as f32);
        let samples: Vec<f32> = (0..across * down).map(|index| value(place(index))).collect();
        let mut field = Self::zeros(frame.width, frame.height);
        for (row, values) in field.values.chunks_exact_mut(frame.width).enumerate() {
            let (above, below) = (&samples[row / 2 * across..], &samples[row.div_ceil(2) * across..]);
            for (column, value) in values.iter_mut().enumerate() {
                let (left, right) = (column / 2, column.div_ceil(2));
                *value = 0.25 * (above[left] + above[right] + below[left] + below[right]);
            }
        }
        field
    }

    /// Raises the field to `profile(distance / radius)` along a polyline of body points; `radii` run along it.
    /// Overlaps of one polyline count once. Returns the rows that may have changed.
    pub fn stroke(
        &mut self,
        frame: &Frame,
        line: &[[f32; 2]],
        radii: [f32; 2],
        profile: impl Fn(f32) -> f32,
    ) -> Range<usize> {
        let count = line.len().saturating_sub(1);
        let mut touched = self.height..0;
        for step in 0..count {
            let (from, to) = (frame.pixel(line[step]), frame.pixel(line[step + 1]));
            let part = step as f32 / count as f32;
            let wanted = (radii[0] + (radii[1] - radii[0]) * part) * frame.scale;
            let radius = wanted.max(0.7);
            // A line thinner than a pixel keeps its sum, not its height.
            let height = wanted / radius;
            let along = [to[0] - from[0], to[1] - from[1]];
            let square = (along[0] * along[0] + along[1] * along[1]).max(1e-6);
            let middle = [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
            let rows = span(middle[1], along[1].abs() / 2.0 + radius, self.height);
            let columns = span(middle[0], along[0].abs() / 2.0 + radius, self.width);
            touched = touched.start.min(rows.start)..touched.end.max(rows.end);
            for row in rows {
                for column in columns.clone() {
                    let offset = [column as f32 - from[0], row as f32 - from[1]];
                    let at = ((offset[0] * along[0] + offset[1] * along[1]) / square).clamp(0.0, 1.0);
                    let (dx, dy) = (offset[0] - at * along[0], offset[1] - at * along[1]);
                    let distance = (dx * dx + dy * dy).sqrt() / radius;
                    if distance < 1.0 {
                        let value = &mut self.values[row * self.width + column];
                        *value = value.max(height * profile(distance));
                    }
                }
            }
        }
        touched
    }

    /// Value noise of one octave in [-1, 1], `cell` pixels from knot to knot.
    pub fn noise(width: usize, height: usize, cell: f32, rng: &mut Rng) -> Self {
        let (across, down) = ((width as f32 / cell) as usize + 2, (height as f32 / cell) as usize + 2);
        let knots: Vec<f32> = (0..across * down).map(|_| rng.next_u32() as f32 / 2_147_483_648.0 - 1.0).collect();
        let weights: Vec<(usize, f32)> = (0..width)
            .map(|column| (column as f32 / cell).floor() as usize)
            .zip((0..width).map(|column| smooth((column as f32 / cell).fract())))
            .collect();
        let mut field = Self::zeros(width, height);
        for (row, values) in field.values.chunks_exact_mut(width).enumerate() {
            let (knot, weight) = ((row as f32 / cell) as usize, smooth((row as f32 / cell).fract()));
            let (above, below) = (&knots[knot * across..], &knots[(knot + 1) * across..]);
            for (value, &(k, w)) in values.iter_mut().zip(&weights) {
                let (left, right) =
                    (above[k] + weight * (below[k] - above[k]), above[k + 1] + weight * (below[k + 1] - above[k + 1]));
                *value = left + w * (right - left);
            }
        }
        field
    }

    /// Three passes of a separable box of `radius` pixels, close to a Gaussian of deviation about `radius` + 0.5.
    pub fn blurred(&self, radius: usize) -> Self {
        let mut field = self.clone();
        let mut turned = Self::zeros(self.height, self.width);
        for _ in 0..3 {
            box_rows(&field.values, &mut turned.values, self.width, radius);
            box_rows(&turned.values, &mut field.values, self.height, radius);
        }
        field
    }

    /// One pass of the kernel (w, 1, w) / (1 + 2 w) both ways: focal blur below a pixel.
    pub fn soften(&mut self, weight: f32) {
        let (width, norm) = (self.width, 1.0 / (1.0 + 2.0 * weight));
        for row in self.values.chunks_exact_mut(width) {
            let mut before = row[0];
            for column in 0..width {
                let (here, after) = (row[column], row[(column + 1).min(width - 1)]);
                row[column] = (here + weight * (before + after)) * norm;
                before = here;
            }
        }
        let mut before = self.values[..width].to_vec();
        for row in 0..self.height {
            let below = ((row + 1).min(self.height - 1)) * width;
            for (column, last) in before.iter_mut().enumerate() {
                let here = self.values[row * width + column];
                self.values[row * width + column] = (here + weight * (*last + self.values[below + column])) * norm;
                *last = here;
            }
        }
    }
}

/// A running mean over each row of `from`, written transposed into `to`; rows are extended by their end values.
fn box_rows(from: &[f32], to: &mut [f32], width: usize, radius: usize) {
    let height = from.len() / width;
    let norm = 1.0 / (2 * radius + 1) as f32;
    for (index, row) in from.chunks_exact(width).enumerate() {
        let at = |column: isize| row[column.clamp(0, width as isize - 1) as usize];
        let reach = radius as isize;
        let mut sum: f32 = (-reach..=reach).map(at).sum();
        for column in 0..width {
            to[column * height + index] = sum * norm;
            let column = column as isize;
            sum += at(column + reach + 1) - at(column - reach);
        }
    }
}
