//! Checkpoints of a run: `RUN/checkpoints/step-00000100/` with `weights.safetensors` (published names),
//! `moments.safetensors`, `progress.json`, and `digests.b3`, the BLAKE3 digests of these in the format of `b3sum`.
//! A folder is written under another name and renamed when it is whole; it is read only if the digests agree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Checkpoints that are kept; older ones are deleted.
pub const KEPT: usize = 3;

/// Name of the file of weights in a checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// Name of the file of Adam's moments in a checkpoint.
pub const MOMENTS: &str = "moments.safetensors";
const PROGRESS: &str = "progress.json";
const DIGESTS: &str = "digests.b3";
/// A digest of each stands in [`DIGESTS`], in this order.
const FILES: [&str; 3] = [WEIGHTS, MOMENTS, PROGRESS];

/// What a run needs besides weights and moments to continue exactly: data order, augmentation and learning rate are
/// functions of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress<H> {
    /// Version of the crate that wrote it.
    pub version: String,
    /// Steps taken.
    pub step: u64,
    /// Digest of the data.
    pub data_digest: String,
    /// What the run remembers of earlier steps for its metrics.
    pub history: H,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("{path}: {source}; the run's folder must be readable and writable")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A damaged or foreign file.
    #[error("{path}: {why}; {}", if *only { ALONE } else { EARLIER })]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Whether no checkpoint of its run lies before this one.
        only: bool,
    },
}

const EARLIER: &str = "delete this checkpoint's folder to resume from the one before it";
const ALONE: &str = "the run has no checkpoint before it, so its steps are lost: restore the file from a copy, or delete this \
                     checkpoint's folder, and --resume starts at the first step";

