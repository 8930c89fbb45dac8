//! [`Conv2d`](super::Conv2d) as matrix products. The input gradient at stride 1 is itself a convolution: of dy, with
//! the kernel turned around.
//!
//! - `matmul`: a 1x1 convolution is a linear map of the pixels.
//! - `windows`: the windows of a row of y overlap in memory, so a padded row is a matrix of windows (of one kernel
//!   row) as it lies; one product per row of y and row of the kernel. For weights that stay in a core's cache.
//! - `columns`: the windows of many rows of y are copied out (im2col), then one large product.
//! - `parities`: a 3 x 3 kernel on an upsampled image, by sums of its weights ([cpu_upsampled](super::cpu_upsampled)).
//! - `scatter`: the input gradient at any stride: products of dy and w, added up where they belong (col2im).

use rayon::prelude::*;

use super::geometry::Geometry;
use super::image::{Image, Rows};
use super::{Conv2d, Pass, Source, cpu_upsampled as upsampled};
use crate::base::{Number, Spec};
use crate::cpu::matmul::{Matrix, MatrixMut, multiply, multiply_parallel};
use crate::cpu::tile::{self, LANES, Product};
use crate::ops::linear;
use crate::program::{Candidate, HostIo};

/// Numbers of a band of padded rows, about: it stays in a core's second cache beside what is read and written.
const BAND: usize = 1 << 15;
/// Bands of a whole batch, at least if they are not too low.
const BANDS: usize = 16;
/// Numbers of windows copied out at a time, about.
pub(super) const COLUMNS: usize = 1 << 21;
/// Weights from which on copying windows out beats reading the weights once per row.
const MANY_WEIGHTS: usize = 1 << 19;
/// Partial sums of a weight gradient, at most.
const PARTIALS: usize = 16;
/// Pixels of a weight gradient that are one chain of additions, about.
const CHAIN: usize = 256;

/// See the [module](self).
pub fn candidates(op: &Conv2d, inputs: &[Spec]) -> Vec<Candidate> {
    let pointwise = (op.kernel, op.stride, op.padding, op.source) == (1, 1, 0, Source::Plain);
    let turned = op.stride == 1 && op.padding < op.kernel;
    let when = |name, legal, why: &str| if legal { Candidate::legal(name) } else { Candidate::refused(name, why) };
    let matmul = when("matmul", pointwise, "the kernel is not a single pixel, stride 1, of a plain source");
    let any = |name| match op.pass {
        Pass::Dgrad { .. } => when(name, turned, "the input gradient is a convolution only at stride 1"),
        _ => Candidate::legal(name),
    };
    let depth: usize = match op.pass {
        Pass::Fwd => inputs[..1 + usize::from(op.has_skip())].iter().map(|spec| spec.shape.last()).sum(),
        Pass::Dgrad { .. } => inputs[1].shape.last(),
        Pass::Wgrad => inputs[1..].iter().map(|spec| spec.shape.last()).sum(),
    };
    let outputs = match op.pass {
        Pass::Fwd => inputs[1 + usize::from(op.has_skip())].shape.dims()[0],
        _ => inputs[0].shape.last(),
    };
    let many = many(op.kernel, depth, outputs);
    let doubled = (op.kernel, op.stride, op.padding) == (3, 1, 1) && op.source != Source::Plain;
    let parities = when("parities", doubled, "it is no 3 x 3 kernel of stride 1 and padding 1 on an upsampled image");
    let mut candidates = vec![matmul, parities];
    candidates.extend(if many { ["columns", "windows"].map(any) } else { ["windows", "columns"].map(any) });
    if let Pass::Dgrad { .. } = op.pass {
        let legal = op.source == Source::Plain;
        candidates.push(when("scatter", legal, "the source is upsampled"));
    }
    if op.add {
        candidates = candidates.iter().map(|of| Candidate::refused(of.name, "it adds to nothing")).collect();
    }
    candidates
}

fn many(kernel: usize, depth: usize, outputs: usize) -> bool {
    kernel * kernel * depth * outputs >= MANY_WEIGHTS
}

/// What a result starts from.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a, N> {
    /// Nothing.
    Zero,
    /// These numbers, for each pixel.
    Bias(&'a [N]),
}

