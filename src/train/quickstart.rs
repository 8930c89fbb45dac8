//! The data of a run that is given none, and of its evaluation: phantoms, drawn and packed once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::run::Data;
use crate::data::dataset::MANIFEST;
use crate::data::phantom::{Style, shards};
use crate::data::tokenizer::Tokenizer;
use crate::data::{self, Dataset};
use crate::error::Error;

/// Seed of the phantoms that are trained on.
const TRAIN_SEED: u64 = 1;
/// Seed of the phantoms that are validated on.
const HELD_OUT_SEED: u64 = 2;
/// Seed of the phantoms that a trained model is evaluated on.
const EVALUATION_SEED: u64 = 3;

/// Evaluation phantoms for training (of heads and probes), validation and test, where nothing is said.
pub const EVALUATION: [usize; 3] = [600, 150, 150];

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

/// The folder of one set of phantoms below `folder`; its name tells everything that they depend on.
fn place(folder: &Path, part: &str, size: usize, count: &str, seed: u64) -> PathBuf {
    folder.join(format!("{part}-{size}px-{count}-seed{seed}-drawing{}", shards::DRAWING))
}

/// The shards below `folder`: trained on, held out.
fn places(folder: &Path, what: Phantoms) -> [PathBuf; 2] {
    [("train", TRAIN_SEED, what.train), ("held-out", HELD_OUT_SEED, what.held_out)]
        .map(|(part, seed, count)| place(folder, part, what.size, &count.to_string(), seed))
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
///
/// # Errors
/// If a folder is in use, damaged or cannot be written, or drawing is cancelled.
pub fn phantoms(
    folder: &Path,
    what: Phantoms,
    progress: &(dyn Fn(usize, usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<Data, Error> {
    let drawing = Drawing { size: what.size, threads: what.threads, progress, cancelled };
    let [train, held_out] = places(folder, what);
    let train =
        drawing.opened(&train, Style::Training, TRAIN_SEED, [what.train, 0, 0], || shards::tokenizer(TRAIN_SEED))?;
    let tokenizer = || Tokenizer::load(&train.tokenizer_path(), true);
    let held_out = drawing.opened(&held_out, Style::Training, HELD_OUT_SEED, [0, what.held_out, 0], tokenizer)?;
    Ok(Data { train, held_out })
}

/// Phantoms of the evaluation style below `folder`, drawn and packed or opened as by [`phantoms`]: one data set with
/// `counts` films for training (of heads and probes), validation and test, no patient in two of them. It is tokenised
/// as the phantoms of [`phantoms`] are, whatever their count and size.
///
/// # Errors
/// If the folder is in use, damaged or cannot be written, or drawing is cancelled.
pub fn evaluation_phantoms(
    folder: &Path,
    size: usize,
    counts: [usize; 3],
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<Arc<Dataset>, Error> {
    let place = place(folder, "evaluation", size, &counts.map(|count| count.to_string()).join("-"), EVALUATION_SEED);
    let drawing = Drawing { size, threads, progress, cancelled };
    drawing.opened(&place, Style::Evaluation, EVALUATION_SEED, counts, || shards::tokenizer(TRAIN_SEED))
}

/// The folder given to [`phantoms`], if `train` is the set for training that was drawn there.
pub fn drawn_in(train: &Path) -> Option<&Path> {
    let name = train.file_name()?.to_str()?;
    (name.starts_with("train-") && name.contains("-drawing")).then(|| train.parent()).flatten()
}

/// How sets of phantoms are drawn.
struct Drawing<'a> {
    size: usize,
    threads: usize,
    progress: &'a (dyn Fn(usize, usize) + Sync),
    cancelled: &'a AtomicBool,
}

impl Drawing<'_> {
    /// Opens the data set in the folder `out`, which is drawn first if it is not there.
    fn opened(
        &self,
        out: &Path,
        style: Style,
        seed: u64,
        counts: [usize; 3],
        tokenizer: impl FnOnce() -> Result<Tokenizer, data::Error> + Send,
    ) -> Result<Arc<Dataset>, Error> {
        if !out.join(MANIFEST).is_file() {
            let pool = crate::base::threads::pool(self.threads).map_err(Error::Threads)?;
            let all = counts.iter().sum();
            pool.install(|| {
                let tokenizer = &tokenizer()?;
                let phantoms = shards::Phantoms { style, counts, seed, size: self.size, tokenizer };
                shards::pack(out, &phantoms, &|done| (self.progress)(done, all), self.cancelled)
            })?;
        }
        Ok(Arc::new(Dataset::open(out)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use std::collections::{BTreeSet, HashMap, HashSet};

    const SIZE: usize = 32;

    /// Pieces of a data set, each with how often it occurs.
    fn pieces(dataset: &Dataset) -> HashMap<u32, usize> {
        let mut counts = HashMap::new();
        (0..dataset.len()).flat_map(|film| dataset.tokens(film)).for_each(|&id| *counts.entry(id).or_default() += 1);
        counts
    }

    #[test]
    fn evaluation_phantoms_are_others_and_of_every_label() {
        let folder = std::env::temp_dir().join(format!("g2d-quickstart-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let never = AtomicBool::new(false);
        let drawn = |part: &str, counts: [usize; 3], threads: usize| {
            evaluation_phantoms(&folder.join(part), SIZE, counts, threads, &|_, _| {}, &never).unwrap()
        };
        let what = Phantoms { train: 1000, held_out: 1, size: SIZE, threads: 0 };
        let train = phantoms(&folder.join("all"), what, &|_, _| {}, &never).unwrap().train;
        let others = drawn("all", EVALUATION, 0);
        let tokenizers = [&train, &others].map(|dataset| std::fs::read(dataset.tokenizer_path()).unwrap());
        assert_eq!(tokenizers[0], tokenizers[1]);
        // The same whatever the threads. Counts that divide a patient's two films keep both in one split.
        let few = drawn("one", [9, 5, 5], 1);
        assert_eq!(few.digest(), drawn("two", [9, 5, 5], 2).digest());

        let labels = others.label_counts().unwrap();
        assert_eq!((labels.films, labels.not_stated, labels.labels.len()), (EVALUATION, [0; 3], 8));
        assert!(labels.labels.keys().eq(train.label_counts().unwrap().labels.keys()));
        assert!(labels.labels.values().flatten().all(|&films| films >= 5), "{labels:?}");

        let texts: HashSet<String> = (0..train.len()).map(|index| train.record(index).unwrap().text).collect();
        for dataset in [&others, &few] {
            let mut patients: HashMap<String, Split> = HashMap::new();
            for film in (0..dataset.len()).map(|index| dataset.record(index).unwrap()) {
                assert!(!texts.contains(&film.text), "{}", film.text);
                assert_eq!(*patients.entry(film.patient_id.clone()).or_insert(film.split), film.split, "{}", film.id);
                let normal = film.findings == "No Finding";
                let marked = film.mask.unwrap().iter().any(|&value| value != 0);
                assert_eq!((film.boxes.is_empty(), marked), (normal, !normal), "{}", film.id);
                let boxed: BTreeSet<&str> = film.boxes.iter().map(|it| it.label.as_str()).collect();
                assert!(normal || film.labels().collect::<BTreeSet<_>>() == boxed, "{}", film.id);
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();

        let (known, said) = (pieces(&train), pieces(&others));
        let all: usize = said.values().sum();
        let new: usize = said.iter().filter(|(id, _)| !known.contains_key(id)).map(|(_, count)| count).sum();
        let unknown = said.get(&1).copied().unwrap_or_default();
        assert!(unknown * 100 < all, "{unknown} of {all} tokens are [UNK]");
        assert!(new * 3 < all, "{new} of {all} tokens are pieces that training never showed");
    }
}
