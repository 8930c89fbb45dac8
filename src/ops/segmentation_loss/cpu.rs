//! [`SegmentationLoss`](super::SegmentationLoss) in chunks of fixed size, side by side. The sums are added in the
//! order of the chunks, so they do not depend on the number of threads.

use std::any::TypeId;

use rayon::prelude::*;

use super::{Form, SMOOTH, SegmentationLoss};
use crate::base::Number;
use crate::cpu::{math, simd};
use crate::program::HostIo;

/// Pixels of one chunk; a chunk never spans two images.
const CHUNK: usize = 4096;

/// Sums that run side by side.
const LANES: usize = 16;

/// σ(x) and ln(1 + exp(−|x|)) from one exponential.
#[inline(always)]
fn sigmoid_and_log<N: Number>(x: N) -> (N, N) {
    let (small, log) = if TypeId::of::<N>() == TypeId::of::<f32>() {
        let small = math::exp(-bytemuck::cast::<N, f32>(x).abs());
        (bytemuck::cast::<f32, N>(small), bytemuck::cast::<f32, N>(math::ln_1p(small)))
    } else {
        let small = (-x.abs()).exp();
        (small, small.ln_1p())
    };
    let share = N::ONE / (N::ONE + small);
    (if x < N::ZERO { small * share } else { share }, log)
}

/// What a pixel adds to Σpt, Σp, Σt and the cross entropy.
#[inline(always)]
fn terms<N: Number>(form: Form, x: N, t: N) -> [N; 4] {
    let (share, log) = sigmoid_and_log(x);
    let p = match form {
        Form::DiceBce => share,
        Form::RawDice02Bce => x,
    };
    let least = if x < N::ZERO { x } else { N::ZERO };
    [p * t, p, t, (N::ONE - t) * x - (least - log)]
}

/// Their sums over some pixels, in lanes and then over the lanes.
#[inline(always)]
fn sums<N: Number>(form: Form, logits: &[N], mask: &[N]) -> [N; 4] {
    let mut lanes = [[N::ZERO; LANES]; 4];
    let ((logits, logits_rest), (mask, mask_rest)) = (logits.as_chunks::<LANES>(), mask.as_chunks::<LANES>());
    for (logits, mask) in logits.iter().zip(mask) {
        for lane in 0..LANES {
            let terms = terms(form, logits[lane], mask[lane]);
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[lane] += term;
            }
        }
    }
    for (lane, (&x, &t)) in logits_rest.iter().zip(mask_rest).enumerate() {
        for (lanes, term) in lanes.iter_mut().zip(terms(form, x, t)) {
            lanes[lane] += term;
        }
    }
    lanes.map(|lanes| lanes.into_iter().sum())
}

/// One pass over logits and mask: Σpt, Σp, Σt and the cross entropy of each chunk.
pub fn fwd<N: Number>(op: &SegmentationLoss, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(1);
    let (logits, mask, out) = (io.numbers(0), io.numbers(1), io.take(1));
    let pixels = height * width;
    let each = pixels.div_ceil(CHUNK);
    let chunks: Vec<[N; 4]> = (0..out.len() / 3 * each)
        .into_par_iter()
        .map(|chunk| {
            let (image, part) = (chunk / each, chunk % each);
            let range = image * pixels + part * CHUNK..image * pixels + pixels.min((part + 1) * CHUNK);
            simd::vectorised(
                #[inline(always)]
                || sums(op.form, &logits[range.clone()], &mask[range]),
            )
        })
        .collect();
    out.fill(N::ZERO);
    let mut bce = N::ZERO;
    for (image, chunks) in chunks.chunks(each).enumerate() {
        for chunk in chunks {
            for part in 0..3 {
                out[image * 3 + part] += chunk[part];
            }
            bce += chunk[3];
        }
    }
    io.take(0)[0] = op.total(out, bce, pixels);
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
        simd::vectorised(
            #[inline(always)]
            || {
                for ((d, &x), &t) in d_logits.iter_mut().zip(&logits[from..]).zip(&mask[from..]) {
                    let (p, _) = sigmoid_and_log(x);
                    let slope = match op.form {
                        Form::DiceBce => p * (N::ONE - p),
                        Form::RawDice02Bce => N::ONE,
                    };
                    *d = (constant - by_mask * t) * slope + bce * (p - t);
                }
            },
        );
    });
}
