//! The definition of [`SegmentationLoss`](super::SegmentationLoss).

use super::{Form, SMOOTH, SegmentationLoss};
use crate::base::Number;
use crate::ops::elementwise_loss::{bce_with_logits, sigmoid};
use crate::program::HostIo;

/// Sums pixel by pixel, then Dice and cross entropy from the sums.
pub fn fwd<N: Number>(op: &SegmentationLoss, io: &mut HostIo<'_, N>) {
    let [batch, height, width] = io.dims(1);
    let (logits, mask, sums) = (io.numbers(0), io.numbers(1), io.take(1));
    let pixels = height * width;
    let mut bce = N::ZERO;
    for b in 0..batch {
        let mut sum = [N::ZERO; 3];
        for at in b * pixels..(b + 1) * pixels {
            let (x, t) = (logits[at], mask[at]);
            let p = match op.form {
                Form::DiceBce => sigmoid(x),
                Form::RawDice02Bce => x,
            };
            sum[0] += p * t;
            sum[1] += p;
            sum[2] += t;
            bce += bce_with_logits(x, t);
        }
        sums[b * 3..][..3].copy_from_slice(&sum);
    }
    io.take(0)[0] = op.total(sums, bce, pixels);
}

/// With s = 1e-5, d dice / dp = −(2t − q) / (Σp + Σt + s) where q = (2 Σpt + s) / (Σp + Σt + s);
/// d bce / dx = σ(x) − t.
pub fn bwd<N: Number>(op: &SegmentationLoss, io: &mut HostIo<'_, N>) {
    let [batch, height, width] = io.dims(2);
    let (seed, logits, mask, sums) = (io.numbers(0)[0], io.numbers(1), io.numbers(2), io.numbers(3));
    let d_logits = io.take(0);
    let pixels = height * width;
    let [dice_weight, bce_weight] = op.form.weights().map(N::of);
    let (dice, bce) = (seed * dice_weight / N::count(batch), seed * bce_weight / N::count(batch * pixels));
    for b in 0..batch {
        let below = sums[b * 3 + 1] + sums[b * 3 + 2] + N::of(SMOOTH);
        let quotient = (N::of(2.0) * sums[b * 3] + N::of(SMOOTH)) / below;
        for at in b * pixels..(b + 1) * pixels {
            let (p, t) = (sigmoid(logits[at]), mask[at]);
            let slope = match op.form {
                Form::DiceBce => p * (N::ONE - p),
                Form::RawDice02Bce => N::ONE,
            };
            d_logits[at] = dice * ((quotient - N::of(2.0) * t) / below) * slope + bce * (p - t);
        }
    }
}
