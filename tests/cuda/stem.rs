//! Convolutions of very few channels: whole numbers, so that a result is right or wrong to the last bit; in shapes that no case of the op
//! has, of several tiles to a block.

use g2d::base::Kind;
use g2d::ops::conv2d::{Conv2d, Pass, STEM};
use proptest::prelude::*;

use super::device::cases;
use super::im2col::{Shape, faults_are_noticed};

fn shape(conv: Conv2d, extents: [usize; 4], outputs: usize) -> Shape {
    Shape { conv, extents, skip: 0, outputs, kernel: STEM, blocks: u32::MAX }
}

/// Up to three tiles along a side and three of outputs; windows an even count of numbers apart, 8 at most.
fn any_shape() -> impl Strategy<Value = Shape> {
    let passes = prop_oneof![Just(Pass::Fwd), Just(Pass::Wgrad)];
    let apart = prop::sample::select(vec![[2, 1], [2, 2], [2, 3], [2, 4], [1, 2], [1, 4], [4, 1], [1, 8], [8, 1]]);
    let kernel = prop_oneof![1 => Just(7usize), 1 => 2..8usize];
    let outputs = (1..18usize).prop_map(|eights| 8 * eights);
    let rest = (1..4usize, 1..60usize, 1..140usize, any::<bool>(), any::<bool>(), any::<bool>());
    let windows = (kernel, apart, any::<prop::sample::Index>());
    (passes, windows, outputs, rest).prop_map(|(pass, windows, outputs, rest)| {
        let ((kernel, [stride, channels], padding), (batch, height, width, bias, exact, whole)) = (windows, rest);
        let output = if exact { Kind::Exact } else { Kind::Activation };
        let padding = padding.index(kernel + 1);
        let conv = Conv2d { pass, bias, output, ..Conv2d::fwd(kernel).stride(stride).padding(padding) };
        let width = if whole { width.next_multiple_of(8) } else { width };
        let [height, width] = [height, width].map(|side| side.max(kernel));
        let products = batch * height * width / stride / stride * kernel * kernel * channels * outputs;
        let (batch, outputs) = if products > 1 << 23 { (1, outputs.min(72)) } else { (batch, outputs) };
        shape(conv, [batch, height, width, channels], outputs)
    })
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn convolutions_of_very_few_channels_are_exact(shape in any_shape(), seed: u64) {
        if let Err(why) = shape.check(seed, None) {
            prop_assert!(why.contains("eights of numbers"), "{}", why);
        }
    }
}

/// The stem of a ResNet.
fn stem(pass: Pass) -> Conv2d {
    Conv2d { pass, ..Conv2d::fwd(7).stride(2).padding(3) }
}

/// More tiles than twice 132 blocks, of a smallest image each.
#[test]
fn blocks_take_several_tiles() {
    for (pass, outputs) in [(Pass::Fwd, 8), (Pass::Wgrad, 16)] {
        shape(stem(pass), [531, 4, 6, 3], outputs).check(5, None).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// For each kernel a shape on which every part of it matters: ragged, of several tiles to a block and of outputs.
fn telling() -> Vec<(String, Shape)> {
    vec![
        ("conv2d_stem_fwd_bf16_256x64_sm80".into(), shape(stem(Pass::Fwd).bias(), [265, 9, 8, 3], 72)),
        ("conv2d_stem_wgrad_bf16_128x64_sm80".into(), shape(stem(Pass::Wgrad), [3, 21, 72, 3], 72)),
    ]
}

/// What stands in the text of each kernel, and what in its place must be noticed.
const FAULTS: [(&str, &str); 3] =
    [("bar.sync", "//"), ("cp.async.wait_group", "//"), ("cp.async.cg.shared.global", "//")];

#[test]
fn every_barrier_wait_and_copy_is_needed() {
    faults_are_noticed(telling(), &FAULTS);
}
