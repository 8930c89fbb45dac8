//! [`AdamW`](super::AdamW) in chunks, side by side: all parameters in one parallel loop.

use rayon::prelude::*;

use super::{AdamW, permitted};
use crate::base::Number;
use crate::program::HostIo;

/// Weights of one chunk.
const CHUNK: usize = 1 << 14;

/// Weights do not depend on each other, so any partition gives the same bits.
pub fn run<N: Number>(op: &AdamW, io: &mut HostIo<'_, N>) {
    let constants = op.constants(io.numbers(0));
    if !permitted(io.numbers(1)) {
        return;
    }
    let mut chunks = Vec::new();
    for parameter in 0..(io.input_count() - 2) / op.stride() {
        let gradient = op.gradient.then(|| io.numbers(2 + parameter * op.stride()));
        let [w, m, v] = [0, 1, 2].map(|part| io.take(parameter * 3 + part).chunks_mut(CHUNK));
        for (at, ((w, m), v)) in w.zip(m).zip(v).enumerate() {
            chunks.push((gradient.map(|gradient| &gradient[at * CHUNK..][..w.len()]), w, m, v));
        }
    }
    chunks.into_par_iter().for_each(|(gradient, w, m, v)| {
        let moments = w.iter_mut().zip(m).zip(v);
        match gradient {
            Some(gradient) => {
                moments.zip(gradient).for_each(|(((w, m), v), &gradient)| constants.apply(gradient, w, m, v));
            }
            None => moments.for_each(|((w, m), v)| constants.apply(N::ZERO, w, m, v)),
        }
    });
}