/// Runs one of the [`candidates`].
pub fn run<N: Number>(op: &Conv2d, geometry: &Geometry, kernel: &'static str, io: &mut HostIo<'_, N>) {
    let g = *geometry;
    let (out, skips) = (io.take(0), usize::from(op.has_skip()));
    let many = kernel == "columns" || kernel == "parities" && many(g.kernel, g.depth(), g.outputs);
    match op.pass {
        Pass::Fwd => {
            let (x, weight) = (io.numbers(0), io.numbers(1 + skips));
            let bias = op.bias.then(|| io.numbers(2 + skips));
            if kernel == "matmul" {
                return linear::cpu::forward(out, x, weight, bias, g.batch * g.height * g.width);
            }
            let skip = if skips > 0 { io.numbers(1) } else { &[] };
            if kernel == "parities" {
                return upsampled::forward(&g, [x, skip, weight], bias, out, many);
            }
            let weight = Matrix::new(weight, g.outputs, g.window()).transposed();
            let begin = bias.map_or(Begin::Zero, Begin::Bias);
            let rows = Rows::plain(out, g.batch * g.out_height);
            convolve(&Image { geometry: g, x, skip }, weight, begin, rows, many);
        }
        Pass::Dgrad { .. } => {
            let (dy, weight) = (io.numbers(0), io.numbers(1));
            match kernel {
                "matmul" => return linear::cpu::dgrad(out, dy, weight, g.batch * g.height * g.width),
                "scatter" => return scatter(&g, dy, weight, out),
                "parities" => {
                    let d_skip = if skips > 0 { io.take(1) } else { &mut [] };
                    return upsampled::dgrad(&g, dy, weight, out, d_skip, many);
                }
                _ => {}
            }
            let rows = match op.source {
                Source::Plain => Rows::plain(out, g.batch * g.height),
                Source::Upsampled { skip } => {
                    Rows::folded(out, if skip { io.take(1) } else { &mut [] }, g.batch * g.height)
                }
            };
            let image = Image { geometry: turned(&g), x: dy, skip: &[] };
            let weight = turned_weight(&g, weight);
            convolve(&image, Matrix::new(&weight, image.geometry.window(), g.depth()), Begin::Zero, rows, many);
        }
        Pass::Wgrad => {
            let (dy, x) = (io.numbers(0), io.numbers(1));
            let image = Image { geometry: g, x, skip: if skips > 0 { io.numbers(2) } else { &[] } };
            match kernel {
                "matmul" => linear::cpu::wgrad(out, dy, x, g.batch * g.height * g.width),
                "windows" => wgrad_windows(&image, dy, out),
                "parities" => upsampled::wgrad(&g, dy, x, image.skip, out, many),
                _ => wgrad_columns(&image, dy, out, false),
            }
        }
    }
}

/// The convolution whose result is the input gradient of another one, of stride 1.
pub(super) fn turned(g: &Geometry) -> Geometry {
    Geometry {
        height: g.out_height,
        width: g.out_width,
        channels: g.outputs,
        skip: 0,
        out_height: g.height,
        out_width: g.width,
        outputs: g.depth(),
        padding: g.kernel - 1 - g.padding,
        scale: 1,
        ..*g
    }
}

/// Its weights, [window, outputs].
pub(super) fn turned_weight<N: Number>(g: &Geometry, weight: &[N]) -> Vec<N> {
    let (taps, depth) = (g.kernel * g.kernel, g.depth());
    let mut turned = vec![N::ZERO; weight.len()];
    turned.par_chunks_mut(depth).enumerate().for_each(|(at, row)| {
        let (tap, output) = (taps - 1 - at / g.outputs, at % g.outputs);
        row.copy_from_slice(&weight[(output * taps + tap) * depth..][..depth]);
    });
    turned
}

/// The convolution of `image` with `weight` [window, outputs] into `rows`.
pub(super) fn convolve<N: Number>(
    image: &Image<'_, N>,
    weight: Matrix<'_, N>,
    begin: Begin<'_, N>,
    rows: Rows<'_, N>,
    many: bool,
) {
    let g = &image.geometry;
    let biased = matches!(begin, Begin::Bias(_));
    let begin = |out: &mut [N]| {
        if let Begin::Bias(bias) = begin {
            out.chunks_exact_mut(g.outputs).for_each(|pixel| pixel.copy_from_slice(bias));
        }
    };
    if many {
        let (mut columns, mut scratch) = (Vec::new(), Vec::new());
        for block in rows.blocks(column_rows(g), g.batch * g.out_height) {
            let (first, count) = (block.first, block.count);
            block.write(g.out_width, &mut scratch, |out| {
                begin(out);
                let windows = copy_columns(image, first, count, &mut columns);
                let keep = N::count(usize::from(biased));
                multiply_parallel(MatrixMut::new(out, count * g.out_width, g.outputs), keep, N::ONE, windows, weight);
            });
        }
        return;
    }
    let group = group_of(g);
    let weight = grouped(g, &weight.gathered(), group);
    let blocks = rows.blocks(band_rows(image), g.out_height);
    blocks.into_par_iter().for_each_init(
        || (Vec::new(), Vec::new()),
        |(band, scratch), block| {
            let (first, count) = (block.first, block.count);
            block.write(g.out_width, scratch, |out| {
                begin(out);
                image.band(first, count, band);
                windows(image, band, &weight, group, biased, out);
            });
        },
    );
}

