//! The YOLOv3 head (Redmon and Farhadi, 2018) as MGCA hangs it on a ResNet: three scales, three anchors each.
//!
//! On f5, f4 and f3 (strides 32, 16, 8): five convolutions, alternately 1×1 and 3×3, a 3×3 one and the 1×1 one that makes
//! the numbers; from the fifth a 1×1 one leads, upsampled, to the next scale. Each but the last has a batch norm and a leaky
//! ReLU. At the width of ResNet-50 the head has 21,626,934 parameters; it is narrower where the encoder is.

use crate::base::Kind;
use crate::model::config::Config;
use crate::model::init::Scheme;
use crate::model::layer::{Norm, Statistics, conv2d};
use crate::ops::conv2d::Conv2d;
use crate::ops::leaky_relu::LeakyRelu;
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

/// Scales.
pub const SCALES: usize = 3;
/// Anchors of a scale.
const ANCHORS: usize = 3;
/// Numbers of an anchor: x, y, width, height, whether there is something, and that it is of the one class.
pub const CHANNELS: usize = 6;
/// Anchors, widths and heights in pixels of a film of 416 pixels (those of COCO), the deepest scale first.
const SIZES: [[[f64; 2]; ANCHORS]; SCALES] = [
    [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
    [[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
    [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
];
/// Side of the films that [`SIZES`] are of.
const SIDE: f64 = 416.0;
/// Anchors that overlap a box more are not told that there is nothing.
const IGNORED: f64 = 0.5;
/// Weights of the parts of the loss: place and size, nothing there.
const PLACE: f64 = 2.5;
const NOTHING: f64 = 0.5;
/// Slope of the leaky ReLU.
const SLOPE: f64 = 0.1;

/// A rectangle in parts of the film's side: centre, width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    /// Centre from the left.
    pub x: f64,
    /// Centre from above.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// Records the head on the encoder's five maps. Returns the numbers of each scale [batch, cells, cells, anchors · 6].
pub fn head(
    r: &mut Recorder,
    config: &Config,
    features: &[Value],
    statistics: Statistics,
) -> Result<[Value; SCALES], RecordError> {
    let width = 8 * config.resnet_width;
    let mut made = Vec::new();
    let mut branch = None;
    for (scale, &feature) in features.iter().rev().take(SCALES).enumerate() {
        let narrow = width >> scale;
        let (first, inputs) = match branch {
            None => (Conv2d::fwd(1), vec![feature]),
            Some(below) => {
                let lateral = r.scope(format!("embedding{scale}_cbl"), |r| {
                    convolved(r, Conv2d::fwd(1), &[below], narrow, statistics)
                })?;
                (Conv2d::fwd(1).upsampled(true), vec![lateral, feature])
            }
        };
        let (numbers, fifth) = r.scope(format!("embedding{scale}"), |r| {
            let mut x = r.scope("0", |r| convolved(r, first, &inputs, narrow, statistics))?;
            let mut fifth = x;
            for at in 1..6 {
                let (kernel, out) = if at % 2 == 1 { (3, 2 * narrow) } else { (1, narrow) };
                x = r.scope(at.to_string(), |r| convolved(r, Conv2d::fwd(kernel), &[x], out, statistics))?;
                fifth = if at == 4 { x } else { fifth };
            }
            let last = Conv2d::fwd(1).bias().output(Kind::Exact);
            let numbers = r.scope("conv_out", |r| conv2d(r, last, &[x], ANCHORS * CHANNELS, Scheme::XavierUniform))?;
            Ok::<_, RecordError>((numbers, fifth))
        })?;
        made.push(numbers);
        branch = Some(fifth);
    }
    Ok([made[0], made[1], made[2]])
}

/// Convolution, batch norm, leaky ReLU.
fn convolved(
    r: &mut Recorder,
    op: Conv2d,
    inputs: &[Value],
    out: usize,
    statistics: Statistics,
) -> Result<Value, RecordError> {
    let x = r.scope("conv", |r| conv2d(r, op, inputs, out, Scheme::KaimingNormal))?;
    let x = r.scope("bn", |r| Norm::plain().record(r, x, statistics))?;
    r.scope("relu", |r| r.one(LeakyRelu::fwd(SLOPE), &[x]))
}

/// Cells along a side at each scale for films of `side` pixels.
fn cells(side: usize) -> [usize; SCALES] {
    [side / 32, side / 16, side / 8]
}

/// Numbers of a film of `side` pixels at a scale.
pub fn numbers(scale: usize, side: usize) -> usize {
    cells(side)[scale].pow(2) * ANCHORS * CHANNELS
}

/// What a scale's numbers shall be, and how much each counts: target and weight [films, cells, cells, anchors · 6] for the
/// loss whose mean is over all numbers. Every box has the anchor of its own cell that overlaps it most.
pub fn targets(boxes: &[Vec<Rectangle>], scale: usize, side: usize) -> (Vec<f32>, Vec<f32>) {
    let cells = cells(side)[scale];
    let count = boxes.len() * numbers(scale, side);
    let (mut target, mut weight) = (vec![0.0; count], vec![0.0; count]);
    let channels = CHANNELS as f32;
    // The published loss is a mean over anchors, of each part by itself.
    weight.iter_mut().skip(4).step_by(CHANNELS).for_each(|weight| *weight = NOTHING as f32 * channels);
    let mut found = Vec::new();
    for (film, boxes) in boxes.iter().enumerate() {
        for one in boxes {
            let cell = |place: f64| ((place * cells as f64) as usize).min(cells - 1);
            let (column, row) = (cell(one.x), cell(one.y));
            let overlaps = SIZES[scale].map(|[w, h]| overlap([one.w, one.h], [w / SIDE, h / SIDE]));
            let at = |anchor: usize| (((film * cells + row) * cells + column) * ANCHORS + anchor) * CHANNELS;
            let mut best = 0;
            for (anchor, &overlap) in overlaps.iter().enumerate() {
                if overlap > IGNORED {
                    weight[at(anchor) + 4] = 0.0;
                }
                if overlap > overlaps[best] {
                    best = anchor;
                }
            }
            let [w, h] = SIZES[scale][best];
            let inside = |place: f64, cell: usize| place * cells as f64 - cell as f64;
            let wanted =
                [inside(one.x, column), inside(one.y, row), (one.w * SIDE / w).ln(), (one.h * SIDE / h).ln(), 1.0, 1.0];
            found.push(at(best));
            for (to, number) in target[at(best)..][..CHANNELS].iter_mut().zip(wanted) {
                *to = number as f32;
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    let anchors = (count / CHANNELS) as f64;
    let class = (anchors * CHANNELS as f64 / found.len().max(1) as f64) as f32;
    let place = PLACE as f32 * channels;
    for &at in &found {
        weight[at..at + CHANNELS].copy_from_slice(&[place, place, place, place, channels, class]);
    }
    (target, weight)
}

/// Intersection over union of two rectangles with one corner.
fn overlap(a: [f64; 2], b: [f64; 2]) -> f64 {
    let both = a[0].min(b[0]) * a[1].min(b[1]);
    both / (a[0] * a[1] + b[0] * b[1] - both)
}

/// What a scale's `numbers` of one film [cells, cells, anchors · 6] say: rectangles and how sure they are, of those at least
/// `sure`.
pub fn decode(numbers: &[f64], scale: usize, side: usize, sure: f64, found: &mut Vec<(Rectangle, f64)>) {
    let cells = cells(side)[scale];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (at, numbers) in numbers.chunks_exact(CHANNELS).enumerate() {
        let confidence = sigmoid(numbers[4]);
        if confidence < sure {
            continue;
        }
        let (anchor, column, row) = (at % ANCHORS, at / ANCHORS % cells, at / ANCHORS / cells);
        let [w, h] = SIZES[scale][anchor];
        let place = |cell: usize, number: f64| (cell as f64 + sigmoid(number)) / cells as f64;
        let rectangle = Rectangle {
            x: place(column, numbers[0]),
            y: place(row, numbers[1]),
            w: numbers[2].min(20.0).exp() * w / SIDE,
            h: numbers[3].min(20.0).exp() * h / SIDE,
        };
        found.push((rectangle, confidence * sigmoid(numbers[5])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Spec;
    use crate::ops::elementwise_loss::{ElementwiseLoss, Form};
    use crate::train::{Engine, Resources};

    fn logit(p: f64) -> f64 {
        (p / (1.0 - p)).ln()
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        let boxes = vec![vec![Rectangle { x: 0.31, y: 0.72, w: 0.3, h: 0.2 }], Vec::new()];
        for scale in 0..SCALES {
            let (target, weight) = targets(&boxes, scale, 64);
            let numbers = target.len() / 2;
            let told: Vec<f64> = (target.iter().enumerate())
                .map(|(at, &number)| match at % CHANNELS {
                    2 | 3 => f64::from(number),
                    _ => logit(f64::from(number).clamp(1e-6, 1.0 - 1e-6)),
                })
                .collect();
            let mut found = [Vec::new(), Vec::new()];
            for (film, found) in found.iter_mut().enumerate() {
                decode(&told[film * numbers..][..numbers], scale, 64, 0.5, found);
            }
            let [(one, sure)] = found[0][..] else { panic!("{found:?}") };
            let wanted = boxes[0][0];
            let apart = [one.x - wanted.x, one.y - wanted.y, one.w - wanted.w, one.h - wanted.h];
            assert!(apart.iter().all(|apart| apart.abs() < 1e-5) && sure > 0.99, "{one:?}");
            assert!(found[1].is_empty());
            // The other film's anchors are only told that nothing is there.
            let told = weight[numbers..].iter().filter(|&&weight| weight != 0.0).count();
            assert_eq!(told, numbers / CHANNELS);
        }
    }

    /// What torch makes of this loss, written down once more, with these two boxes, of which the first has, at stride 16, a second
    /// anchor that fits it by more than half: `target/oracle/bin/python tests/oracle/detection.py`, PyTorch 2.11.
    #[test]
    fn the_weighted_loss_is_what_torch_gives() {
        let boxes = [
            vec![Rectangle { x: 0.31, y: 0.72, w: 0.15, h: 0.2 }],
            vec![Rectangle { x: 0.8, y: 0.1, w: 0.3, h: 0.25 }],
        ];
        for (scale, torch) in [2.313_578_796_984, 1.200_848_774_698, 1.201_890_570_890].into_iter().enumerate() {
            let (target, weight) = targets(&boxes, scale, 64);
            let head: Vec<f32> = (0..target.len()).map(|at| ((at * 37 + 11) % 101) as f32 / 25.0 - 2.0).collect();
            let side = cells(64)[scale];
            let mut r = Recorder::new();
            let inputs = ["head", "target", "weight"]
                .map(|name| r.input(name, Spec::exact([boxes.len(), side, side, ANCHORS * CHANNELS])));
            let op = ElementwiseLoss::fwd(Form::Detection { channels: CHANNELS }).weighted();
            let loss = r.one(op, &inputs).unwrap();
            r.output("loss", loss);
            let program = r.finish();
            let (mut engine, plans) = Engine::open(&Resources::default(), program.clone(), vec![program]).unwrap();
            for (name, numbers) in [("head", &head), ("target", &target), ("weight", &weight)] {
                engine.write(&plans[0], name, numbers).unwrap();
            }
            engine.replay(&plans[0]).unwrap();
            let loss = engine.scalar(&plans[0], "loss").unwrap();
            assert!((loss - torch).abs() < 1e-6 * torch, "scale {scale}: {loss}, {torch}");
        }
    }

    #[test]
    fn the_published_head_has_the_published_number_of_parameters() {
        let config = Config { image_size: 64, ..Config::preset("full").unwrap() };
        let mut r = Recorder::new();
        let map = |r: &mut Recorder, level: usize| {
            let channels = if level == 0 { 64 } else { 128 << level };
            r.input(format!("f{level}"), crate::base::Spec::activation([1, 32 >> level, 32 >> level, channels]))
        };
        let maps: Vec<Value> = (0..5).map(|level| map(&mut r, level)).collect();
        head(&mut r, &config, &maps, Statistics::Batch).unwrap();
        let learns = crate::model::optimizer::trainable(r.program());
        let count: usize = learns.map(|at| r.program().spec(r.program().states[at].value).shape.elements()).sum();
        assert_eq!(count, 21_626_934);
    }
}
