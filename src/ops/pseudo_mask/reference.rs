//! The definition of [`PseudoMask`](super::PseudoMask).

use std::cmp::Ordering;

use super::{Bilateral, PseudoMask, Upsample};
use crate::base::Number;
use crate::program::HostIo;

/// Image by image: the scores of all pixels, sorted; the cut; the filter.
pub fn run<N: Number>(op: &PseudoMask, io: &mut HostIo<'_, N>) {
    let [batch, heads, rows, columns] = io.dims(0);
    let (map, masks) = (io.numbers(0), io.take(0));
    let (cells, pixels) = (rows * columns, op.height * op.width);
    for (at, mask) in masks.chunks_mut(pixels).enumerate() {
        let b = op.image(at, batch);
        let mean = mean_of_heads(&map[b * heads * cells..][..heads * cells], heads);
        let body = |pixel: usize| if op.body { io.bytes(1)[b * pixels + pixel] != 0 } else { true };
        let mut scores = upsample(op, &mean, rows, columns);
        for (pixel, score) in scores.iter_mut().enumerate() {
            *score *= if body(pixel) { N::ONE } else { N::ZERO };
        }
        let cut = match op.threshold() {
            Some(input) => io.numbers(input)[b],
            None => quantile(op, &scores),
        };
        let binary: Vec<N> = (scores.iter().enumerate())
            .map(|(pixel, &score)| if op.compare.holds(score, cut) && body(pixel) { N::ONE } else { N::ZERO })
            .collect();
        match op.smooth {
            Some(filter) => bilateral(filter, &binary, op.height, op.width, mask),
            None => mask.copy_from_slice(&binary),
        }
    }
}

/// Mean over the heads of one image's map.
pub fn mean_of_heads<N: Number>(map: &[N], heads: usize) -> Vec<N> {
    let cells = map.len() / heads;
    let mean = |cell| {
        let mut sum = N::ZERO;
        for head in 0..heads {
            sum += map[head * cells + cell];
        }
        sum / N::count(heads)
    };
    (0..cells).map(mean).collect()
}

/// Cells to pixels.
pub fn upsample<N: Number>(op: &PseudoMask, cells: &[N], rows: usize, columns: usize) -> Vec<N> {
    let mut plane = Vec::with_capacity(op.height * op.width);
    let small = op.multiplies_weights_first();
    let across: Vec<[(usize, N); 2]> = (0..op.width).map(|x| taps(x, op.width, columns)).collect();
    for y in 0..op.height {
        let down = taps(y, op.height, rows);
        for (x, &across) in across.iter().enumerate() {
            plane.push(match op.upsample {
                Upsample::Nearest => cells[y * rows / op.height * columns + x * columns / op.width],
                Upsample::Bilinear => {
                    interpolate(|row: usize, column: usize| cells[row * columns + column], down, across, small)
                }
            });
        }
    }
    plane
}

/// The four cells beside a pixel's centre, weighted, rounded where torch rounds (with fused multiply-adds): beyond the
/// outermost centres many pixels have the same score but for roundings, and the cut may fall among them.
fn interpolate<N: Number>(
    at: impl Fn(usize, usize) -> N,
    [(top, from_top), (bottom, from_bottom)]: [(usize, N); 2],
    [(left, from_left), (right, from_right)]: [(usize, N); 2],
    small: bool,
) -> N {
    let pair = |row: usize, left_weight: N, right_weight: N| {
        at(row, left).mul_add(left_weight, at(row, right) * right_weight)
    };
    if small {
        let above = pair(top, from_top * from_left, from_top * from_right);
        let three = at(bottom, left).mul_add(from_bottom * from_left, above);
        return at(bottom, right).mul_add(from_bottom * from_right, three);
    }
    pair(top, from_left, from_right).mul_add(from_top, pair(bottom, from_left, from_right) * from_bottom)
}

/// The two cells beside a pixel's centre and their weights, as torch has them: what lies outside of the outermost
/// centres belongs to the outermost cell.
pub fn taps<N: Number>(pixel: usize, pixels: usize, cells: usize) -> [(usize, N); 2] {
    if pixels == cells {
        return [(pixel, N::ONE), (pixel, N::ZERO)];
    }
    let scale = N::count(cells) / N::count(pixels);
    let source = (scale * (N::count(pixel) + N::of(0.5)) - N::of(0.5)).max(N::ZERO);
    let first = (source.floor().to_f64() as usize).min(cells - 1);
    let second = (first + 1).min(cells - 1);
    let weight = (source - N::count(first)).max(N::ZERO).min(N::ONE);
    [(first, N::ONE - weight), (second, weight)]
}

/// The interpolated quantile of all scores; NaN if one of them is.
fn quantile<N: Number>(op: &PseudoMask, scores: &[N]) -> N {
    if let Some(&nan) = scores.iter().find(|score| score.partial_cmp(score).is_none()) {
        return nan;
    }
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let (below, above, weight) = op.rank();
    PseudoMask::cut(sorted[below], sorted[above], weight)
}

/// The weighted mean over the disc around each pixel.
fn bilateral<N: Number>(filter: Bilateral, mask: &[N], height: usize, width: usize, out: &mut [N]) {
    let r = filter.radius() as isize;
    let value = |y: isize, x: isize| {
        let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
        inside.then(|| mask[y as usize * width + x as usize])
    };
    for y in 0..height as isize {
        for x in 0..width as isize {
            let centre = y as usize * width + x as usize;
            let (mut top, mut weight) = (N::ZERO, N::ZERO);
            for dy in -r..=r {
                for dx in -r..=r {
                    let distance2 = dx * dx + dy * dy;
                    let Some(v) = value(y + dy, x + dx).filter(|_| distance2 <= r * r) else { continue };
                    let k = filter.weight(distance2 as usize, v - mask[centre]);
                    top += k * v;
                    weight += k;
                }
            }
            out[centre] = top / weight;
        }
    }
}
