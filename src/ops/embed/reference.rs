//! The definition of [`Embed`](super::Embed).

use crate::base::Number;
use crate::program::HostIo;

/// Id and position of every real row.
fn tokens(ids: &[i32], offsets: &[i32]) -> impl Iterator<Item = (usize, usize)> {
    offsets.windows(2).flat_map(move |pair| {
        let (first, end) = (pair[0] as usize, pair[1] as usize);
        (first..end).map(move |row| (ids[row] as usize, row - first))
    })
}

/// x = word\[id\] + position\[row - offset\] + token_type\[0\].
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, hidden] = io.dims(0);
    let (word, position, token_type) = (io.numbers(0), io.numbers(1), io.numbers(2));
    let (ids, offsets, x) = (io.indices(3), io.indices(5), io.take(0));
    for (x, (id, at)) in x.chunks_exact_mut(hidden).zip(tokens(ids, offsets)) {
        for (c, x) in x.iter_mut().enumerate() {
            *x = word[id * hidden + c] + position[at * hidden + c] + token_type[c];
        }
    }
}

/// Every real row adds its gradient to its word (but for the padding token), its position and token type 0.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, hidden] = io.dims(0);
    let (dx, ids, offsets) = (io.numbers(0), io.indices(1), io.indices(3));
    let (word, position, token_type) = (io.take(0), io.take(1), io.take(2));
    word.fill(N::ZERO);
    position.fill(N::ZERO);
    token_type.fill(N::ZERO);
    for (dx, (id, at)) in dx.chunks_exact(hidden).zip(tokens(ids, offsets)) {
        for (c, &dx) in dx.iter().enumerate() {
            if id != 0 {
                word[id * hidden + c] += dx;
            }
            position[at * hidden + c] += dx;
            token_type[c] += dx;
        }
    }
}
