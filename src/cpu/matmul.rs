//! Matrix products on the CPU: strided views of slices, cut into tiles, each tile computed by the `gemm` crate on one
//! thread. Each element is a chain of fused multiply-adds along the inner extent, cut
//! every 512 terms and where the shapes say so: the result is the same to the bit for any tiles and so for any
//! number of threads, and on any processor that has fused multiply-adds, whatever its vectors and caches.
#![allow(unsafe_code)] // `gemm` takes pointers, and tiles of one matrix interleave in memory, which no slice can say.

use rayon::prelude::*;

use crate::base::Number;

/// Rows and columns of a tile of the result, at most: each tile packs its operands anew.
const TILE: usize = 512;
/// Tiles are not halved below this.
const SMALL_TILE: usize = 64;
/// Tiles for each thread, if the result is large enough.
const TILES: usize = 3;
/// Where fewer tiles than this can be made, a product is cut along its inner extent, too.
const PIECES: usize = 16;
/// Least inner extent of a piece when the inner extent is cut, too.
const DEPTH: usize = 1024;

/// Terms of a sum that `gemm` is given at a time. It cuts longer sums by the sizes of the processor's caches, shorter
/// ones never.
const CHAIN: usize = 512;

/// Elements of a result that `gemm` takes for small, at most.
const FEW: usize = 256;

/// A matrix to be read: the element (r, c) is number `r * row_stride + c * col_stride` of a slice. Rows may overlap.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, N> {
    numbers: &'a [N],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, N> Matrix<'a, N> {
    /// A matrix stored row by row without gaps.
    pub fn new(numbers: &'a [N], rows: usize, cols: usize) -> Self {
        Self::strided(numbers, [rows, cols], [cols, 1])
    }

    /// A matrix of `[rows, cols]` with any `[row_stride, col_stride]`. Panics if it does not fit the slice.
    pub fn strided(numbers: &'a [N], [rows, cols]: [usize; 2], [row_stride, col_stride]: [usize; 2]) -> Self {
        assert_fits(numbers.len(), [rows, cols], [row_stride, col_stride]);
        Self { numbers, rows, cols, row_stride, col_stride }
    }

    /// Rows and columns exchanged; nothing moves.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            numbers: self.numbers,
        }
    }

    /// The elements, row by row without gaps.
    pub fn gathered(self) -> Vec<N>
    where
        N: Number,
    {
        if (self.row_stride, self.col_stride) == (self.cols, 1) {
            return self.numbers[..self.rows * self.cols].to_vec();
        }
        let mut numbers = vec![N::ZERO; self.rows * self.cols];
        // Where columns are what lies together in memory, many rows are gathered at once.
        numbers.par_chunks_mut(64 * self.cols.max(1)).enumerate().for_each(|(block, to)| {
            let from = &self.numbers[block * 64 * self.row_stride..];
            for col in 0..self.cols {
                let from = from[col * self.col_stride..].iter().step_by(self.row_stride.max(1));
                to[col..].iter_mut().step_by(self.cols).zip(from).for_each(|(to, &number)| *to = number);
            }
        });
        numbers
    }

    /// The `rows` x `cols` elements from (`row`, `col`) on.
    fn part(self, [row, col]: [usize; 2], [rows, cols]: [usize; 2]) -> Self {
        let start = row * self.row_stride + col * self.col_stride;
        let numbers = &self.numbers[start.min(self.numbers.len())..];
        Self::strided(numbers, [rows, cols], [self.row_stride, self.col_stride])
    }
}

/// A matrix to be written, stored row by row, perhaps with gaps between the rows.
#[derive(Debug)]
pub struct MatrixMut<'a, N> {
    numbers: &'a mut [N],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, N> MatrixMut<'a, N> {
    /// A matrix stored row by row without gaps.
    pub fn new(numbers: &'a mut [N], rows: usize, cols: usize) -> Self {
        Self::strided(numbers, [rows, cols], cols)
    }

    /// A matrix of `[rows, cols]` whose rows start `row_stride` apart. Panics if it does not fit the slice or rows
    /// overlap.
    pub fn strided(numbers: &'a mut [N], [rows, cols]: [usize; 2], row_stride: usize) -> Self {
        assert!(row_stride >= cols, "rows of {cols} numbers that start {row_stride} apart overlap");
        assert_fits(numbers.len(), [rows, cols], [row_stride, 1]);
        Self { numbers, rows, cols, row_stride }
    }
}

fn assert_fits(numbers: usize, [rows, cols]: [usize; 2], [row_stride, col_stride]: [usize; 2]) {
    let last = || (rows - 1).checked_mul(row_stride)?.checked_add((cols - 1).checked_mul(col_stride)?);
    let fits = rows == 0 || cols == 0 || last().is_some_and(|last| last < numbers);
    assert!(fits, "a {rows} x {cols} matrix of strides {row_stride}, {col_stride} exceeds {numbers} numbers");
}

