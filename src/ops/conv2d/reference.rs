//! The definition of [`Conv2d`](super::Conv2d).

use super::geometry::Geometry;
use super::{Conv2d, Pass};
use crate::base::Number;
use crate::program::HostIo;

/// Where an element of the convolved image comes from.
enum Element {
    X(usize),
    Skip(usize),
}

/// One multiplication: the output, the element of the image, the weight.
struct Term {
    output: usize,
    element: Element,
    weight: usize,
}

/// Each pass is a sum over the same products of three.
pub fn run<N: Number>(op: &Conv2d, io: &mut HostIo<'_, N>) {
    let geometry = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    match op.pass {
        Pass::Fwd => forward(op, &geometry, io),
        Pass::Dgrad { .. } => {
            let (d_x, d_skip) = (io.take(0), if op.has_skip() { io.take(1) } else { &mut [] });
            let (dy, weight) = (io.numbers(0), io.numbers(1));
            // If it is added to, it holds that on entry.
            if !op.add {
                d_x.fill(N::ZERO);
            }
            d_skip.fill(N::ZERO);
            terms(&geometry, |term| {
                let product = dy[term.output] * weight[term.weight];
                match term.element {
                    Element::X(at) => d_x[at] += product,
                    Element::Skip(at) => d_skip[at] += product,
                }
            });
        }
        Pass::Wgrad => {
            let (d_weight, dy, x) = (io.take(0), io.numbers(0), io.numbers(1));
            let skip = if op.has_skip() { io.numbers(2) } else { &[] };
            d_weight.fill(N::ZERO);
            terms(&geometry, |term| {
                let element = match term.element {
                    Element::X(at) => x[at],
                    Element::Skip(at) => skip[at],
                };
                d_weight[term.weight] += dy[term.output] * element;
            });
        }
    }
}

fn forward<N: Number>(op: &Conv2d, geometry: &Geometry, io: &mut HostIo<'_, N>) {
    let (y, x, skips) = (io.take(0), io.numbers(0), usize::from(op.has_skip()));
    let skip = if op.has_skip() { io.numbers(1) } else { &[] };
    let weight = io.numbers(1 + skips);
    match op.bias {
        true => {
            let bias = io.numbers(2 + skips);
            y.chunks_exact_mut(geometry.outputs).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        false => y.fill(N::ZERO),
    }
    terms(geometry, |term| {
        let element = match term.element {
            Element::X(at) => x[at],
            Element::Skip(at) => skip[at],
        };
        y[term.output] += element * weight[term.weight];
    });
}

/// Calls `visit` for every multiplication of the convolution. What lies outside the image is zero and left out.
fn terms(g: &Geometry, mut visit: impl FnMut(Term)) {
    let taps = |row: usize, col: usize| {
        let offsets = (0..g.kernel).flat_map(move |ky| (0..g.kernel).map(move |kx| (ky, kx)));
        offsets.filter_map(move |(ky, kx)| {
            let row = (row * g.stride + ky).checked_sub(g.padding).filter(|&row| row < g.height)?;
            let col = (col * g.stride + kx).checked_sub(g.padding).filter(|&col| col < g.width)?;
            Some((ky * g.kernel + kx, row, col))
        })
    };
    for pixel in 0..g.batch * g.out_height * g.out_width {
        let (col, row) = (pixel % g.out_width, pixel / g.out_width % g.out_height);
        let image = pixel / (g.out_width * g.out_height);
        for output in 0..g.outputs {
            for (tap, row, col) in taps(row, col) {
                for channel in 0..g.depth() {
                    let weight = (output * g.kernel * g.kernel + tap) * g.depth() + channel;
                    let element = match channel.checked_sub(g.channels) {
                        None => Element::X(g.x_at(image, row, col) + channel),
                        Some(channel) => Element::Skip(g.skip_at(image, row, col) + channel),
                    };
                    visit(Term { output: pixel * g.outputs + output, element, weight });
                }
            }
        }
    }
}
