//! The definition of [`ClipLoss`](super::ClipLoss).

use std::cmp::Ordering;

use super::ClipLoss;
use crate::base::Number;
use crate::program::HostIo;

/// torch's `F.normalize` divides by no less than this.
const SMALLEST_NORM: f64 = 1e-12;

/// Rows over their norms, and the norms (no less than the smallest).
fn normalise<N: Number>(x: &[N], features: usize) -> (Vec<N>, Vec<N>) {
    let (mut unit, mut norms) = (Vec::with_capacity(x.len()), Vec::new());
    for row in x.chunks(features) {
        let mut square = N::ZERO;
        for &value in row {
            square += value * value;
        }
        let norm = square.sqrt();
        // Written so that the norm of a row with a NaN stays NaN.
        let norm = if norm < N::of(SMALLEST_NORM) { N::of(SMALLEST_NORM) } else { norm };
        unit.extend(row.iter().map(|&value| value / norm));
        norms.push(norm);
    }
    (unit, norms)
}

/// Similarities [N,N] of every image (row) with every text (column), over the temperature.
fn similarities<N: Number>(op: &ClipLoss, image: &[N], text: &[N], features: usize) -> Vec<N> {
    let mut all = Vec::new();
    for image in image.chunks(features) {
        for text in text.chunks(features) {
            let mut dot = N::ZERO;
            for (&a, &b) in image.iter().zip(text) {
                dot += a * b;
            }
            all.push(dot / op.temperature.to());
        }
    }
    all
}

/// Log of the sum of the exponentials.
pub fn log_sum_exp<N: Number>(values: impl Iterator<Item = N> + Clone) -> N {
    let highest = values.clone().fold(N::LOWEST, N::max);
    let mut sum = N::ZERO;
    for value in values {
        sum += (value - highest).exp();
    }
    highest + sum.ln()
}

/// The loss and the two hit rates.
pub fn fwd<N: Number>(op: &ClipLoss, io: &mut HostIo<'_, N>) {
    let [rows, features] = io.dims(0);
    let (image, _) = normalise(io.numbers(0), features);
    let (text, _) = normalise(io.numbers(1), features);
    let s = similarities(op, &image, &text, features);
    let (mut i2t, mut t2i, mut top1, mut top5) = (N::ZERO, N::ZERO, 0, 0);
    for i in op.offset..op.offset + op.count {
        let own = s[i * rows + i];
        i2t += log_sum_exp((0..rows).map(|j| s[i * rows + j])) - own;
        t2i += log_sum_exp((0..rows).map(|j| s[j * rows + i])) - own;
        // What cannot be compared (NaN) counts as more similar, so that it is no hit.
        let before = (0..rows).filter(|j| {
            !matches!(s[i * rows + j].partial_cmp(&own), Some(Ordering::Less | Ordering::Equal))
        });
        let before = before.count();
        top1 += usize::from(before < 1);
        top5 += usize::from(before < 5);
    }
    let count = N::count(op.count);
    let [image_to_text, text_to_image] = op.directions.weights().map(N::of);
    io.take(0)[0] = image_to_text * (i2t / count) + text_to_image * (t2i / count);
    io.take(1)[0] = N::count(top1) / count;
    io.take(2)[0] = N::count(top5) / count;
}

/// dS from both softmaxes, through the product, through the normalisation.
pub fn bwd<N: Number>(op: &ClipLoss, io: &mut HostIo<'_, N>) {
    let [rows, features] = io.dims(1);
    let seed = io.numbers(0)[0];
    let (image, image_norms) = normalise(io.numbers(1), features);
    let (text, text_norms) = normalise(io.numbers(2), features);
    let s = similarities(op, &image, &text, features);
    let [image_to_text, text_to_image] = op.directions.weights().map(|weight| {
        seed * N::of(weight) / N::count(op.count) / op.temperature.to()
    });
    let mut ds = vec![N::ZERO; rows * rows];
    for i in op.offset..op.offset + op.count {
        let by_row = log_sum_exp((0..rows).map(|j| s[i * rows + j]));
        let by_column = log_sum_exp((0..rows).map(|j| s[j * rows + i]));
        for j in 0..rows {
            let own = if i == j { N::ONE } else { N::ZERO };
            ds[i * rows + j] += image_to_text * ((s[i * rows + j] - by_row).exp() - own);
            ds[j * rows + i] += text_to_image * ((s[j * rows + i] - by_column).exp() - own);
        }
    }
    let (mut d_image, mut d_text) = (vec![N::ZERO; rows * features], vec![N::ZERO; rows * features]);
    for i in 0..rows {
        for j in 0..rows {
            for d in 0..features {
                d_image[i * features + d] += ds[i * rows + j] * text[j * features + d];
                d_text[j * features + d] += ds[i * rows + j] * image[i * features + d];
            }
        }
    }
    through_norm(io.take(0), &d_image, &image, &image_norms);
    through_norm(io.take(1), &d_text, &text, &text_norms);
}

/// dx = (du − u (u · du)) / ‖x‖ for u = x / ‖x‖; du / smallest where the norm was below the smallest.
fn through_norm<N: Number>(out: &mut [N], d_unit: &[N], unit: &[N], norms: &[N]) {
    let features = out.len() / norms.len();
    for (row, &norm) in norms.iter().enumerate() {
        let (unit, d_unit) = (&unit[row * features..][..features], &d_unit[row * features..][..features]);
        let mut dot = N::ZERO;
        if norm != N::of(SMALLEST_NORM) {
            for (&u, &du) in unit.iter().zip(d_unit) {
                dot += u * du;
            }
        }
        for (d, out) in out[row * features..][..features].iter_mut().enumerate() {
            *out = (d_unit[d] - unit[d] * dot) / norm;
        }
    }
}
