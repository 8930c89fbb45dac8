//! The gradient of [`Embed`](super::Embed), every row of a table on its own: words by way of the sorted order.

use rayon::prelude::*;

use crate::base::Number;
use crate::program::HostIo;

/// Rows of the word table that are one piece of work.
const BLOCK: usize = 256;

/// Each sum runs over the packed rows in their order, as in the reference.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, hidden] = io.dims(0);
    let (dx, ids, offsets) = (io.numbers(0), io.indices(1), io.indices(3));
    let order = &io.indices(2)[..io.extent(3)];
    let (word, position, token_type) = (io.take(0), io.take(1), io.take(2));
    let add = |sum: &mut [N], row: usize| {
        sum.iter_mut().zip(&dx[row * hidden..][..hidden]).for_each(|(sum, &dx)| *sum += dx);
    };
    let id = |row: i32| ids[row as usize] as usize;
    word.par_chunks_mut(BLOCK * hidden).enumerate().for_each(|(block, word)| {
        word.fill(N::ZERO);
        let first = block * BLOCK;
        // Row 0 is the padding token's and stays zero.
        let start = order.partition_point(|&row| id(row) < first.max(1));
        for &row in order[start..].iter().take_while(|&&row| id(row) < first + BLOCK) {
            add(&mut word[(id(row) - first) * hidden..][..hidden], row as usize);
        }
    });
    position.par_chunks_mut(hidden).enumerate().for_each(|(at, position)| {
        position.fill(N::ZERO);
        for pair in offsets.windows(2).filter(|pair| pair[0] as usize + at < pair[1] as usize) {
            add(position, pair[0] as usize + at);
        }
    });
    // Sums of blocks, merged in order: a single sum over all rows would round more.
    let real = dx[..order.len() * hidden].par_chunks(BLOCK * hidden);
    let partials: Vec<Vec<N>> = real
        .map(|dx| {
            let mut sums = vec![N::ZERO; hidden];
            for dx in dx.chunks_exact(hidden) {
                sums.iter_mut().zip(dx).for_each(|(sum, &dx)| *sum += dx);
            }
            sums
        })
        .collect();
    token_type.fill(N::ZERO);
    for partial in partials {
        token_type.iter_mut().zip(partial).for_each(|(sum, more)| *sum += more);
    }
}
