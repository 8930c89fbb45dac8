//! The definition of [`DiceLoss`](super::DiceLoss).

use super::Form;
use crate::base::Number;
use crate::ops::elementwise_loss::sigmoid;
use crate::program::HostIo;

/// D, and what it is a quotient by.
fn dice<N: Number>(sums: &[N]) -> [N; 2] {
    let below = sums[1] + sums[2] + N::ONE;
    [(N::of(2.0) * sums[0] + N::ONE) / below, below]
}

/// Sums pixel by pixel, then the loss from the sums.
pub fn fwd<N: Number>(form: Form, io: &mut HostIo<'_, N>) {
    let (logits, mask, sums) = (io.numbers(0), io.numbers(1), io.take(1));
    sums.fill(N::ZERO);
    for (&x, &t) in logits.iter().zip(mask) {
        let p = sigmoid(x);
        sums[0] += p * t;
        sums[1] += p;
        sums[2] += t;
    }
    let [dice, _] = dice(sums);
    io.take(0)[0] = match form {
        Form::Log => -dice.ln(),
        Form::Linear => N::ONE - dice,
    };
}

/// d(1 − D) / dp = (D − 2t) / (Σp + Σt + 1); d(−ln D) is that over D.
pub fn bwd<N: Number>(form: Form, io: &mut HostIo<'_, N>) {
    let (seed, logits, mask, d_logits) = (io.numbers(0)[0], io.numbers(1), io.numbers(2), io.take(0));
    let [dice, below] = dice(io.numbers(3));
    let each = match form {
        Form::Log => seed / below / dice,
        Form::Linear => seed / below,
    };
    for ((d, &x), &t) in d_logits.iter_mut().zip(logits).zip(mask) {
        let p = sigmoid(x);
        *d = each * (dice - N::of(2.0) * t) * (p * (N::ONE - p));
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, fwd};
    use crate::program::HostIo;
    use crate::program::host::{HostInput, HostOutput};

    fn loss(form: Form, logits: &[f64], mask: &[f64]) -> f64 {
        let read = [logits, mask].map(|numbers| ([numbers.len()].into(), HostInput::Numbers(numbers)));
        let (mut loss, mut sums) = ([0.0], [0.0; 3]);
        let written = [([1].into(), HostOutput::Numbers(&mut loss)), ([3].into(), HostOutput::Numbers(&mut sums))];
        fwd(form, &mut HostIo::new(read.into(), written.into()));
        loss[0]
    }

    /// MGCA's formula in PyTorch 2.11, f64.
    #[test]
    fn the_losses_are_those_of_torch() {
        let of = |form| loss(form, &[-2.0, -0.3, 0.7, 3.0], &[0.0, 1.0, 0.3, 1.0]);
        assert!((of(Form::Log) - 0.273_623_720_119).abs() < 1e-12);
        assert!((of(Form::Linear) - 0.239_381_773_243).abs() < 1e-12);
    }

    #[test]
    fn an_empty_mask_left_empty_costs_nothing() {
        assert!(loss(Form::Log, &[-60.0; 8], &[0.0; 8]).abs() < 1e-12);
    }
}
