//! The definition of [`ElementwiseLoss`](super::ElementwiseLoss).

use super::Form;
use crate::base::Number;
use crate::program::HostIo;

/// 1 / (1 + exp(−x)).
pub fn sigmoid<N: Number>(x: N) -> N {
    N::ONE / (N::ONE + (-x).exp())
}

/// (1 − t) x − log σ(x), with log σ(x) = min(x, 0) − ln(1 + exp(−|x|)) so that nothing overflows.
pub fn bce_with_logits<N: Number>(x: N, target: N) -> N {
    let least = if x < N::ZERO { x } else { N::ZERO };
    (N::ONE - target) * x - (least - (-x.abs()).exp().ln_1p())
}

/// The mean.
pub fn fwd<N: Number>(form: Form, io: &mut HostIo<'_, N>) {
    let (x, target) = (io.numbers(0), io.numbers(1));
    let mut sum = N::ZERO;
    for (&x, &t) in x.iter().zip(target) {
        sum += match form {
            Form::BceWithLogits => bce_with_logits(x, t),
            Form::SquaredError => (x - t) * (x - t),
        };
    }
    io.take(0)[0] = sum / N::count(x.len());
}

/// σ(x) − t, or 2 (x − t), over the number of elements.
pub fn bwd<N: Number>(form: Form, io: &mut HostIo<'_, N>) {
    let (seed, x, target, dx) = (io.numbers(0)[0], io.numbers(1), io.numbers(2), io.take(0));
    let each = seed / N::count(x.len());
    for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(target) {
        *dx = each
            * match form {
                Form::BceWithLogits => sigmoid(x) - t,
                Form::SquaredError => N::of(2.0) * (x - t),
            };
    }
}
