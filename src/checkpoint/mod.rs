//! Weights and checkpoints in files: names, orders, reading and writing, and what others read and write.
pub mod beside;
pub mod export;
pub mod folder;
pub mod import;
pub mod inspect;
mod legacy;
pub mod names;
mod onnx;
mod pickle;
mod reshape;
pub mod tensors;
mod torch;
pub mod weights;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use folder::CheckpointError;
pub use tensors::TensorFile;
pub use weights::{Loaded, Numbers, Others, WeightsError, load, save, tensor_names};

/// What a file or folder is called while it is written.
fn beside(path: &Path) -> PathBuf {
    /// Threads may write the same at once.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{number}.partial", std::process::id()))
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

/// Where a file of that name is put: behind links, and in the place of nothing but a file.
fn place(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(place) if place.is_file() || place.is_dir() => Ok(place), // a folder is not replaced by a file anyway
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there and is no file; give another name")),
        Err(_) => Ok(path.to_owned()),
    }
}

/// Writes a file beside its place, syncs and renames it: it appears whole or not at all. A link is followed; what is there and
/// is no file (a device, a pipe) is refused.
pub fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &place(path)?;
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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn links_are_followed_and_what_is_no_file_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("g2d-place-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [file, link, socket] = ["file", "link", "socket"].map(|name| folder.join(name));
        write_beside(&file, b"old").unwrap();
        symlink(&file, &link).unwrap();
        write_beside(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let _listener = UnixListener::bind(&socket).unwrap();
        let refused = write_beside(&socket, b"new").unwrap_err().to_string();
        assert!(refused.contains("is no file") && !socket.is_file(), "{refused}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "nothing is left beside");
        fs::remove_dir_all(folder).unwrap();
    }
}
