//! An op on less: for some elements of one of its outputs a small problem of the same op that has the same elements, so
//! that its definition need not be computed whole. What rows, images, channels, sequences or heads do not touch each other
//! are left out; images are cut out with the pixels around that the windows of the wanted ones see.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::base::{Shape, Spec};
use crate::model::batch::TextBatch;
use crate::ops::Op;
use crate::ops::attention::Attention;
use crate::ops::attention_pool::AttentionPool;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv2d::{Conv2d, Pass, Source};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::{self, Epilogue, Linear};
use crate::ops::max_pool::MaxPool;
use crate::ops::rows::Rows;
use crate::program;

/// Some places along each extent of a value, ascending.
pub type Axes = Vec<Vec<usize>>;

/// What an input of the small problem holds.
#[derive(Clone, Debug)]
pub enum Given {
    /// Numbers of an input of the whole problem, seen with these extents.
    Kept {
        /// Which input.
        input: usize,
        /// Extents it is seen with.
        dims: Vec<usize>,
        /// What of it is kept.
        axes: Axes,
    },
    /// Integers of its own: offsets and lengths of fewer rows.
    Integers(Vec<i32>),
}

/// The small problem.
#[derive(Clone, Debug)]
pub struct Less {
    /// The op, with the extents it then has.
    pub op: Op,
    /// Its inputs.
    pub inputs: Vec<Given>,
    /// Its output that holds the wanted elements, and what of the whole output that is; beside them it may hold elements
    /// that are not the same.
    pub output: usize,
    /// See `output`.
    pub kept: Axes,
}

/// One output of an op in a plan.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The op.
    pub op: &'a Op,
    /// Its inputs.
    pub inputs: &'a [Spec],
    /// Its outputs.
    pub outputs: &'a [Spec],
    /// Which of these.
    pub output: usize,
    /// The texts of the batch.
    pub texts: &'a TextBatch,
    /// For a part of a gradient that sums over rows: the rows.
    pub rows: Option<&'a Range<usize>>,
}

/// The extents with which a value of an op is seen: for some the leading ones are one.
pub fn view(op: &Op, shape: Shape) -> Vec<usize> {
    match op {
        Op::Accumulate(_) | Op::Convert(_) | Op::LeakyRelu(_) | Op::AdamW(_) => vec![shape.elements()],
        Op::Linear(_) | Op::BatchNorm(_) if shape.rank() > 1 => vec![shape.rows(), shape.last()],
        _ => shape.dims().to_vec(),
    }
}

fn all(extent: usize) -> Vec<usize> {
    (0..extent).collect()
}

fn bounds(places: &[usize]) -> Range<usize> {
    places.first().copied().unwrap_or(0)..places.last().map_or(0, |last| last + 1)
}

