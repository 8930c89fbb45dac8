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
use std::path::Path;

pub use folder::CheckpointError;
pub use tensors::TensorFile;
pub use weights::{Loaded, Numbers, Others, WeightsError, load, save, tensor_names};

/// Writes a file beside its place, syncs and renames it: it appears whole or not at all.
pub fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| drop(fs::remove_file(&beside)))
}
