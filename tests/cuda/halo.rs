//! Convolutions of few channels: whole numbers, so that a result is right or wrong to the last bit; in shapes that no case of the op
//! has, of several tiles to a block.

use g2d::base::Kind;
use g2d::ops::conv2d::{Conv2d, HALO, Pass, Source};
use proptest::prelude::*;

use super::device::cases;
use super::im2col::{Shape, dgrad, faults_are_noticed};

fn shape(conv: Conv2d, extents: [usize; 4], skip: usize, outputs: usize) -> Shape {
    Shape { conv, extents, skip, outputs, kernel: HALO, blocks: u32::MAX }
}

/// Up to three tiles along a side, up to three times 16 channels, three tiles of outputs.
fn any_shape() -> impl Strategy<Value = Shape> {
    let passes = prop_oneof![Just(Pass::Fwd), Just(dgrad()), Just(Pass::Wgrad)];
    let windows = (prop_oneof![2..4usize, 4..6usize], 1..3usize, any::<prop::sample::Index>(), 0..4usize);
    let channels = || prop_oneof![1..40usize, (1..6usize).prop_map(|eights| 8 * eights)];
    let outputs = prop_oneof![1..40usize, (1..10usize).prop_map(|eights| 8 * eights)];
    let rest = (1..4usize, 1..40usize, 1..40usize, any::<bool>(), any::<bool>());
    (passes, windows, (channels(), channels(), outputs), rest).prop_map(|(pass, windows, depths, rest)| {
        let (kernel, stride, padding, source) = windows;
        let ((channels, skip, outputs), (batch, height, width, bias, exact)) = (depths, rest);
        let plain = source < 2;
        let source =
            [Source::Plain, Source::Plain, Source::Upsampled { skip: false }, Source::Upsampled { skip: true }][source];
        let kernel = if pass == Pass::Wgrad { 3 } else { kernel };
        let (kernel, stride, padding) =
            if plain { (kernel, stride, padding.index(kernel)) } else { (kernel / 2 * 2 + 1, 1, kernel / 2) };
        let stride = if pass == dgrad() { 1 } else { stride };
        let skip = if source == (Source::Upsampled { skip: true }) { skip } else { 0 };
        let output = if exact { Kind::Exact } else { Kind::Activation };
        let conv = Conv2d { pass, kernel, stride, padding, source, bias, output, add: false };
        let [height, width] = [height, width].map(|side| if plain { side.max(kernel) } else { side / 2 + 1 });
        let products = batch * height * width * kernel * kernel * (channels + skip) * outputs;
        let batch = if products > 1 << 23 { 1 } else { batch };
        shape(conv, [batch, height, width, channels], skip, outputs)
    })
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn convolutions_of_few_channels_are_exact(shape in any_shape(), seed: u64) {
        if let Err(why) = shape.check(seed, None) {
            prop_assert!(why.contains("bytes of shared memory"), "{}", why);
        }
    }
}

/// More tiles than twice 132 blocks, of a smallest image each.
#[test]
fn blocks_take_several_tiles() {
    let [plain, doubled] = [Conv2d::fwd(3), Conv2d::fwd(3).upsampled(false)];
    let gradient = |pass| Conv2d { pass, ..doubled };
    for (conv, outputs) in [(plain, 8), (doubled, 20), (gradient(dgrad()), 8), (gradient(Pass::Wgrad), 12)] {
        shape(conv, [531, 2, 3, 8], 0, outputs).check(5, None).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// For each kernel a shape on which every part of it matters: ragged, of several stages, several tiles of columns.
fn telling() -> Vec<(String, Shape)> {
    let plain = Conv2d::fwd(3);
    let wgrad = Conv2d { pass: Pass::Wgrad, ..plain.upsampled(true) };
    vec![
        ("conv2d_halo_weights_bf16_16x16_sm80".into(), shape(wgrad, [2, 9, 11, 24], 40, 24)),
        ("conv2d_halo_windows_bf16_512x16_sm80".into(), shape(plain.upsampled(true).bias(), [2, 9, 11, 40], 24, 12)),
        ("conv2d_halo_windows_bf16_256x32_sm80".into(), shape(plain.upsampled(true), [1, 9, 20, 24], 40, 72)),
    ]
}

/// What stands in the text of each kernel, and what in its place must be noticed.
const FAULTS: [(&str, &str); 3] =
    [("bar.sync", "//"), ("cp.async.wait_group", "//"), ("cp.async.cg.shared.global", "//")];

#[test]
fn every_barrier_wait_and_copy_is_needed() {
    faults_are_noticed(telling(), &FAULTS);
}
