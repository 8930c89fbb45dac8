//! The definition of [`AttentionPool`](super::AttentionPool).

use crate::base::Number;
use crate::program::HostIo;

/// Mean of the cells, then the cells; plus the positional embedding.
pub fn tokens<N: Number>(io: &mut HostIo<'_, N>) {
    let [batch, tokens, features] = io.output_dims(0);
    let (x, positional, out) = (io.numbers(0), io.numbers(1), io.take(0));
    let cells = tokens - 1;
    for b in 0..batch {
        for d in 0..features {
            let mut sum = N::ZERO;
            for cell in 0..cells {
                let value = x[(b * cells + cell) * features + d];
                sum += value;
                out[(b * tokens + 1 + cell) * features + d] = value + positional[(1 + cell) * features + d];
            }
            out[b * tokens * features + d] = sum / N::count(cells) + positional[d];
        }
    }
}

/// A cell's gradient is its token's plus its share of the mean token's.
pub fn tokens_bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [batch, tokens, features] = io.dims(0);
    let (dt, dx, dpositional) = (io.numbers(0), io.take(0), io.take(1));
    let cells = tokens - 1;
    for token in 0..tokens {
        for d in 0..features {
            let mut sum = N::ZERO;
            for b in 0..batch {
                let gradient = dt[(b * tokens + token) * features + d];
                sum += gradient;
                if token > 0 {
                    let mean = dt[b * tokens * features + d];
                    dx[(b * cells + token - 1) * features + d] = gradient + mean / N::count(cells);
                }
            }
            dpositional[token * features + d] = sum;
        }
    }
}

/// Softmax of token 0's query against all keys; the values weighted by it.
pub fn attend<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [batch, tokens, wide] = io.dims(0);
    let (qkv, context, map, own) = (io.numbers(0), io.take(0), io.take(1), io.take(2));
    let (inner, cells) = (wide / 3, tokens - 1);
    let size = inner / heads;
    let scale = N::count(size).sqrt();
    for b in 0..batch {
        for head in 0..heads {
            let at = |token: usize, part: usize, d: usize| {
                qkv[(b * tokens + token) * wide + part * inner + head * size + d]
            };
            let mut share = Vec::with_capacity(tokens);
            for token in 0..tokens {
                let mut dot = N::ZERO;
                for d in 0..size {
                    dot += at(0, 0, d) * at(token, 1, d);
                }
                share.push(dot / scale);
            }
            softmax(&mut share);
            for d in 0..size {
                let mut sum = N::ZERO;
                for (token, &share) in share.iter().enumerate() {
                    sum += share * at(token, 2, d);
                }
                context[b * inner + head * size + d] = sum;
            }
            own[b * heads + head] = share[0];
            map[(b * heads + head) * cells..][..cells].copy_from_slice(&share[1..]);
        }
    }
}

fn softmax<N: Number>(values: &mut [N]) {
    let mut highest = N::LOWEST;
    for &value in values.iter() {
        highest = highest.max(value);
    }
    let mut sum = N::ZERO;
    for value in values.iter_mut() {
        *value = (*value - highest).exp();
        sum += *value;
    }
    for value in values.iter_mut() {
        *value /= sum;
    }
}

/// With p the shares: dvᵢ = pᵢ · dc, dpᵢ = dc · vᵢ, dsᵢ = pᵢ (dpᵢ − Σ p dp) / √size, dq₀ = Σ dsᵢ kᵢ, dkᵢ = dsᵢ q₀.
pub fn attend_bwd<N: Number>(heads: usize, io: &mut HostIo<'_, N>) {
    let [batch, tokens, wide] = io.dims(1);
    let (d_context, qkv, map, own) = (io.numbers(0), io.numbers(1), io.numbers(2), io.numbers(3));
    let d_qkv = io.take(0);
    let (inner, cells) = (wide / 3, tokens - 1);
    let size = inner / heads;
    let scale = N::count(size).sqrt();
    d_qkv.fill(N::ZERO);
    for b in 0..batch {
        for head in 0..heads {
            let at = |token: usize, part: usize, d: usize| {
                (b * tokens + token) * wide + part * inner + head * size + d
            };
            let dc = &d_context[b * inner + head * size..][..size];
            let share = |token: usize| match token {
                0 => own[b * heads + head],
                _ => map[(b * heads + head) * cells + token - 1],
            };
            let mut d_share = vec![N::ZERO; tokens];
            let mut mean = N::ZERO;
            for (token, d_share) in d_share.iter_mut().enumerate() {
                for (d, &dc) in dc.iter().enumerate() {
                    *d_share += dc * qkv[at(token, 2, d)];
                    d_qkv[at(token, 2, d)] = share(token) * dc;
                }
                mean += share(token) * *d_share;
            }
            for (token, &d_share) in d_share.iter().enumerate() {
                let d_score = share(token) * (d_share - mean) / scale;
                for d in 0..size {
                    d_qkv[at(0, 0, d)] += d_score * qkv[at(token, 1, d)];
                    d_qkv[at(token, 1, d)] = d_score * qkv[at(0, 0, d)];
                }
            }
        }
    }
}
