//! Matrix products that stay in registers, for operands that lie in memory as they are: windows that overlap, rows of
//! any stride. Nothing is packed, so few columns and small matrices pay nothing for it.
//!
//! `c[t, k] = keep · c[t, k] + Σ over segments s and depth d of a[s, t, d] · b[s, d, k]`
//!
//! Each sum is one chain of fused multiply-adds from zero in the order of (s, d), added to c at the end, whatever the
//! tile and the vectors: the bits depend on the shapes alone. Tiles are [1, 2, 4 or 8] rows by [8, 16 or 32] columns.
#![allow(unsafe_code)] // Loads at strides in the innermost loop; bounds are checked once, before.

use super::simd;
use crate::base::Number;

/// Columns of the narrowest tile: b is read, and then ignored, up to a multiple of it.
pub const LANES: usize = 8;

/// The operands of a product; see the [module](self). All strides count numbers.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a, N> {
    /// Numbers of a.
    pub a: &'a [N],
    /// From segment to segment, from row to row, along the depth.
    pub a_strides: [usize; 3],
    /// Numbers of b, with at least [`LANES`] − 1 more behind the last.
    pub b: &'a [N],
    /// From segment to segment, along the depth; columns are neighbours.
    pub b_strides: [usize; 2],
    /// Segments.
    pub segments: usize,
    /// Products in each segment.
    pub depth: usize,
}

/// Computes c, of `columns` columns and as many rows of `row_stride` numbers as `rows` says. Without `keep` what c held
/// is not read.
pub fn multiply<N: Number>(
    c: &mut [N],
    row_stride: usize,
    [rows, columns]: [usize; 2],
    keep: bool,
    product: Product<'_, N>,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(product.segments > 0 && product.depth > 0, "a product has a depth");
    let (s, d) = (product.segments - 1, product.depth - 1);
    let [a_segment, a_row, a_depth] = product.a_strides;
    let [b_segment, b_depth] = product.b_strides;
    let padded = columns.next_multiple_of(LANES);
    assert!(s * a_segment + (rows - 1) * a_row + d * a_depth < product.a.len(), "a is too short");
    assert!(s * b_segment + d * b_depth + padded <= product.b.len(), "b is too short");
    assert!((rows - 1) * row_stride + columns <= c.len() && (rows == 1 || row_stride >= columns), "c is too short");
    simd::vectorised(
        #[inline(always)]
        || {
            let mut column = 0;
            while column < columns {
                let left = padded - column;
                let c = &mut c[column..];
                let part = Product { b: &product.b[column..], ..product };
                let shown = columns - column;
                column += match left {
                    32.. => block::<N, 32>(c, row_stride, [rows, shown.min(32)], keep, part),
                    16.. => block::<N, 16>(c, row_stride, [rows, shown.min(16)], keep, part),
                    _ => block::<N, 8>(c, row_stride, [rows, shown.min(8)], keep, part),
                };
            }
        },
    );
}

/// All rows of up to K columns; returns K.
#[inline(always)]
fn block<N: Number, const K: usize>(
    c: &mut [N],
    row_stride: usize,
    [rows, columns]: [usize; 2],
    keep: bool,
    product: Product<'_, N>,
) -> usize {
    let mut row = 0;
    while row < rows {
        let c = &mut c[row * row_stride..];
        let part = Product { a: &product.a[row * product.a_strides[1]..], ..product };
        row += match rows - row {
            8.. => tile::<N, 8, K>(c, row_stride, columns, keep, part),
            4.. => tile::<N, 4, K>(c, row_stride, columns, keep, part),
            2.. => tile::<N, 2, K>(c, row_stride, columns, keep, part),
            _ => tile::<N, 1, K>(c, row_stride, columns, keep, part),
        };
    }
    K
}