/// c = keep · c + scale · a · b on the calling thread. With `keep` = 0 the numbers in `c` are not read.
pub fn multiply<N: Number>(c: MatrixMut<'_, N>, keep: N, scale: N, a: Matrix<'_, N>, b: Matrix<'_, N>) {
    assert_chain(&c, &a, &b);
    // SAFETY: `MatrixMut` holds exclusive access to a slice in which all elements of c lie.
    unsafe { product(c.numbers.as_mut_ptr(), c.row_stride, keep, scale, a, b) }
}

/// As [`multiply`], on the threads of the pool that the caller runs in.
pub fn multiply_parallel<N: Number>(c: MatrixMut<'_, N>, keep: N, scale: N, a: Matrix<'_, N>, b: Matrix<'_, N>) {
    assert_chain(&c, &a, &b);
    let (rows, cols, depth) = (c.rows, c.cols, a.cols);
    // By the shapes alone, for it says which sums are chains.
    let tiles = tiles_of(rows, cols, tile_of(rows, cols, PIECES));
    let cuts = if tiles == 0 { 1 } else { PIECES.div_ceil(tiles).min(depth / DEPTH).max(1) };
    let tile = tile_of(rows, cols, TILES * rayon::current_num_threads() / cuts);
    if cuts == 1 {
        return tiled(c, tile, keep, scale, a, b);
    }
    let part = depth.div_ceil(cuts);
    let mut partials = vec![N::ZERO; cuts * rows * cols];
    partials.par_chunks_mut(rows * cols).enumerate().for_each(|(cut, partial)| {
        let (from, to) = ((cut * part).min(depth), ((cut + 1) * part).min(depth));
        let (a, b) = (a.part([0, from], [rows, to - from]), b.part([from, 0], [to - from, cols]));
        tiled(MatrixMut::new(partial, rows, cols), tile, N::ZERO, scale, a, b);
    });
    for row in 0..rows {
        let target = &mut c.numbers[row * c.row_stride..][..cols];
        for (col, target) in target.iter_mut().enumerate() {
            let sum: N = partials[row * cols + col..].iter().step_by(rows * cols).copied().sum();
            *target = if keep == N::ZERO { sum } else { keep * *target + sum };
        }
    }
}

/// Extents of the tiles of a result: halved as long as there are fewer than `wanted`.
fn tile_of(rows: usize, cols: usize, wanted: usize) -> [usize; 2] {
    let mut tile = [TILE, TILE];
    while tiles_of(rows, cols, tile) < wanted {
        let covered = [tile[0].min(rows), tile[1].min(cols)];
        let longer = usize::from(covered[1] > covered[0]);
        if covered[longer] <= SMALL_TILE {
            break;
        }
        tile[longer] /= 2;
    }
    tile
}

fn tiles_of(rows: usize, cols: usize, tile: [usize; 2]) -> usize {
    tiles_along(rows, tile[0]) * tiles_along(cols, tile[1])
}

/// Tiles along one side. A single row or column is summed in another way (see [`product`]), so none is left over: the
/// last tile takes it.
fn tiles_along(extent: usize, tile: usize) -> usize {
    if extent > 1 { (extent - 1).div_ceil(tile) } else { extent }
}

fn tiled<N: Number>(c: MatrixMut<'_, N>, tile: [usize; 2], keep: N, scale: N, a: Matrix<'_, N>, b: Matrix<'_, N>) {
    let start = Start(c.numbers.as_mut_ptr());
    let [down, across] = [tiles_along(c.rows, tile[0]), tiles_along(c.cols, tile[1])];
    (0..down * across).into_par_iter().for_each(|at| {
        let (row, col) = (at / across * tile[0], at % across * tile[1]);
        let rows = if at / across + 1 == down { c.rows - row } else { tile[0] };
        let cols = if at % across + 1 == across { c.cols - col } else { tile[1] };
        let (a, b) = (a.part([row, 0], [rows, a.cols]), b.part([0, col], [b.rows, cols]));
        // SAFETY: the tile lies inside c, to which this function has exclusive access, and tiles are disjoint since
        // rows do not overlap.
        unsafe { product(start.offset(row * c.row_stride + col), c.row_stride, keep, scale, a, b) }
    });
}

/// Where a matrix starts that several threads write, each its own elements.
struct Start<N>(*mut N);

// SAFETY: it is a pointer and nothing else; whoever writes through it says why that is sound.
unsafe impl<N: Send> Sync for Start<N> {}

