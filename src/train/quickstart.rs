//! The data of a run that is given none: phantoms, drawn and packed once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::run::Data;
use crate::data::phantom::shards;
use crate::data::{Dataset, Split};
use crate::error::Error;

/// Seed of the phantoms that are trained on.
const TRAIN_SEED: u64 = 1;
/// Seed of the phantoms that are validated on.
const HELD_OUT_SEED: u64 = 2;

/// How many phantoms, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phantoms {
    /// Drawn for training.
    pub train: usize,
    /// Drawn of another seed, for validation.
    pub held_out: usize,
    /// Side of a packed film, pixels.
    pub size: usize,
    /// Threads that draw; 0: all cores.
    pub threads: usize,
}

/// Draws and packs phantoms below `folder`, or opens what an earlier call left there. `progress` is told how many
/// are drawn and how many there are.
pub fn phantoms(
    folder: &Path,
    what: Phantoms,
    progress: &(dyn Fn(usize, usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<Data, Error> {
    let name = |part: &str, seed: u64, count: usize| {
        folder.join(format!("{part}-{}px-{count}-seed{seed}-drawing{}", what.size, shards::DRAWING))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(what.threads).build().map_err(Error::Threads)?;
    let train = name("train", TRAIN_SEED, what.train);
    let held_out = name("held-out", HELD_OUT_SEED, what.held_out);
    let one = |out: &Path, count: usize, seed: u64, tokenizer: Option<&Path>| -> Result<Arc<Dataset>, Error> {
        if !out.join("dataset.json").is_file() {
            let split = if seed == TRAIN_SEED { Split::Train } else { Split::Val };
            let phantoms = shards::Phantoms { count, seed, size: what.size, split, tokenizer };
            pool.install(|| shards::pack(out, &phantoms, &|done| progress(done, count), cancelled))?;
        }
        Ok(Arc::new(Dataset::open(out)?))
    };
    let train = one(&train, what.train, TRAIN_SEED, None)?;
    let held_out = one(&held_out, what.held_out, HELD_OUT_SEED, Some(&train.tokenizer_path()))?;
    Ok(Data { train, held_out })
}