/// Rows of y whose windows are copied out together; even, so that they can be folded.
fn column_rows(g: &Geometry) -> usize {
    (COLUMNS / (g.out_width * g.window())).next_multiple_of(2).max(2)
}

/// Rows of y that are computed from one band of padded rows; even.
pub(super) fn band_rows<N: Number>(image: &Image<'_, N>) -> usize {
    let g = &image.geometry;
    let fair = g.batch * g.out_height / BANDS;
    (BAND / (image.pitch() * g.stride)).min(fair).max(g.kernel).next_multiple_of(2)
}

/// The windows of `count` rows of y from `first` on, as a matrix.
fn copy_columns<'a, N: Number>(
    image: &Image<'_, N>,
    first: usize,
    count: usize,
    columns: &'a mut Vec<N>,
) -> Matrix<'a, N> {
    let g = &image.geometry;
    let line = g.out_width * g.window();
    columns.resize(count * line, N::ZERO);
    let lines = columns.par_chunks_mut(line).enumerate();
    lines.for_each_init(Vec::new, |band, (row, columns)| image.columns(first + row, band, columns));
    Matrix::new(columns, count * g.out_width, g.window())
}

/// How many neighbouring windows are computed as one, so that a few output channels still fill a tile: a divisor of
/// the width. The joint window is wider, but by less than the tile is fuller.
fn group_of(g: &Geometry) -> usize {
    let fits = |group: &usize| g.out_width.is_multiple_of(*group) && group * g.outputs <= LANES;
    if g.stride < g.kernel { (1..=LANES).rev().find(fits).unwrap_or(1) } else { 1 }
}

/// Pixels along a row that a group of windows sees.
fn span(g: &Geometry, group: usize) -> usize {
    (group - 1) * g.stride + g.kernel
}

/// The weights [kernel, kernel, depth, outputs] as [kernel, span, depth, group, outputs]: each window of a group
/// meets zeros but in its own place. Behind the last there is room for a tile to read on.
fn grouped<N: Number>(g: &Geometry, weight: &[N], group: usize) -> Vec<N> {
    let (span, row) = (span(g, group), g.depth() * g.outputs);
    let mut wide = vec![N::ZERO; g.kernel * span * row * group + LANES];
    for (at, tap) in weight.chunks_exact(row).enumerate() {
        let (ky, kx) = (at / g.kernel, at % g.kernel);
        for member in 0..group {
            let wide = &mut wide[(ky * span + member * g.stride + kx) * row * group..][..row * group];
            for (wide, tap) in wide.chunks_exact_mut(group * g.outputs).zip(tap.chunks_exact(g.outputs)) {
                wide[member * g.outputs..][..g.outputs].copy_from_slice(tap);
            }
        }
    }
    wide
}

/// Rows `out` of y from their band; `keep` says whether `out` already holds a summand.
fn windows<N: Number>(image: &Image<'_, N>, band: &[N], weight: &[N], group: usize, keep: bool, out: &mut [N]) {
    let g = &image.geometry;
    let (inner, outer) = (span(g, group) * g.depth(), group * g.outputs);
    for (row, out) in out.chunks_exact_mut(g.out_width * g.outputs).enumerate() {
        let product = Product {
            a: &band[row * g.stride * image.pitch()..],
            a_strides: [image.pitch(), group * g.stride * g.depth(), 1],
            b: weight,
            b_strides: [inner * outer, outer],
            segments: g.kernel,
            depth: inner,
        };
        tile::multiply(out, outer, [g.out_width / group, outer], keep, product);
    }
}