impl CheckpointError {
    /// What is wrong with a file in a checkpoint's folder.
    fn damaged(checkpoint: &Path, name: &str, why: impl Into<String>) -> Self {
        let run = checkpoint.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let only = !list(run).is_ok_and(|all| all.iter().any(|other| other.file_name() < checkpoint.file_name()));
        Self::Damaged { path: checkpoint.join(name), why: why.into(), only }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Writes a checkpoint of `run`: `fill` writes weights and moments into the folder it is given. Returns the finished
/// folder and deletes the oldest ones. Nothing is left of a checkpoint that cannot be written.
///
/// ```
/// use g2d::checkpoint::CheckpointError;
/// use g2d::checkpoint::folder::{self, MOMENTS, Progress, WEIGHTS};
///
/// let run = std::env::temp_dir().join(format!("g2d-run-{}", std::process::id()));
/// let progress = Progress { version: "0.1.0".into(), step: 7, data_digest: "none".into(), history: 0.5 };
/// let checkpoint = folder::save(&run, &progress, |to| {
///     [WEIGHTS, MOMENTS].iter().for_each(|name| std::fs::write(to.join(name), "numbers").unwrap());
///     Ok::<_, CheckpointError>(())
/// })?;
///
/// folder::verify(&checkpoint)?; // every digest
/// assert_eq!(folder::newest(&run)?, Some(checkpoint.clone()));
/// assert_eq!(folder::progress::<f64>(&checkpoint)?, progress);
/// # std::fs::remove_dir_all(&run).unwrap();
/// # Ok::<(), CheckpointError>(())
/// ```
///
/// # Errors
/// If a file cannot be written.
pub fn save<H: Serialize, E: From<CheckpointError>>(
    run: &Path,
    progress: &Progress<H>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let all = run.join("checkpoints");
    let name = format!("step-{:08}", progress.step);
    let (finished, beside) = (all.join(&name), all.join(hidden(&name)));
    fs::create_dir_all(&all).map_err(io(&all))?;
    sweep(&all)?;
    let write = || {
        fs::create_dir(&beside).map_err(io(&beside))?;
        fill(&beside)?;
        let write = |name: &str, text: &[u8]| {
            let path = beside.join(name);
            super::write_beside(&path, text).map_err(io(&path))
        };
        write(PROGRESS, &serde_json::to_vec(progress).unwrap_or_default())?;
        let lines: Result<Vec<String>, _> = FILES.iter().map(|name| line(&beside, name)).collect();
        write(DIGESTS, lines?.concat().as_bytes())?;
        sync(&beside)?;
        discard(&finished)?;
        fs::rename(&beside, &finished).map_err(io(&finished))?;
        sync(&all)?;
        Ok(())
    };
    write().inspect_err(|_: &E| drop(fs::remove_dir_all(&beside)))?;
    prune(run)?;
    Ok(finished)
}

/// Deletes all but the newest checkpoints of a run. A run that is killed behind its last checkpoint has not come to it.
/// Only the process that holds the run may call it.
///
/// # Errors
/// If a folder cannot be read or deleted.
pub fn prune(run: &Path) -> Result<(), CheckpointError> {
    let mut steps = list(run)?;
    steps.truncate(steps.len().saturating_sub(KEPT));
    steps.iter().try_for_each(|old| discard(old))
}

/// The name of a folder that is not a checkpoint, not yet or no more.
fn hidden(name: &str) -> String {
    format!(".{name}.unfinished")
}

/// Removes what runs that were killed left of checkpoints. Only the process that holds the run may call it.
fn sweep(all: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(all).map_err(io(all))?.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(".step-") {
            fs::remove_dir_all(entry.path()).map_err(io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Deletes a checkpoint, if it is there; at no moment half of it looks finished.
fn discard(checkpoint: &Path) -> Result<(), CheckpointError> {
    let Some(name) = checkpoint.file_name().filter(|_| checkpoint.exists()) else { return Ok(()) };
    let aside = checkpoint.with_file_name(format!("{}.old", hidden(&name.to_string_lossy())));
    fs::rename(checkpoint, &aside).map_err(io(checkpoint))?;
    fs::remove_dir_all(&aside).map_err(io(&aside))
}

/// Makes names in a folder last; only Unix has folders that can be synced.
fn sync(folder: &Path) -> Result<(), CheckpointError> {
    match cfg!(unix) {
        true => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder)),
        false => Ok(()),
    }
}

/// The line of a file in [`DIGESTS`].
fn line(checkpoint: &Path, name: &str) -> Result<String, CheckpointError> {
    let path = checkpoint.join(name);
    let mut hasher = blake3::Hasher::new();
    File::open(&path).and_then(|file| hasher.update_reader(file).map(drop)).map_err(io(&path))?;
    Ok(format!("{}  {name}\n", hasher.finalize().to_hex()))
}

/// Compares every file of a checkpoint with its digest.
///
/// # Errors
/// If a file is missing, or is not what was written; the first such file is named.
pub fn verify(checkpoint: &Path) -> Result<(), CheckpointError> {
    let damaged = |name: &str, why: &str| Err(CheckpointError::damaged(checkpoint, name, why));
    let path = checkpoint.join(DIGESTS);
    let digests = fs::read(&path).map_err(io(&path))?;
    let mut rest = digests.as_slice();
    for name in FILES {
        let line = line(checkpoint, name)?;
        rest = match rest.strip_prefix(line.as_bytes()) {
            Some(rest) => rest,
            None if !digests.is_ascii() || rest.len() < line.len() => {
                return damaged(DIGESTS, "it is cut off or foreign");
            }
            None => return damaged(name, "the content is not what was written (digests differ)"),
        };
    }
    if rest.is_empty() { Ok(()) } else { damaged(DIGESTS, "it is longer than what was written") }
}

/// All finished checkpoints of a run, oldest first.
pub fn list(run: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let all = run.join("checkpoints");
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(&all)(error)),
    };
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?, entry.path())))
        .filter(|(_, path)| path.join(PROGRESS).is_file())
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The newest finished checkpoint of a run.
pub fn newest(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(run)?.pop())
}

/// Verifies a checkpoint and reads its progress.
///
/// # Errors
/// If a file is missing or damaged.
pub fn progress<H: DeserializeOwned>(checkpoint: &Path) -> Result<Progress<H>, CheckpointError> {
    verify(checkpoint)?;
    let path = checkpoint.join(PROGRESS);
    let text = fs::read(&path).map_err(io(&path))?;
    serde_json::from_slice(&text).map_err(|error| CheckpointError::damaged(checkpoint, PROGRESS, error.to_string()))
}
