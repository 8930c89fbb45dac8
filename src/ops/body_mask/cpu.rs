//! [`BodyMask`](super::BodyMask), images side by side.

use rayon::prelude::*;

use super::{BodyMask, reference};
use crate::base::Number;
use crate::program::HostIo;

/// Images do not depend on each other.
pub fn run<N: Number>(op: &BodyMask, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(0);
    let bodies = io.take_bytes(0).par_chunks_mut(height * width);
    let images = io.numbers(0).par_chunks(height * width).zip(bodies);
    images.for_each(|(plane, body)| reference::image(plane, op.threshold.to(), width, body));
}
