//! [`Attention`](super::Attention) sequence by sequence and head by head in parallel, with matrix products.

use rayon::prelude::*;

use crate::base::Number;
use crate::cpu::matmul::{Matrix, MatrixMut, multiply};
use crate::program::HostIo;

/// Extents of a launch, and which rows belong together.
#[derive(Clone, Copy)]
struct Layout<'a> {
    heads: usize,
    features: usize,
    offsets: &'a [i32],
    lengths: &'a [i32],
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    layout: Layout<'a>,
    first: usize,
    queries: usize,
    keys: usize,
    head: usize,
}

impl<'a> Layout<'a> {
    /// Runs `of` for every head of every sequence; it gives one block [rows of the sequence, width / heads] for each
    /// of `outputs`, which are [rows, width], and those blocks are put into their columns.
    fn each_head<N: Number, const OUTPUTS: usize>(
        self,
        outputs: [(&mut [N], usize); OUTPUTS],
        of: impl Fn(Head<'a>) -> [Vec<N>; OUTPUTS] + Sync,
    ) {
        let widths = outputs.each_ref().map(|&(_, width)| width);
        let mut rest = outputs.map(|(output, _)| output);
        let mut sequences = Vec::new();
        for (pair, &keys) in self.offsets.windows(2).zip(self.lengths) {
            let [first, queries, keys] = [pair[0], pair[1] - pair[0], keys].map(|count| count as usize);
            let mut width = widths.iter();
            let rows = rest.each_mut().map(|rest| {
                rest.split_off_mut(..queries * width.next().unwrap_or(&0)).expect("offsets stay within the capacity")
            });
            sequences.push((Head { layout: self, first, queries, keys, head: 0 }, rows));
        }
        sequences.into_par_iter().for_each(|(sequence, mut rows)| {
            let blocks: Vec<[Vec<N>; OUTPUTS]> =
                (0..self.heads).into_par_iter().map(|head| of(Head { head, ..sequence })).collect();
            for (head, blocks) in blocks.iter().enumerate() {
                for ((rows, block), width) in rows.iter_mut().zip(blocks).zip(widths) {
                    let part = width / self.heads;
                    for (row, block) in rows.chunks_exact_mut(width).zip(block.chunks_exact(part)) {
                        row[head * part..][..part].copy_from_slice(block);
                    }
                }
            }
        });
    }
}

impl Head<'_> {
    fn depth(&self) -> usize {
        self.layout.features / self.layout.heads
    }

    fn matrix<'n, N>(&self, numbers: &'n [N], rows: usize) -> Matrix<'n, N> {
        let start = self.first * self.layout.features + self.head * self.depth();
        Matrix::strided(&numbers[start..], [rows, self.depth()], [self.layout.features, 1])
    }

    fn queries<'n, N>(&self, numbers: &'n [N]) -> Matrix<'n, N> {
        self.matrix(numbers, self.queries)
    }

    fn keys<'n, N>(&self, numbers: &'n [N]) -> Matrix<'n, N> {
        self.matrix(numbers, self.keys)
    }

    /// scale · a · b as [rows, cols].
    fn product<N: Number>([rows, cols]: [usize; 2], scale: N, a: Matrix<'_, N>, b: Matrix<'_, N>) -> Vec<N> {
        let mut c = vec![N::ZERO; rows * cols];
        multiply(MatrixMut::new(&mut c, rows, cols), N::ZERO, scale, a, b);
        c
    }

    /// 1 / √D.
    fn scale<N: Number>(&self) -> N {
        N::of(1.0 / (self.depth() as f64).sqrt())
    }

    /// q · kᵀ / √D.
    fn logits<N: Number>(&self, q: &[N], k: &[N]) -> Vec<N> {
        Self::product([self.queries, self.keys], self.scale(), self.queries(q), self.keys(k).transposed())
    }
}

/// context = softmax(q · kᵀ / √D) · v.
pub fn fwd<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [_, features] = io.dims(0);
    let layout = Layout { heads, features, offsets: io.indices(3), lengths: io.indices(4) };
    let (q, k, v) = (io.numbers(0), io.numbers(1), io.numbers(2));
    let (context, lse) = (io.take(0), io.take(1));
    layout.each_head([(context, features), (lse, heads)], |head| {
        let mut p = head.logits(q, k);
        let normalise = |p: &mut [N]| {
            let highest = p.iter().fold(N::LOWEST, |highest, &logit| highest.max(logit));
            p.iter_mut().for_each(|p| *p = (*p - highest).exp());
            let sum = p.iter().copied().sum::<N>();
            p.iter_mut().for_each(|p| *p /= sum);
            highest + sum.ln()
        };
        let lse: Vec<N> = p.chunks_exact_mut(head.keys).map(normalise).collect();
        let p = Matrix::new(&p, head.queries, head.keys);
        [Head::product([head.queries, head.depth()], N::ONE, p, head.keys(v)), lse]
    });
}

/// dq, dk and dv, from the attention computed anew.
pub fn bwd<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [_, features] = io.dims(0);
    let layout = Layout { heads, features, offsets: io.indices(6), lengths: io.indices(7) };
    let [d_context, q, k, v, context, lse] = [0, 1, 2, 3, 4, 5].map(|input| io.numbers(input));
    let outputs = [0, 1, 2].map(|output| (io.take(output), features));
    layout.each_head(outputs, |head| {
        let (queries, keys, depth) = (head.queries, head.keys, head.depth());
        let mut p = head.logits(q, k);
        let mut ds = Head::product([queries, keys], N::ONE, head.queries(d_context), head.keys(v).transposed());
        for (query, (p, ds)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).enumerate() {
            let (row, at) = (head.first + query, (head.first + query) * features + head.head * depth);
            let terms = d_context[at..at + depth].iter().zip(&context[at..]).map(|(d, c)| d.to_f64() * c.to_f64());
            let delta = N::of(terms.sum());
            let lse = lse[row * heads + head.head].to_f64();
            for (p, ds) in p.iter_mut().zip(ds) {
                // Rounding this difference would be the largest error of all.
                *p = N::of((p.to_f64() - lse).exp());
                *ds = *p * (*ds - delta);
            }
        }
        let (p, ds) = (Matrix::new(&p, queries, keys), Matrix::new(&ds, queries, keys));
        let dq = Head::product([queries, depth], head.scale(), ds, head.keys(k));
        let mut dk = Head::product([keys, depth], head.scale(), ds.transposed(), head.queries(q));
        let mut dv = Head::product([keys, depth], N::ONE, p.transposed(), head.queries(d_context));
        // Rows that are no keys have no gradient there.
        dk.resize(queries * depth, N::ZERO);
        dv.resize(queries * depth, N::ZERO);
        [dq, dk, dv]
    });
}
