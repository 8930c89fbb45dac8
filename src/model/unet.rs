//! The image decoder: five blocks of nearest-neighbour upsampling, skip and two convolutions, then the head; as in
//! segmentation_models.pytorch's Unet, but for several maps, of which each has a head of its own.

use super::config::Config;
use super::init::Scheme;
use super::layer::{Norm, Statistics, conv2d};
use crate::base::Kind;
use crate::ops::conv2d::Conv2d;
use crate::program::record::RecordError;
use crate::program::{Recorder, Value};

/// Records decoder and heads on the encoder's five `features`. Returns `maps` maps [batch, side, side, 1].
pub fn decoder(
    r: &mut Recorder,
    config: &Config,
    features: &[Value],
    maps: usize,
    statistics: Statistics,
) -> Result<Vec<Value>, RecordError> {
    let mut deepest_first = features.iter().rev().copied();
    let mut x = deepest_first.next();
    for (at, &out) in config.decoder_channels.iter().enumerate() {
        let inputs: Vec<Value> = x.into_iter().chain(deepest_first.next()).collect();
        x = Some(r.scope(format!("decoder.blocks.{at}"), |r| block(r, &inputs, out, statistics))?);
    }
    let head = Conv2d::fwd(3).bias().output(Kind::Exact);
    let inputs: Vec<Value> = x.into_iter().collect();
    let map = |at| r.scope(format!("segmentation_head.{at}"), |r| conv2d(r, head, &inputs, 1, Scheme::XavierUniform));
    (0..maps).map(map).collect()
}

/// Upsamples the first of `inputs`, puts the second, if there is one, behind it, convolves twice.
fn block(r: &mut Recorder, inputs: &[Value], out: usize, statistics: Statistics) -> Result<Value, RecordError> {
    let plain = Conv2d::fwd(3);
    let upsampled = plain.upsampled(inputs.len() == 2);
    let x = r.scope("conv1.0", |r| conv2d(r, upsampled, inputs, out, Scheme::KaimingUniform))?;
    let x = r.scope("conv1.1", |r| Norm::relu().record(r, x, statistics))?;
    let x = r.scope("conv2.0", |r| conv2d(r, plain, &[x], out, Scheme::KaimingUniform))?;
    r.scope("conv2.1", |r| Norm::relu().record(r, x, statistics))
}
