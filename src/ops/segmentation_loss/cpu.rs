//! [`SegmentationLoss`](super::SegmentationLoss) in chunks of fixed size, side by side. The sums are added in the
//! order of the chunks, so they do not depend on the number of threads.

use rayon::prelude::*;

use super::{Form, SMOOTH, SegmentationLoss};
use crate::base::Number;
use crate::program::HostIo;

/// Pixels of one chunk; a chunk never spans two images.
const CHUNK: usize = 4096;

/// σ(x) and ln(1 + exp(−|x|)) from one exponential.
fn sigmoid_and_log<N: Number>(x: N) -> (N, N) {
    let small = (-x.abs()).exp();
    let share = N::ONE / (N::ONE + small);
    (if x < N::ZERO { small * share } else { share }, small.ln_1p())
}

/// One pass over logits and mask: Σpt, Σp, Σt and the cross entropy of each chunk.
pub fn fwd<N: Number>(op: &SegmentationLoss, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(1);
    let (logits, mask, sums) = (io.numbers(0), io.numbers(1), io.take(1));
    let pixels = height * width;
    let each = pixels.div_ceil(CHUNK);
    let chunks: Vec<[N; 4]> = (0..sums.len() / 3 * each)
        .into_par_iter()
        .map(|chunk| {
            let (image, part) = (chunk / each, chunk % each);
            let range = image * pixels + part * CHUNK..image * pixels + pixels.min((part + 1) * CHUNK);
            let mut sum = [N::ZERO; 4];
            for (&x, &t) in logits[range.clone()].iter().zip(&mask[range]) {
                let (share, log) = sigmoid_and_log(x);
                let p = match op.form {
                    Form::DiceBce => share,
                    Form::RawDice02Bce => x,
                };
                let least = if x < N::ZERO { x } else { N::ZERO };
                sum[0] += p * t;
                sum[1] += p;
                sum[2] += t;
                sum[3] += (N::ONE - t) * x - (least - log);
            }
            sum
        })
        .collect();
    sums.fill(N::ZERO);
    let mut bce = N::ZERO;
    for (image, chunks) in chunks.chunks(each).enumerate() {
        for chunk in chunks {
            for part in 0..3 {
                sums[image * 3 + part] += chunk[part];
            }
            bce += chunk[3];
        }
    }
    io.take(0)[0] = op.total(sums, bce, pixels);
}

/// Pixel by pixel.
pub fn bwd<N: Number>(op: &SegmentationLoss, io: &mut HostIo<'_, N>) {
    let [batch, height, width] = io.dims(2);
    let (seed, logits, mask, sums) = (io.numbers(0)[0], io.numbers(1), io.numbers(2), io.numbers(3));
    let pixels = height * width;
    let [dice_weight, bce_weight] = op.form.weights().map(N::of);
    let (dice, bce) = (seed * dice_weight / N::count(batch), seed * bce_weight / N::count(batch * pixels));
    let rows = io.take(0).par_chunks_mut(width);
    rows.enumerate().with_min_len(CHUNK.div_ceil(width)).for_each(|(row, d_logits)| {
        let sums = &sums[row / height * 3..][..3];
        let below = sums[1] + sums[2] + N::of(SMOOTH);
        let constant = dice * ((N::of(2.0) * sums[0] + N::of(SMOOTH)) / below) / below;
        let by_mask = dice * N::of(2.0) / below;
        let from = row * width;
        for ((d, &x), &t) in d_logits.iter_mut().zip(&logits[from..]).zip(&mask[from..]) {
            let (p, _) = sigmoid_and_log(x);
            let slope = match op.form {
                Form::DiceBce => p * (N::ONE - p),
                Form::RawDice02Bce => N::ONE,
            };
            *d = (constant - by_mask * t) * slope + bce * (p - t);
        }
    });
}
