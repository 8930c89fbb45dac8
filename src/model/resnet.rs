//! The image encoder: torchvision's ResNet v1.5 with bottlenecks, without its classifier.

use super::config::Config;
use super::init::Scheme;
use super::layer::{Norm, Statistics, conv2d};
use crate::ops::conv2d::Conv2d;
use crate::ops::max_pool::MaxPool;
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

/// Records the encoder on `image` [batch, side, side, 3]. Returns the five feature maps at strides 2, 4, 8, 16, 32.
pub fn encoder(
    r: &mut Recorder,
    config: &Config,
    image: Value,
    statistics: Statistics,
) -> Result<Vec<Value>, RecordError> {
    let width = config.resnet_width;
    let stem = r.scope("conv1", |r| convolve(r, image, width, 7, 2))?;
    let stem = r.scope("bn1", |r| Norm::relu().record(r, stem, statistics))?;
    let mut x = r.scope("maxpool", |r| r.one(MaxPool::fwd(), &[stem]))?;
    let mut features = vec![stem];
    for (stage, &blocks) in config.resnet_layers.iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let scope = format!("layer{}.{block}", stage + 1);
            x = r.scope(scope, |r| bottleneck(r, x, width << stage, stride, statistics))?;
        }
        features.push(x);
    }
    Ok(features)
}

/// 1×1, 3×3 with the stride, 1×1 to four times the width; plus the input, projected where shapes differ.
fn bottleneck(
    r: &mut Recorder,
    x: Value,
    width: usize,
    stride: usize,
    statistics: Statistics,
) -> Result<Value, RecordError> {
    let out = 4 * width;
    let y = r.scope("conv1", |r| convolve(r, x, width, 1, 1))?;
    let y = r.scope("bn1", |r| Norm::relu().record(r, y, statistics))?;
    let y = r.scope("conv2", |r| convolve(r, y, width, 3, stride))?;
    let y = r.scope("bn2", |r| Norm::relu().record(r, y, statistics))?;
    let y = r.scope("conv3", |r| convolve(r, y, out, 1, 1))?;
    let skip = if stride == 1 && r.shape(x).last() == out {
        x
    } else {
        let skip = r.scope("downsample.0", |r| convolve(r, x, out, 1, stride))?;
        r.scope("downsample.1", |r| Norm::plain().record(r, skip, statistics))?
    };
    r.scope("bn3", |r| Norm { residual: Some(skip), ..Norm::relu() }.record(r, y, statistics))
}

fn convolve(r: &mut Recorder, x: Value, out: usize, kernel: usize, stride: usize) -> Result<Value, RecordError> {
    conv2d(r, Conv2d::fwd(kernel).stride(stride), &[x], out, Scheme::KaimingNormal)
}
