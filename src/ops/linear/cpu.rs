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
    let a = &io.numbers(0)[..rows * io.shape(0).last()];
    match op.pass {
        Pass::Fwd => {
            let out = &mut out[..rows * io.output_shape(0).last()];
            forward(out, a, io.numbers(1), op.bias.then(|| io.numbers(2)), rows);
        }
        Pass::Dgrad => dgrad(&mut out[..rows * io.output_shape(0).last()], a, io.numbers(1), rows),
        Pass::Wgrad => wgrad(out, a, &io.numbers(1)[..rows * io.shape(1).last()], rows),
        Pass::BiasGrad => sum_rows(out, a),
    }
}

/// y = x · wᵀ + bias, of so many rows.
pub fn forward<N: Number>(y: &mut [N], x: &[N], weight: &[N], bias: Option<&[N]>, rows: usize) {
    if rows == 0 {
        return;
    }
    let (outputs, inputs) = (y.len() / rows, x.len() / rows);
    if let Some(bias) = bias {
        y.par_chunks_mut(BLOCK * outputs).for_each(|block| {
            block.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
    }
    let keep = if bias.is_some() { N::ONE } else { N::ZERO };
    let weight = Matrix::new(weight, outputs, inputs).transposed();
    multiply_parallel(MatrixMut::new(y, rows, outputs), keep, N::ONE, Matrix::new(x, rows, inputs), weight);
}

/// dx = dy · w, of so many rows.
pub fn dgrad<N: Number>(dx: &mut [N], dy: &[N], weight: &[N], rows: usize) {
    if rows == 0 {
        return;
    }
    let (outputs, inputs) = (dy.len() / rows, dx.len() / rows);
    let (dy, weight) = (Matrix::new(dy, rows, outputs), Matrix::new(weight, outputs, inputs));
    multiply_parallel(MatrixMut::new(dx, rows, inputs), N::ZERO, N::ONE, dy, weight);
}

/// dw = dyᵀ · x, of so many rows.
pub fn wgrad<N: Number>(d_weight: &mut [N], dy: &[N], x: &[N], rows: usize) {
    if rows == 0 {
        return d_weight.fill(N::ZERO);
    }
    let (outputs, inputs) = (dy.len() / rows, x.len() / rows);
    let (dy, x) = (Matrix::new(dy, rows, outputs).transposed(), Matrix::new(x, rows, inputs));
    multiply_parallel(MatrixMut::new(d_weight, outputs, inputs), N::ZERO, N::ONE, dy, x);
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