/// The weight gradient from bands of rows: the bands of each of a fixed number of parts in turn, then the parts.
pub(super) fn wgrad_windows<N: Number>(image: &Image<'_, N>, dy: &[N], out: &mut [N]) {
    let g = &image.geometry;
    let line = g.out_width * g.outputs;
    let (rows, run) = (band_rows(image), g.kernel * g.depth());
    let per_image = g.out_height.div_ceil(rows);
    let part = (g.batch * per_image).div_ceil(PARTIALS);
    let at_once = (CHAIN / g.out_width).max(1);
    let parts: Vec<Vec<N>> = (0..(g.batch * per_image).div_ceil(part))
        .into_par_iter()
        .map(|at| {
            let (mut sum, mut band) = (vec![N::ZERO; out.len()], Vec::new());
            for block in at * part..((at + 1) * part).min(g.batch * per_image) {
                let (image_at, start) = (block / per_image, block % per_image * rows);
                let (first, count) = (image_at * g.out_height + start, rows.min(g.out_height - start));
                image.band(first, count, &mut band);
                band.resize(band.len() + LANES, N::ZERO); // a tile reads on behind the last window
                for (row, dy) in dy[first * line..][..count * line].chunks(at_once * line).enumerate() {
                    for ky in 0..g.kernel {
                        let product = Product {
                            a: dy,
                            a_strides: [line, 1, g.outputs],
                            b: &band[(row * at_once * g.stride + ky) * image.pitch()..],
                            b_strides: [g.stride * image.pitch(), g.stride * g.depth()],
                            segments: dy.len() / line,
                            depth: g.out_width,
                        };
                        tile::multiply(&mut sum[ky * run..], g.window(), [g.outputs, run], true, product);
                    }
                }
            }
            sum
        })
        .collect();
    out.fill(N::ZERO);
    for part in parts {
        out.iter_mut().zip(part).for_each(|(sum, number)| *sum += number);
    }
}

/// The weight gradient from windows that are copied out; `turned`: [window, outputs].
pub(super) fn wgrad_columns<N: Number>(image: &Image<'_, N>, dy: &[N], out: &mut [N], turned: bool) {
    let g = &image.geometry;
    let line = g.out_width * g.outputs;
    let (rows, mut columns) = (column_rows(g), Vec::new());
    for (at, dy) in dy.chunks(rows * line).enumerate() {
        let windows = copy_columns(image, at * rows, dy.len() / line, &mut columns);
        let dy = Matrix::new(dy, dy.len() / g.outputs, g.outputs);
        let keep = if at == 0 { N::ZERO } else { N::ONE };
        let (extents, a, b) = if turned {
            ([g.window(), g.outputs], windows.transposed(), dy)
        } else {
            ([g.outputs, g.window()], dy.transposed(), windows)
        };
        multiply_parallel(MatrixMut::new(out, extents[0], extents[1]), keep, N::ONE, a, b);
    }
}

/// The input gradient of a plain source: products of dy and w for the rows of y that see a band of rows of x, added
/// up where they belong.
fn scatter<N: Number>(g: &Geometry, dy: &[N], weight: &[N], dx: &mut [N]) {
    let (line, products) = (g.width * g.depth(), g.out_width * g.window());
    let band = (COLUMNS / 8 / products * g.stride).max(g.kernel);
    let weight = Matrix::new(weight, g.outputs, g.window());
    let bands = Rows::plain(dx, g.batch * g.height).blocks(band, g.height);
    bands.into_par_iter().for_each_init(Vec::new, |columns, block| {
        let (image, start, count) = (block.first / g.height, block.first % g.height, block.count);
        // Rows of y of which a window meets the band.
        let first = (start + g.padding + 1).saturating_sub(g.kernel).div_ceil(g.stride).min(g.out_height);
        let behind = ((start + count - 1 + g.padding) / g.stride + 1).min(g.out_height).max(first);
        let pixels = (behind - first) * g.out_width;
        columns.resize(pixels * g.window(), N::ZERO);
        let dy = &dy[(image * g.out_height + first) * g.out_width * g.outputs..][..pixels * g.outputs];
        let dy = Matrix::new(dy, pixels, g.outputs);
        multiply(MatrixMut::new(columns, pixels, g.window()), N::ZERO, N::ONE, dy, weight);
        block.write(g.width, &mut Vec::new(), |dx| {
            dx.fill(N::ZERO);
            for (at, window) in columns.chunks_exact(g.kernel * g.depth()).enumerate() {
                let (pixel, ky) = (at / g.kernel, at % g.kernel);
                let row = ((first + pixel / g.out_width) * g.stride + ky).checked_sub(g.padding + start);
                if let Some(dx) = row.and_then(|row| dx.get_mut(row * line..(row + 1) * line)) {
                    scatter_row(g, pixel % g.out_width, window, dx);
                }
            }
        });
    });
}

/// Adds one row of the window at `col` to one row of dx.
fn scatter_row<N: Number>(g: &Geometry, col: usize, window: &[N], dx: &mut [N]) {
    let start = col * g.stride;
    let cut = g.padding.saturating_sub(start).min(g.kernel);
    let from = (start + cut).saturating_sub(g.padding) * g.depth();
    if let Some(dx) = dx.get_mut(from..) {
        dx.iter_mut().zip(&window[cut * g.depth()..]).for_each(|(sum, &number)| *sum += number);
    }
}