impl Whole<'_> {
    /// The small problem that has the elements at `wanted`; or why there is none.
    pub fn restrict(&self, wanted: &Axes) -> Result<Less, &'static str> {
        let (op, output) = (*self.op, self.output);
        let made = |op: Op, inputs: Vec<Given>, kept: Axes| Ok(Less { op, inputs, output, kept });
        match op {
            Op::Accumulate(_) | Op::Convert(_) | Op::LeakyRelu(_) => {
                made(op, (0..self.inputs.len()).map(|input| self.kept(input, wanted.clone())).collect(), wanted.clone())
            }
            Op::AdamW(adamw) => {
                let stride = 3 + usize::from(adamw.gradient);
                let first = 2 + output / 3 * stride;
                let shared = (0..2).map(|input| self.whole(input));
                let own = (first..first + stride).map(|input| self.kept(input, wanted.clone()));
                Ok(Less { op, inputs: shared.chain(own).collect(), output: output % 3, kept: wanted.clone() })
            }
            Op::Gelu(_) => {
                let values = (0..self.inputs.len() - 1).map(|input| self.kept(input, wanted.clone()));
                made(op, values.chain([rows_of(wanted[0].len())]).collect(), wanted.clone())
            }
            Op::Linear(linear) => self.linear(linear, wanted),
            Op::Conv2d(conv) => match conv.pass {
                Pass::Wgrad => self.conv_weights(conv, wanted),
                _ => self.conv_pixels(conv, wanted),
            },
            Op::MaxPool(pool) => self.max_pool(pool, wanted),
            Op::LayerNorm(norm) => self.layer_norm(norm, wanted),
            Op::BatchNorm(norm) => self.batch_norm(norm, wanted),
            Op::Attention(attention) => self.attention(attention, wanted),
            Op::AttentionPool(AttentionPool::TokensBwd { .. }) if output == 1 => Err("sums over the batch"),
            Op::AttentionPool(AttentionPool::Tokens) => {
                made(op, vec![self.images(0, wanted), self.whole(1)], self.images_out(wanted))
            }
            Op::Rows(Rows::Fwd) => {
                let from: Vec<usize> = wanted[0].iter().map(|&text| self.texts.offsets[text] as usize).collect();
                let ends = (0..=from.len() as i32).collect();
                made(op, vec![self.kept(0, vec![from, wanted[1].clone()]), Given::Integers(ends)], wanted.clone())
            }
            Op::PseudoMask(mask) if mask.shift > 0 => Err("a mask is that of another image"),
            Op::AttentionPool(_) | Op::Ingest(_) | Op::BodyMask(_) | Op::MaskThreshold(_) | Op::PseudoMask(_) => {
                let inputs = (0..self.inputs.len()).map(|input| self.images(input, wanted)).collect();
                made(op, inputs, self.images_out(wanted))
            }
            Op::Foreign(_) => Err("how an op of another crate is cut is not known"),
            Op::Rows(_) | Op::Embed(_) => Err("what a row holds is found by the texts of the whole batch"),
            Op::ClipLoss(_)
            | Op::CrossEntropy(_)
            | Op::DiceLoss(_)
            | Op::ElementwiseLoss(_)
            | Op::SegmentationLoss(_)
            | Op::SpatialMean(_)
            | Op::Finite(_) => Err("it sums over the batch or over images"),
        }
    }

    fn kept(&self, input: usize, axes: Axes) -> Given {
        Given::Kept { input, dims: view(self.op, self.inputs[input].shape), axes }
    }

    fn whole(&self, input: usize) -> Given {
        let axes = view(self.op, self.inputs[input].shape).into_iter().map(all).collect();
        self.kept(input, axes)
    }

    /// An input of some images.
    fn images(&self, input: usize, wanted: &Axes) -> Given {
        let dims = self.inputs[input].shape;
        let rest = dims.dims().iter().skip(1).map(|&extent| all(extent));
        self.kept(input, [wanted[0].clone()].into_iter().chain(rest).collect())
    }

    fn images_out(&self, wanted: &Axes) -> Axes {
        let rest = self.outputs[self.output].shape;
        [wanted[0].clone()].into_iter().chain(rest.dims().iter().skip(1).map(|&extent| all(extent))).collect()
    }

    fn linear(&self, op: Linear, wanted: &Axes) -> Result<Less, &'static str> {
        let features = |input: usize| all(self.inputs[input].shape.last());
        let real = self.texts.offsets.last().map_or(0, |&rows| rows as usize);
        let there = if op.packed { real } else { self.inputs[0].shape.rows() };
        let rows = self.rows.map_or_else(|| all(there), |rows| rows.clone().collect());
        let mut count = wanted[0].len();
        let mut inputs = match op.pass {
            linear::Pass::Fwd => {
                let bias = op.bias.then(|| self.kept(2, vec![wanted[1].clone()]));
                let weight = self.kept(1, vec![wanted[1].clone(), features(1)]);
                [self.kept(0, vec![wanted[0].clone(), features(0)]), weight].into_iter().chain(bias).collect()
            }
            linear::Pass::Dgrad => {
                let weight = self.kept(1, vec![features(0), wanted[1].clone()]);
                let before = (op.epilogue != Epilogue::Store).then(|| self.kept(2, wanted.clone()));
                [self.kept(0, vec![wanted[0].clone(), features(0)]), weight].into_iter().chain(before).collect()
            }
            linear::Pass::Wgrad => {
                count = rows.len();
                vec![self.kept(0, vec![rows.clone(), wanted[0].clone()]), self.kept(1, vec![rows, wanted[1].clone()])]
            }
            linear::Pass::BiasGrad => {
                count = rows.len();
                vec![self.kept(0, vec![rows, wanted[0].clone()])]
            }
        };
        inputs.extend(op.packed.then(|| rows_of(count)));
        Ok(Less { op: op.into(), inputs, output: self.output, kept: wanted.clone() })
    }

    /// The pixels of x from which, and the rows of y which, a small image of `op` is made so that the wanted places along a
    /// side are the same in it.
    fn side(&self, op: &Conv2d, wanted: &[usize], extent: usize, of_skip: bool) -> [Vec<usize>; 2] {
        let scale = if op.source == Source::Plain { 1 } else { 2 };
        let Range { start, end } = bounds(wanted);
        let Conv2d { kernel, stride, padding, .. } = *op;
        // The pixels of the image, doubled or not, that have to be there.
        let (first, behind) = match op.pass {
            Pass::Fwd => ((start * stride).saturating_sub(padding), (end - 1) * stride + kernel),
            _ => {
                let scale = if of_skip { 1 } else { scale };
                ((start * scale + padding + 1).saturating_sub(kernel), end * scale + kernel)
            }
        };
        let step = if scale == 1 { stride } else { 1 };
        let from = first / scale / step * step;
        let to = extent.min(behind.div_ceil(scale) + 1);
        let windows = ((to - from) * scale + 2 * padding - kernel) / stride + 1;
        let y = from * scale / stride;
        [(from..to).collect(), (y..y + windows).collect()]
    }

    fn conv_pixels(&self, op: Conv2d, wanted: &Axes) -> Result<Less, &'static str> {
        let (skips, of_skip) = (matches!(op.source, Source::Upsampled { skip: true }), self.output == 1);
        let x = if op.pass == Pass::Fwd { self.inputs[0] } else { self.outputs[0] };
        let &[_, height, width, channels] = x.shape.dims() else { return Err("x is no image") };
        let [x_rows, y_rows] = self.side(&op, &wanted[1], height, of_skip);
        let [x_cols, y_cols] = self.side(&op, &wanted[2], width, of_skip);
        let doubled = |places: &[usize]| bounds(places).start * 2..bounds(places).end * 2;
        let (skip_rows, skip_cols) = (doubled(&x_rows).collect::<Vec<_>>(), doubled(&x_cols).collect::<Vec<_>>());
        let (images, last) = (wanted[0].clone(), |input: usize| all(self.inputs[input].shape.last()));
        let taps = all(op.kernel);
        if op.pass == Pass::Fwd {
            let mut inputs = vec![self.kept(0, vec![images.clone(), x_rows, x_cols, all(channels)])];
            inputs.extend(skips.then(|| self.kept(1, vec![images.clone(), skip_rows, skip_cols, last(1)])));
            let weight = 1 + usize::from(skips);
            inputs.push(self.kept(weight, vec![wanted[3].clone(), taps.clone(), taps, last(weight)]));
            inputs.extend(op.bias.then(|| self.kept(weight + 1, vec![wanted[3].clone()])));
            return Ok(Less {
                op: op.into(),
                inputs,
                output: 0,
                kept: vec![images, y_rows, y_cols, wanted[3].clone()],
            });
        }
        // One channel of the part that is not wanted stays, for there has to be one.
        let (own, skip) = if of_skip { (vec![0], wanted[3].clone()) } else { (wanted[3].clone(), vec![0]) };
        let depth = own.iter().copied().chain(skip.iter().filter(|_| skips).map(|channel| channels + channel));
        let dy = self.kept(0, vec![images.clone(), y_rows, y_cols, last(0)]);
        let weight = self.kept(1, vec![last(0), taps.clone(), taps, depth.collect()]);
        let pass = Pass::Dgrad { height: x_rows.len(), width: x_cols.len(), channels: own.len() };
        let kept = if of_skip { vec![images, skip_rows, skip_cols, skip] } else { vec![images, x_rows, x_cols, own] };
        let before = op.add.then(|| self.kept(2, kept.clone()));
        let inputs = [dy, weight].into_iter().chain(before).collect();
        Ok(Less { op: Conv2d { pass, ..op }.into(), inputs, output: self.output, kept })
    }

    /// Of whole images; who asks sees to it that dy is zero outside the rows that count.
    fn conv_weights(&self, op: Conv2d, wanted: &Axes) -> Result<Less, &'static str> {
        let skips = matches!(op.source, Source::Upsampled { skip: true });
        let pixels: usize = self.inputs[0].shape.dims()[1..3].iter().product();
        let rows = self.rows.cloned().unwrap_or(0..self.inputs[0].shape.rows());
        let images: Vec<usize> = (rows.start / pixels..rows.end.div_ceil(pixels)).collect();
        let channels = self.inputs[1].shape.last();
        let (own, skip): (Vec<usize>, Vec<usize>) = wanted[3].iter().partition(|&&channel| channel < channels);
        let or_first = |channels: Vec<usize>| if channels.is_empty() { vec![0] } else { channels };
        let own = or_first(own);
        let skip = or_first(skip.iter().map(|channel| channel - channels).collect());
        let of = |input: usize, last: Vec<usize>| {
            let dims = self.inputs[input].shape;
            self.kept(input, vec![images.clone(), all(dims.dims()[1]), all(dims.dims()[2]), last])
        };
        let mut inputs = vec![of(0, wanted[0].clone()), of(1, own.clone())];
        inputs.extend(skips.then(|| of(2, skip.clone())));
        let depth =
            own.iter().copied().chain(skip.iter().filter(|_| skips).map(|channel| channels + channel)).collect();
        let kept = vec![wanted[0].clone(), all(op.kernel), all(op.kernel), depth];
        Ok(Less { op: op.into(), inputs, output: 0, kept })
    }

    fn max_pool(&self, op: MaxPool, wanted: &Axes) -> Result<Less, &'static str> {
        let forward = op.pass == program::Pass::Fwd;
        let x = self.inputs[usize::from(!forward)];
        let cut = |wanted: &[usize], extent: usize| -> [Vec<usize>; 2] {
            let Range { start, end } = bounds(wanted);
            let (start, end) = if forward { (start * op.stride, end * op.stride) } else { (start, end) };
            let from = start.saturating_sub(2 * op.kernel) / op.stride * op.stride;
            let to = extent.min(end + 2 * op.kernel);
            let windows = (to - from + 2 * op.padding - op.kernel) / op.stride + 1;
            [(from..to).collect(), (from / op.stride..from / op.stride + windows).collect()]
        };
        let [x_rows, y_rows] = cut(&wanted[1], x.shape.dims()[1]);
        let [x_cols, y_cols] = cut(&wanted[2], x.shape.dims()[2]);
        let of = |rows, cols| -> Axes { vec![wanted[0].clone(), rows, cols, wanted[3].clone()] };
        let (x, y) = (of(x_rows, x_cols), of(y_rows, y_cols));
        let (inputs, kept) = match forward {
            true => (vec![self.kept(0, x)], y),
            false => (vec![self.kept(0, y), self.kept(1, x.clone())], x),
        };
        Ok(Less { op: op.into(), inputs, output: 0, kept })
    }

    fn layer_norm(&self, op: LayerNorm, wanted: &Axes) -> Result<Less, &'static str> {
        if op == LayerNorm::Bwd && self.output > 0 {
            return Err("sums over the rows of the batch");
        }
        let rows = &wanted[0];
        let values = self.inputs[..self.inputs.len() - 1].iter().enumerate().map(|(input, spec)| {
            let whole = || all(spec.shape.last());
            match spec.shape.rank() {
                2 => self.kept(input, vec![rows.clone(), whole()]),
                _ if op == LayerNorm::Bwd && input < 4 => self.kept(input, vec![rows.clone()]),
                _ => self.kept(input, vec![whole()]),
            }
        });
        let kept = match wanted.len() {
            1 => wanted.clone(),
            _ => vec![rows.clone(), all(self.outputs[self.output].shape.last())],
        };
        Ok(Less { op: op.into(), inputs: values.chain([rows_of(rows.len())]).collect(), output: self.output, kept })
    }

    fn batch_norm(&self, op: BatchNorm, wanted: &Axes) -> Result<Less, &'static str> {
        let packed = match op {
            BatchNorm::Apply { packed, .. } | BatchNorm::Running { packed, .. } => packed,
            // dx and d_residual.
            BatchNorm::Backward { packed, residual, constant: true, .. } if self.output <= usize::from(residual) => {
                packed
            }
            BatchNorm::Train { .. } | BatchNorm::Backward { .. } => return Err("sums over the rows of the batch"),
        };
        let running = matches!(op, BatchNorm::Running { .. });
        let channels = match wanted.last() {
            Some(last) if !running || self.output < 2 => last.clone(),
            _ => all(self.inputs[0].shape.last()),
        };
        let values = self.inputs.len() - usize::from(packed);
        let mut inputs: Vec<Given> = (0..values)
            .map(|input| match self.inputs[input].shape.rank() {
                1 if running && input == 4 => self.whole(input),
                1 => self.kept(input, vec![channels.clone()]),
                _ => self.kept(input, vec![wanted[0].clone(), channels.clone()]),
            })
            .collect();
        inputs.extend(packed.then(|| match running {
            true => Given::Integers(self.texts.offsets.clone()),
            false => rows_of(wanted[0].len()),
        }));
        Ok(Less { op: op.into(), inputs, output: self.output, kept: wanted.clone() })
    }

    fn attention(&self, op: Attention, wanted: &Axes) -> Result<Less, &'static str> {
        let features = self.inputs[0].shape.last() / op.heads;
        let per_head = if self.outputs[self.output].shape.last() == op.heads { 1 } else { features };
        let heads: BTreeSet<usize> = wanted[1].iter().map(|place| place / per_head).collect();
        let of = |row: usize| self.texts.offsets.partition_point(|&offset| offset as usize <= row) - 1;
        let sequences: BTreeSet<usize> = wanted[0].iter().map(|&row| of(row)).collect();
        let span = |&text: &usize| self.texts.offsets[text] as usize..self.texts.offsets[text + 1] as usize;
        let rows: Vec<usize> = sequences.iter().flat_map(span).collect();
        let places = |each: usize| heads.iter().flat_map(|&head| head * each..(head + 1) * each).collect::<Vec<_>>();
        let values = self.inputs[..self.inputs.len() - 2].iter().enumerate().map(|(input, spec)| {
            let each = if spec.shape.last() == op.heads { 1 } else { features };
            self.kept(input, vec![rows.clone(), places(each)])
        });
        let mut ends = vec![0];
        sequences.iter().for_each(|text| ends.push(ends.last().unwrap_or(&0) + span(text).len() as i32));
        let lengths = sequences.iter().map(|&text| self.texts.lengths[text]).collect();
        let inputs = values.chain([Given::Integers(ends), Given::Integers(lengths)]).collect();
        let kept = vec![rows.clone(), places(per_head)];
        Ok(Less { op: Attention { heads: heads.len(), ..op }.into(), inputs, output: self.output, kept })
    }
}

/// Offsets of one text of so many rows.
fn rows_of(rows: usize) -> Given {
    Given::Integers(vec![0, rows as i32])
}