/// T rows of up to K columns; returns T.
#[inline(always)]
fn tile<N: Number, const T: usize, const K: usize>(
    c: &mut [N],
    row_stride: usize,
    columns: usize,
    keep: bool,
    product: Product<'_, N>,
) -> usize {
    let mut sums = [[N::ZERO; K]; T];
    let [a_segment, a_row, a_depth] = product.a_strides;
    let [b_segment, b_depth] = product.b_strides;
    for segment in 0..product.segments {
        for depth in 0..product.depth {
            // SAFETY: `multiply` checked the last number of a (of the last row) and of b (of the last block of LANES
            // columns); blocks of K columns are entered only where K of them, rounded up to LANES, remain.
            unsafe {
                let b = product.b.as_ptr().add(segment * b_segment + depth * b_depth).cast::<[N; K]>();
                let b = b.read_unaligned();
                let a = product.a.as_ptr().add(segment * a_segment + depth * a_depth);
                for (t, sums) in sums.iter_mut().enumerate() {
                    let a = *a.add(t * a_row);
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = a.mul_add(b, *sum);
                    }
                }
            }
        }
    }
    // A copy for the stores, which know their length only now: the sums themselves never leave their registers.
    let mut done = [[N::ZERO; K]; T];
    for (done, sums) in done.iter_mut().zip(&sums) {
        for (done, sum) in done.iter_mut().zip(sums) {
            *done = *sum;
        }
    }
    store(c, row_stride, columns, keep, &done);
    T
}

/// Rows of sums into c.
#[inline(never)]
fn store<N: Number, const K: usize>(c: &mut [N], row_stride: usize, columns: usize, keep: bool, sums: &[[N; K]]) {
    for (row, sums) in sums.iter().enumerate() {
        let c = &mut c[row * row_stride..][..columns];
        if keep {
            c.iter_mut().zip(sums).for_each(|(c, &sum)| *c += sum);
        } else {
            c.copy_from_slice(&sums[..columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// Against plain loops with the same chain of fused multiply-adds: equal to the bit.
    #[test]
    fn every_tile_equals_plain_loops() {
        let mut rng = Rng::new(1, 0, 0);
        for (rows, columns, depth) in [(1, 1, 1), (3, 5, 4), (8, 8, 7), (15, 33, 3), (23, 47, 9), (2, 70, 2)] {
            for keep in [false, true] {
                let segments = 1 + rng.below(3);
                let row_stride = columns + rng.below(3);
                let (a_strides, b_strides) = ([depth * rows + 1, 2, 3], [depth * columns + 2, columns]);
                let a_len = segments * a_strides[0] + rows * 2 + depth * 3;
                let a: Vec<f32> = (0..a_len).map(|_| rng.normal() as f32).collect();
                let b: Vec<f32> =
                    (0..segments * b_strides[0] + depth * columns + LANES).map(|_| rng.normal() as f32).collect();
                let mut c: Vec<f32> = (0..rows * row_stride).map(|_| rng.normal() as f32).collect();
                let mut wanted = c.clone();
                for t in 0..rows {
                    for k in 0..columns {
                        let mut sum = 0.0f32;
                        for s in 0..segments {
                            for d in 0..depth {
                                let a = a[s * a_strides[0] + t * a_strides[1] + d * a_strides[2]];
                                sum = a.mul_add(b[s * b_strides[0] + d * b_strides[1] + k], sum);
                            }
                        }
                        let before = if keep { wanted[t * row_stride + k] } else { 0.0 };
                        wanted[t * row_stride + k] = before + sum;
                    }
                }
                multiply(
                    &mut c,
                    row_stride,
                    [rows, columns],
                    keep,
                    Product { a: &a, a_strides, b: &b, b_strides, segments, depth },
                );
                assert_eq!(c, wanted, "{rows} x {columns}, depth {segments} x {depth}, keep {keep}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "b is too short")]
    fn operands_that_end_early_are_refused() {
        let product =
            Product { a: &[1.0f32; 4], a_strides: [0, 1, 1], b: &[1.0; 8], b_strides: [0, 1], segments: 1, depth: 2 };
        multiply(&mut [0.0; 4], 2, [2, 2], false, product);
    }
}
