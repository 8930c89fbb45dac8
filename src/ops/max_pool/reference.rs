//! The definition of [`MaxPool`](super::MaxPool).

use super::{MaxPool, Pass};
use crate::base::Number;
use crate::program::HostIo;

/// Window by window.
pub fn run<N: Number>(op: &MaxPool, io: &mut HostIo<'_, N>) {
    let out = io.take(0);
    let (x_at, [batch, rows, cols, channels]): (usize, [usize; 4]) = match op.pass {
        Pass::Fwd => (0, io.output_dims(0)),
        Pass::Bwd => (1, io.dims(0)),
    };
    let ([_, height, width, _], x) = (io.dims::<4>(x_at), io.numbers(x_at));
    if op.pass == Pass::Bwd {
        out.fill(N::ZERO);
    }
    for at in 0..batch * rows * cols * channels {
        let (channel, col) = (at % channels, at / channels % cols);
        let (row, image) = (at / channels / cols % rows, at / channels / cols / rows);
        let mut best: Option<usize> = None;
        for y in op.span(row, height) {
            for z in op.span(col, width) {
                let candidate = ((image * height + y) * width + z) * channels + channel;
                // As torch: the first of several maxima; NaN wins over any number.
                if best.is_none_or(|best| x[candidate] > x[best] || x[candidate].to_f64().is_nan()) {
                    best = Some(candidate);
                }
            }
        }
        let best = best.expect("a window holds at least a pixel: padding is at most half of it");
        match op.pass {
            Pass::Fwd => out[at] = x[best],
            Pass::Bwd => out[best] += io.numbers(0)[at],
        }
    }
}
