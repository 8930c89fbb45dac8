//! Checkpoints of a run: `RUN/checkpoints/step-00000100/` with `weights.safetensors` (published names),
//! `moments.safetensors` and `progress.json`. A folder is written under another name and renamed when it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Checkpoints that are kept; older ones are deleted.
const KEPT: usize = 3;

/// Name of the file of weights in a checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// Name of the file of Adam's moments in a checkpoint.
pub const MOMENTS: &str = "moments.safetensors";
const PROGRESS: &str = "progress.json";

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
    #[error("{path}: {why}; delete this checkpoint's folder to resume from the one before it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Writes a checkpoint of `run`: `fill` writes weights and moments into the folder it is given. Returns the finished
/// folder and deletes the oldest ones.
pub fn save<H: Serialize, E: From<CheckpointError>>(
    run: &Path,
    progress: &Progress<H>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let all = run.join("checkpoints");
    let finished = all.join(format!("step-{:08}", progress.step));
    let beside = all.join(format!(".step-{:08}.unfinished", progress.step));
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io(&beside))?;
    }
    fs::create_dir_all(&beside).map_err(io(&beside))?;
    fill(&beside)?;
    let path = beside.join(PROGRESS);
    let text = serde_json::to_vec(progress).unwrap_or_default();
    super::write_beside(&path, &text).map_err(io(&path))?;
    if finished.exists() {
        fs::remove_dir_all(&finished).map_err(io(&finished))?;
    }
    fs::rename(&beside, &finished).map_err(io(&finished))?;
    File::open(&all).and_then(|folder| folder.sync_all()).map_err(io(&all))?;
    let mut steps = list(run)?;
    steps.truncate(steps.len().saturating_sub(KEPT));
    for old in steps {
        fs::remove_dir_all(&old).map_err(io(&old))?;
    }
    Ok(finished)
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

/// Reads the progress of a checkpoint.
pub fn progress<H: DeserializeOwned>(checkpoint: &Path) -> Result<Progress<H>, CheckpointError> {
    let path = checkpoint.join(PROGRESS);
    let text = fs::read(&path).map_err(io(&path))?;
    serde_json::from_slice(&text).map_err(|error| CheckpointError::Damaged { path, why: error.to_string() })
}