impl<N> Start<N> {
    fn offset(&self, numbers: usize) -> *mut N {
        self.0.wrapping_add(numbers)
    }
}

fn assert_chain<N>(c: &MatrixMut<'_, N>, a: &Matrix<'_, N>, b: &Matrix<'_, N>) {
    let fits = a.rows == c.rows && b.cols == c.cols && a.cols == b.rows;
    assert!(fits, "[{}, {}] is no product of [{}, {}] and [{}, {}]", c.rows, c.cols, a.rows, a.cols, b.rows, b.cols);
}

/// SAFETY: the rows of as many elements as `b` has columns that start at `c` and every `row_stride` numbers behind,
/// as many as `a` has rows, must be valid for reads and writes and belong to the caller alone.
unsafe fn product<N: Number>(c: *mut N, row_stride: usize, keep: N, scale: N, a: Matrix<'_, N>, b: Matrix<'_, N>) {
    // Where both run along the inner extent, `gemm` sums single rows, single columns and small results by vectors of the
    // processor's width.
    let along = a.col_stride == 1 && b.row_stride == 1;
    let few = a.rows == 1 || b.cols == 1 || a.rows * b.cols <= FEW;
    let mut turned = Vec::new();
    let col_stride = a.rows.max(2);
    for depth in (0..a.cols.max(1)).step_by(CHAIN) {
        let terms = CHAIN.min(a.cols - depth);
        let (a, b) = (a.part([0, depth], [a.rows, terms]), b.part([depth, 0], [terms, b.cols]));
        let a = if along && few {
            turned.clear();
            turned.resize(terms * col_stride, N::ZERO);
            for (row, numbers) in (0..a.rows).map(|row| (row, &a.numbers[row * a.row_stride..][..terms])) {
                turned[row..].iter_mut().step_by(col_stride).zip(numbers).for_each(|(to, from)| *to = *from);
            }
            Matrix::strided(&turned, [a.rows, terms], [1, col_stride])
        } else {
            a
        };
        let keep = if depth == 0 { keep } else { N::ONE };
        // SAFETY: the constructors of `Matrix` checked that all elements of a and b lie in their slices; the caller
        // vouches for c. Strides are below the length of a slice, hence fit an isize, or are of extents of one.
        unsafe {
            gemm::gemm(
                a.rows,
                b.cols,
                terms,
                c,
                1,
                row_stride as isize,
                keep != N::ZERO,
                a.numbers.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.numbers.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                keep,
                scale,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the chains that the module promises, added to c at their end or starting with it: equal to the bit, on
    /// whatever processor the test runs.
    #[test]
    fn sums_are_chains_of_fused_multiply_adds_on_every_processor() {
        let mut state = 7u32;
        let mut numbers = |count: usize| -> Vec<f32> {
            let mut number = || {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(|_| number()).collect()
        };
        let shapes =
            [[1, 1, 3], [1, 70, 700], [70, 1, 700], [3, 5, 513], [65, 33, 1024], [97, 130, 1300], [200, 3, 40]];
        for [rows, cols, depth] in shapes {
            let (a, b, before) = (numbers(rows * depth), numbers(depth * cols), numbers(rows * cols));
            for case in 0..8 {
                // As they are, or stored column by column.
                let [row_a, k_a] = if case & 1 == 0 { [depth, 1] } else { [1, rows] };
                let [k_b, col_b] = if case & 2 == 0 { [cols, 1] } else { [1, depth] };
                let keep = if case & 4 == 0 { 0.0 } else { 1.0 };
                let mut c = before.clone();
                let a_view = Matrix::strided(&a, [rows, depth], [row_a, k_a]);
                let b_view = Matrix::strided(&b, [depth, cols], [k_b, col_b]);
                multiply(MatrixMut::new(&mut c, rows, cols), keep, 1.0, a_view, b_view);
                for (at, &got) in c.iter().enumerate() {
                    let (row, col) = (at / cols, at % cols);
                    let chain = |terms: std::ops::Range<usize>, start: f32| {
                        terms.fold(start, |sum, k| a[row * row_a + k * k_a].mul_add(b[k * k_b + col * col_b], sum))
                    };
                    let pieces = (0..depth).step_by(CHAIN).map(|from| chain(from..(from + CHAIN).min(depth), 0.0));
                    let added = pieces.fold(keep * before[at], |sum, piece| sum + piece);
                    let through = chain(0..depth, keep * before[at]);
                    assert!(
                        [added, through].map(f32::to_bits).contains(&got.to_bits()),
                        "[{row}, {col}] of {rows} x {cols} x {depth}, case {case}: {got}, not {added} or {through}"
                    );
                }
            }
        }
    }
}
