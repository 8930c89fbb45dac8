//! [`Finite`](super::Finite) in chunks of fixed size, side by side; their sums are added in order.

use rayon::prelude::*;

use super::Finite;
use crate::base::Number;
use crate::program::HostIo;

/// Numbers of one chunk.
const CHUNK: usize = 1 << 14;
/// Sums kept side by side within a chunk, so that the loop can use vectors.
const LANES: usize = 16;

/// All chunks of all gradients in one parallel loop; a loss is one number.
pub fn run<N: Number>(op: &Finite, io: &mut HostIo<'_, N>) {
    let gradients = io.input_count() - op.losses;
    let chunks: Vec<&[N]> = (0..gradients).flat_map(|input| io.numbers(input).chunks(CHUNK)).collect();
    let sums: Vec<(N, usize)> = chunks.par_iter().map(|chunk| sum(chunk)).collect();
    let losses = (gradients..io.input_count()).flat_map(|input| io.numbers(input));
    let (mut squares, mut bad) = (N::ZERO, losses.filter(|loss| !loss.is_finite()).count());
    for (square, count) in sums {
        squares += square;
        bad += count;
    }
    io.take(0).copy_from_slice(&[squares, N::count(bad)]);
}

fn sum<N: Number>(chunk: &[N]) -> (N, usize) {
    let mut lanes = [N::ZERO; LANES];
    let (body, tail) = chunk.as_chunks::<LANES>();
    for values in body {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane += value * value;
        }
    }
    let mut squares = N::ZERO;
    for lane in lanes {
        squares += lane;
    }
    for &value in tail {
        squares += value * value;
    }
    // A finite sum of squares has only finite terms.
    let bad = if squares.is_finite() { 0 } else { chunk.iter().filter(|value| !value.is_finite()).count() };
    (squares, bad)
}
