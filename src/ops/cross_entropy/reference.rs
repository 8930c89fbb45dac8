//! The definition of [`CrossEntropy`](super::CrossEntropy).

use crate::base::Number;
use crate::ops::clip_loss::log_sum_exp;
use crate::program::HostIo;

/// The mean.
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [rows, count] = io.dims(0);
    let (x, classes) = (io.numbers(0), io.indices(1));
    let mut sum = N::ZERO;
    for (x, &class) in x.chunks(count).zip(classes) {
        sum += log_sum_exp(x.iter().copied()) - x[class as usize];
    }
    io.take(0)[0] = sum / N::count(rows);
}

/// The softmax less one at the class, over the number of rows.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [rows, count] = io.dims(1);
    let (seed, x, classes, dx) = (io.numbers(0)[0], io.numbers(1), io.indices(2), io.take(0));
    let each = seed / N::count(rows);
    for ((dx, x), &class) in dx.chunks_mut(count).zip(x.chunks(count)).zip(classes) {
        let log_sum = log_sum_exp(x.iter().copied());
        for (at, (dx, &x)) in dx.iter_mut().zip(x).enumerate() {
            let hit = if at == class as usize { N::ONE } else { N::ZERO };
            *dx = each * ((x - log_sum).exp() - hit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fwd;
    use crate::program::HostIo;
    use crate::program::host::{HostInput, HostOutput};

    /// `torch.nn.functional.cross_entropy`, PyTorch 2.11, f64.
    #[test]
    fn the_loss_is_that_of_torch() {
        let x = HostInput::Numbers(&[1.0, -2.0, 0.5, 0.3, 0.2, -1.0]);
        let mut loss = [0.0];
        let written = vec![([1].into(), HostOutput::Numbers(&mut loss))];
        fwd::<f64>(&mut HostIo::new(vec![([2, 3].into(), x), ([2].into(), HostInput::Indices(&[2, 0]))], written));
        assert!((loss[0] - 0.891_357_133_240).abs() < 1e-12, "{loss:?}");
    }
}
