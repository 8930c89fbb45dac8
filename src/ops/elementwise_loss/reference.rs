//! The definition of [`ElementwiseLoss`](super::ElementwiseLoss).

use super::{ElementwiseLoss, Form};
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

/// The loss of one element and its slope.
fn element<N: Number>(form: Form, x: N, t: N) -> [N; 2] {
    let entropy = bce_with_logits(x, t);
    match form {
        Form::SquaredError => [(x - t) * (x - t), N::of(2.0) * (x - t)],
        Form::Focal => {
            let sign = N::of(2.0) * t - N::ONE;
            let wrong = sigmoid(-(sign * x)) * sigmoid(-(sign * x));
            let slope = (sigmoid(x) - t) - N::of(2.0) * sign * sigmoid(sign * x) * entropy;
            [wrong * entropy, wrong * slope]
        }
        Form::BceWithLogits | Form::Detection { .. } => [entropy, sigmoid(x) - t],
    }
}

/// The mean.
pub fn fwd<N: Number>(op: &ElementwiseLoss, io: &mut HostIo<'_, N>) {
    let (x, target, weight) = (io.numbers(0), io.numbers(1), op.weighted.then(|| io.numbers(2)));
    let mut sum = N::ZERO;
    for (at, (&x, &t)) in x.iter().zip(target).enumerate() {
        let [loss, _] = element(op.form.of(at), x, t);
        sum += weight.map_or(loss, |weight| weight[at] * loss);
    }
    io.take(0)[0] = sum / N::count(x.len());
}

/// The slope of each over the number of elements.
pub fn bwd<N: Number>(op: &ElementwiseLoss, io: &mut HostIo<'_, N>) {
    let (seed, x, target, weight) =
        (io.numbers(0)[0], io.numbers(1), io.numbers(2), op.weighted.then(|| io.numbers(3)));
    let each = seed / N::count(x.len());
    for (at, (dx, (&x, &t))) in io.take(0).iter_mut().zip(x.iter().zip(target)).enumerate() {
        let [_, slope] = element(op.form.of(at), x, t);
        *dx = weight.map_or(each, |weight| each * weight[at]) * slope;
    }
}

#[cfg(test)]
mod tests {
    use super::{ElementwiseLoss, Form, fwd};
    use crate::program::HostIo;
    use crate::program::host::{HostInput, HostOutput};

    fn loss(op: ElementwiseLoss, inputs: &[&[f64]]) -> f64 {
        let read = inputs.iter().map(|numbers| ([numbers.len()].into(), HostInput::Numbers(numbers))).collect();
        let mut out = [0.0];
        fwd(&op, &mut HostIo::new(read, vec![([1].into(), HostOutput::Numbers(&mut out))]));
        out[0]
    }

    /// MGCA's formula in PyTorch 2.11, f64.
    #[test]
    fn the_focal_loss_is_that_of_torch() {
        let loss = loss(ElementwiseLoss::fwd(Form::Focal), &[&[-2.0, -0.3, 0.7, 3.0], &[0.0, 1.0, 0.3, 1.0]]);
        assert!((loss - 0.143_392_716_062).abs() < 1e-12, "{loss}");
    }

    /// Two anchors of one class, of which one has an object: torch's losses of each number, weighted.
    #[test]
    fn the_loss_of_a_detection_head_is_that_of_torch() {
        let x = [0.5, -1.0, 0.2, 2.0, 1.5, -0.5, 1.0, 0.0, -0.4, 0.6, -2.0, 0.25];
        let target = [0.3, 0.6, 0.1, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let weight = [2.5, 2.5, 2.5, 2.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0];
        let op = ElementwiseLoss::fwd(Form::Detection { channels: 6 }).weighted();
        let loss = loss(op, &[&x, &target, &weight]);
        assert!((loss - 0.675_608_412_244).abs() < 1e-12, "{loss}");
    }
}
