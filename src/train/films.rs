//! The films of a batch, and how a plan takes them.

use super::engine::Engine;
use crate::error::Error;
use crate::program::plan::Plan;

/// The films of one batch.
#[derive(Clone, Copy, Debug)]
pub enum Films<'a> {
    /// Stored pixels [batch, side, side], and 13 numbers of augmentation each ([`crate::data::augment`]).
    Bytes(&'a [u8], &'a [f32]),
    /// Numbers in [0, 1], [batch, side, side].
    Numbers(&'a [f32]),
    /// Rows of what lies on the device already ([`Resident`](super::resident::Resident)), \[batch\], and the augmentation.
    Rows(&'a [u32], &'a [f32]),
}

impl Films<'_> {
    /// Writes the films' inputs of a plan that takes them so.
    pub fn write(self, engine: &mut Engine, plan: &Plan) -> Result<(), Error> {
        match self {
            Films::Bytes(pixels, augmentation) => {
                engine.upload(plan, "pixels", pixels)?;
                engine.write(plan, "augmentation", augmentation)
            }
            Films::Numbers(numbers) => engine.write(plan, "image", numbers),
            Films::Rows(rows, augmentation) => {
                engine.gather(plan, "pixels", rows)?;
                engine.write(plan, "augmentation", augmentation)
            }
        }
    }
}
