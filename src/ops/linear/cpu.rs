//! [`Linear`](super::Linear) as products of tiles.

use rayon::prelude::*;

use super::{Linear, Pass};
use crate::base::Number;
use crate::cpu::matmul::{Matrix, MatrixMut, multiply_parallel};
use crate::program::HostIo;

/// Least rows of a block of the sum over rows, and how many blocks there are at most.
const BLOCK: usize = 64;
const BLOCKS: usize = 64;

/// Rows behind the extent are cut off; the rest are whole matrices.
pub fn run<N: Number>(op: &Linear, io: &mut HostIo<'_, N>) {
    let (out, rows) = (io.take(0), op.rows(io));
    let features = io.shape(0).last();
    let a = &io.numbers(0)[..rows * features];
    match op.pass {
        Pass::Fwd => {
            let outputs = io.output_shape(0).last();
            let out = &mut out[..rows * outputs];
            if op.bias {
                out.par_chunks_mut(BLOCK * outputs).for_each(|block| {
                    block.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(io.numbers(2)));
                });
            }
            let keep = if op.bias { N::ONE } else { N::ZERO };
            let weight = Matrix::new(io.numbers(1), outputs, features).transposed();
            multiply_parallel(MatrixMut::new(out, rows, outputs), keep, N::ONE, Matrix::new(a, rows, features), weight);
        }
        Pass::Dgrad => {
            let inputs = io.output_shape(0).last();
            let out = MatrixMut::new(&mut out[..rows * inputs], rows, inputs);
            let weight = Matrix::new(io.numbers(1), features, inputs);
            multiply_parallel(out, N::ZERO, N::ONE, Matrix::new(a, rows, features), weight);
        }
        Pass::Wgrad => {
            let inputs = io.shape(1).last();
            let x = Matrix::new(&io.numbers(1)[..rows * inputs], rows, inputs);
            let dy = Matrix::new(a, rows, features).transposed();
            multiply_parallel(MatrixMut::new(out, features, inputs), N::ZERO, N::ONE, dy, x);
        }
        Pass::BiasGrad => sum_rows(out, a),
    }
}

/// Blocks of rows are summed in parallel, then the blocks in their order.
fn sum_rows<N: Number>(out: &mut [N], rows: &[N]) {
    let features = out.len();
    let block = (rows.len() / features).div_ceil(BLOCKS).max(BLOCK);
    let partials: Vec<Vec<N>> = (rows.par_chunks(block * features))
        .map(|block| {
            let mut sum = vec![N::ZERO; features];
            block.chunks_exact(features).for_each(|row| add(&mut sum, row));
            sum
        })
        .collect();
    out.fill(N::ZERO);
    partials.iter().for_each(|partial| add(out, partial));
}

fn add<N: Number>(sum: &mut [N], row: &[N]) {
    sum.iter_mut().zip(row).for_each(|(sum, &number)| *sum += number);
}
