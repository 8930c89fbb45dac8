//! The definition of [`Attention`](super::Attention).

use crate::base::Number;
use crate::program::HostIo;

/// Every query with its keys: `(query, first key, end of the keys)`, as rows.
fn queries(offsets: &[i32], lengths: &[i32]) -> impl Iterator<Item = (usize, usize, usize)> {
    offsets.windows(2).zip(lengths).flat_map(|(pair, &length)| {
        let first = pair[0] as usize;
        (first..pair[1] as usize).map(move |query| (query, first, first + length as usize))
    })
}

/// Scaled product of a query and a key of one head.
fn logit<N: Number>(q: &[N], k: &[N]) -> N {
    q.iter().zip(k).map(|(&q, &k)| q * k).sum::<N>() / N::count(q.len()).sqrt()
}

/// context = softmax(q · kᵀ / √D) · v.
pub fn fwd<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [_, features] = io.dims(0);
    let (q, k, v, offsets, lengths) = (io.numbers(0), io.numbers(1), io.numbers(2), io.indices(3), io.indices(4));
    let (context, lse) = (io.take(0), io.take(1));
    let depth = features / heads;
    for (query, first, end) in queries(offsets, lengths) {
        for head in 0..heads {
            let at = |row: usize| row * features + head * depth..row * features + (head + 1) * depth;
            let logits: Vec<N> = (first..end).map(|key| logit(&q[at(query)], &k[at(key)])).collect();
            let highest = logits.iter().fold(N::LOWEST, |highest, &logit| highest.max(logit));
            let sum = logits.iter().map(|&logit| (logit - highest).exp()).sum::<N>();
            lse[query * heads + head] = highest + sum.ln();
            let context = &mut context[at(query)];
            context.fill(N::ZERO);
            for (key, &logit) in (first..end).zip(&logits) {
                let p = (logit - highest).exp() / sum;
                context.iter_mut().zip(&v[at(key)]).for_each(|(context, &v)| *context += p * v);
            }
        }
    }
}

/// dq, dk and dv, from the attention computed anew.
pub fn bwd<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [_, features] = io.dims(0);
    let [d_context, q, k, v, context, lse] = [0, 1, 2, 3, 4, 5].map(|input| io.numbers(input));
    let (offsets, lengths, real) = (io.indices(6), io.indices(7), io.extent(6) * features);
    let [dq, dk, dv] = [0, 1, 2].map(|output| io.take(output));
    for gradient in [&mut *dq, &mut *dk, &mut *dv] {
        gradient[..real].fill(N::ZERO);
    }
    let depth = features / heads;
    for (query, first, end) in queries(offsets, lengths) {
        for head in 0..heads {
            let at = |row: usize| row * features + head * depth..row * features + (head + 1) * depth;
            let dot = |a: &[N], b: &[N]| a.iter().zip(b).map(|(&a, &b)| a * b).sum::<N>();
            let (q, d_context) = (&q[at(query)], &d_context[at(query)]);
            let delta = dot(d_context, &context[at(query)]);
            for key in first..end {
                let p = (logit(q, &k[at(key)]) - lse[query * heads + head]).exp();
                let ds = p * (dot(d_context, &v[at(key)]) - delta) / N::count(depth).sqrt();
                dq[at(query)].iter_mut().zip(&k[at(key)]).for_each(|(dq, &k)| *dq += ds * k);
                dk[at(key)].iter_mut().zip(q).for_each(|(dk, &q)| *dk += ds * q);
                dv[at(key)].iter_mut().zip(d_context).for_each(|(dv, &d)| *dv += p * d);
            }
        }
    }
}
