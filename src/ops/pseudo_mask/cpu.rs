//! [`PseudoMask`](super::PseudoMask), images side by side. Nearest upsampling makes no more different scores than there
//! are cells, and zero; so the cut follows from how many pixels have which score, and no plane is sorted. The mask
//! before the filter is 0 or 1, so the filter's weights are two tables.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::{Bilateral, PseudoMask, Upsample, reference};
use crate::base::Number;
use crate::cpu::simd;
use crate::program::HostIo;

/// Images do not depend on each other.
pub fn run<N: Number>(op: &PseudoMask, io: &mut HostIo<'_, N>) {
    let [batch, heads, rows, columns] = io.dims(0);
    let (pixels, cells) = (op.height * op.width, heads * rows * columns);
    let body = op.body.then(|| io.bytes(1));
    let (maps, thresholds) = (io.numbers(0), op.threshold().map(|input| io.numbers(input)));
    io.take(0).par_chunks_mut(pixels).enumerate().for_each(|(at, mask)| {
        let b = op.image(at, batch);
        let body = body.map(|body| &body[b * pixels..][..pixels]);
        let given = thresholds.map(|thresholds| thresholds[b]);
        let mean = reference::mean_of_heads(&maps[b * cells..][..cells], heads);
        match op.upsample {
            Upsample::Nearest => nearest(op, &mean, rows, columns, body, given, mask),
            Upsample::Bilinear => bilinear(op, &mean, rows, columns, body, given, mask),
        }
        if let Some(filter) = op.smooth {
            let binary = mask.to_vec();
            simd::vectorised(
                #[inline(always)]
                || bilateral(filter, &binary, op.width, mask),
            );
        }
    });
}

/// Counts the pixels with and without body of each cell, unless the cut is given; the scores of those are the cell's and
/// zero times it.
fn nearest<N: Number>(
    op: &PseudoMask,
    cells: &[N],
    rows: usize,
    columns: usize,
    body: Option<&[u8]>,
    given: Option<N>,
    mask: &mut [N],
) {
    let column_of: Vec<usize> = (0..op.width).map(|x| x * columns / op.width).collect();
    let quantile = || {
        let mut counts = vec![[0usize; 2]; cells.len()];
        for y in 0..op.height {
            let counts = &mut counts[y * rows / op.height * columns..][..columns];
            for (x, &column) in column_of.iter().enumerate() {
                counts[column][usize::from(body.is_none_or(|body| body[y * op.width + x] != 0))] += 1;
            }
        }
        let scores = cells.iter().zip(&counts).flat_map(|(&score, &[without, with])| {
            [(score * N::ZERO, without), (score * N::ONE, with)].into_iter().filter(|&(_, count)| count > 0)
        });
        counted_quantile(op, scores.collect())
    };
    let Some(cut) = given.or_else(quantile) else { return mask.fill(N::ZERO) };
    let chosen: Vec<N> =
        cells.iter().map(|&score| if op.compare.holds(score, cut) { N::ONE } else { N::ZERO }).collect();
    for (y, mask) in mask.chunks_mut(op.width).enumerate() {
        let chosen = &chosen[y * rows / op.height * columns..][..columns];
        for (x, (mask, &column)) in mask.iter_mut().zip(&column_of).enumerate() {
            let inside = body.is_none_or(|body| body[y * op.width + x] != 0);
            *mask = if inside { chosen[column] } else { N::ZERO };
        }
    }
}

/// The quantile of scores of which each occurs so many times; `None` if one is NaN.
pub fn counted_quantile<N: Number>(op: &PseudoMask, mut scores: Vec<(N, usize)>) -> Option<N> {
    if scores.iter().any(|(score, _)| score.partial_cmp(score).is_none()) {
        return None;
    }
    scores.sort_unstable_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let at = |rank: usize| {
        let mut before = 0;
        let reached = scores.iter().find(|(_, count)| {
            before += count;
            rank < before
        });
        reached.map(|&(score, _)| score)
    };
    let (below, above, weight) = op.rank();
    Some(PseudoMask::cut(at(below)?, at(above)?, weight))
}

/// The quantile by selection; `None` if a score is NaN.
fn selected_quantile<N: Number>(op: &PseudoMask, scores: &[N]) -> Option<N> {
    if scores.iter().any(|score| score.partial_cmp(score).is_none()) {
        return None;
    }
    let mut sorted = scores.to_vec();
    let (below, above, weight) = op.rank();
    let (_, &mut first, behind) =
        sorted.select_nth_unstable_by(below, |a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let second = if above == below { first } else { behind.iter().copied().reduce(N::min).unwrap_or(first) };
    Some(PseudoMask::cut(first, second, weight))
}

/// The plane, its quantile unless the cut is given, the comparison.
fn bilinear<N: Number>(
    op: &PseudoMask,
    cells: &[N],
    rows: usize,
    columns: usize,
    body: Option<&[u8]>,
    given: Option<N>,
    mask: &mut [N],
) {
    let mut scores = reference::upsample(op, cells, rows, columns);
    if let Some(body) = body {
        scores.iter_mut().zip(body).for_each(|(score, &body)| *score *= N::count(usize::from(body != 0)));
    }
    let Some(cut) = given.or_else(|| selected_quantile(op, &scores)) else { return mask.fill(N::ZERO) };
    for (pixel, (mask, &score)) in mask.iter_mut().zip(&scores).enumerate() {
        let inside = body.is_none_or(|body| body[pixel] != 0);
        *mask = if inside && op.compare.holds(score, cut) { N::ONE } else { N::ZERO };
    }
}

/// The filter on a mask of zeros and ones: a row at a time, one shift of the disc after the other.
#[inline(always)]
fn bilateral<N: Number>(filter: Bilateral, mask: &[N], width: usize, out: &mut [N]) {
    let r = filter.radius() as isize;
    let height = (mask.len() / width) as isize;
    let tables: Vec<[N; 2]> =
        (0..=(r * r) as usize).map(|distance2| [N::ZERO, N::ONE].map(|v| filter.weight(distance2, v))).collect();
    let mut weights = vec![N::ZERO; width];
    for (y, tops) in out.chunks_mut(width).enumerate() {
        tops.fill(N::ZERO);
        weights.fill(N::ZERO);
        let centres = &mask[y * width..][..width];
        for dy in -r..=r {
            let row = y as isize + dy;
            if !(0..height).contains(&row) {
                continue;
            }
            let row = &mask[row as usize * width..][..width];
            for dx in -r..=r {
                let distance2 = dx * dx + dy * dy;
                if distance2 > r * r || dx.unsigned_abs() >= width {
                    continue;
                }
                let [same, other] = tables[distance2 as usize];
                let (from, shift) = ((-dx).max(0) as usize, dx.max(0) as usize);
                let pixels = width - dx.unsigned_abs();
                let sums = tops[from..][..pixels].iter_mut().zip(&mut weights[from..][..pixels]);
                for (((top, weight), &v), &m) in sums.zip(&row[shift..][..pixels]).zip(&centres[from..][..pixels]) {
                    let k = if v == m { same } else { other };
                    *top += k * v;
                    *weight += k;
                }
            }
        }
        tops.iter_mut().zip(&weights).for_each(|(top, &weight)| *top /= weight);
    }
}
