//! The data of a run that is given none: phantoms, drawn and packed once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::run::Data;
use crate::data::phantom::shards;
use crate::data::{Dataset, Split};
use crate::error::Error;

/// The file that a packed data set is complete with.
const MANIFEST: &str = "dataset.json";
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

/// The shards below `folder`: trained on, held out.
fn places(folder: &Path, what: Phantoms) -> [PathBuf; 2] {
    [("train", TRAIN_SEED, what.train), ("held-out", HELD_OUT_SEED, what.held_out)].map(|(part, seed, count)| {
        folder.join(format!("{part}-{}px-{count}-seed{seed}-drawing{}", what.size, shards::DRAWING))
    })
}

/// Bytes that [`phantoms`] would write below `folder`, about: pixels, mask, report and boxes of every film that is not
/// drawn yet.
pub fn to_write(folder: &Path, what: Phantoms) -> u64 {
    const BESIDE_PIXELS: usize = 2048;
    let counts = places(folder, what).into_iter().zip([what.train, what.held_out]);
    let missing = counts.filter(|(place, _)| !place.join(MANIFEST).is_file()).map(|(_, count)| count);
    missing.map(|count| (count * (2 * what.size * what.size + BESIDE_PIXELS)) as u64).sum()
}

/// Draws and packs phantoms below `folder`, or opens what an earlier call left there. `progress` is told how many
/// are drawn and how many there are.
pub fn phantoms(
    folder: &Path,
    what: Phantoms,
    progress: &(dyn Fn(usize, usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<Data, Error> {
    let pool = crate::base::threads::pool(what.threads).map_err(Error::Threads)?;
    let [train, held_out] = places(folder, what);
    let one = |out: &Path, count: usize, seed: u64, tokenizer: Option<&Path>| -> Result<Arc<Dataset>, Error> {
        if !out.join(MANIFEST).is_file() {
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
