//! The definition of [`AdamW`](super::AdamW).

use super::{AdamW, permitted};
use crate::base::Number;
use crate::program::HostIo;

/// Weight by weight. Weights and moments stand in the outputs on entry.
pub fn run<N: Number>(op: &AdamW, io: &mut HostIo<'_, N>) {
    let constants = op.constants(io.numbers(0));
    if !permitted(io.numbers(1)) {
        return;
    }
    for parameter in 0..(io.input_count() - 2) / op.stride() {
        let gradient = op.gradient.then(|| io.numbers(2 + parameter * op.stride()));
        let [w, m, v] = [0, 1, 2].map(|part| io.take(parameter * 3 + part));
        for at in 0..w.len() {
            let gradient = gradient.map_or(N::ZERO, |gradient| gradient[at]);
            constants.apply(gradient, &mut w[at], &mut m[at], &mut v[at]);
        }
    }
}
