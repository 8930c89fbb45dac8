//! Weights and checkpoints in files: names, orders, reading and writing, and what others read and write.
pub mod export;
pub mod folder;
pub mod import;
pub mod inspect;
pub mod names;
mod onnx;
mod pickle;
pub mod tensors;
mod torch;
pub mod weights;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use folder::CheckpointError;
pub use tensors::TensorFile;
pub use weights::{Loaded, Numbers, Others, WeightsError, load, save, tensor_names};

/// What a file or folder is called while it is written.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

/// Fills a folder beside its place and renames it: it appears whole or not at all. An empty one is replaced; `io` makes an
/// error of what the file system says.
pub fn folder_beside<T, E>(
    folder: &Path,
    io: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let beside = beside(folder);
    // A process of the same number that was killed may have left one.
    let _ = fs::remove_dir_all(&beside);
    let made = fs::create_dir_all(&beside).map_err(&io).and_then(|()| fill(&beside)).and_then(|made| {
        let _ = fs::remove_dir(folder);
        fs::rename(&beside, folder).map(|()| made).map_err(&io)
    });
    made.inspect_err(|_| drop(fs::remove_dir_all(&beside)))
}

/// Writes a file beside its place, syncs and renames it: it appears whole or not at all.
pub fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| weights::sync_directory(path))
        .inspect_err(|_| drop(fs::remove_file(&beside)))
}
