//! Opening files that a user names: regular files only, so that a folder, a pipe or a device is an error and not a
//! program that waits forever; and finding those below a folder.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::{Path, PathBuf};

/// Opens a file and tells its length in bytes.
///
/// # Errors
/// If there is none, it may not be read, or it is a folder, a pipe or a device.
pub fn open(path: &Path) -> Result<(File, u64)> {
    // Asked before opening: a pipe nobody writes to would wait here.
    let data = std::fs::metadata(path)?;
    if !data.is_file() {
        let what = if data.is_dir() { "it is a folder" } else { "it is a pipe or a device" };
        return Err(Error::other(format!("{what}, not a file")));
    }
    Ok((File::open(path)?, data.len()))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], or if it is longer.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length.min(limit) as usize)?;
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Error::other(format!("{length} bytes are too many for this file")));
    }
    Ok(bytes)
}

/// Every file below a folder, by path within it, in order. Links to files are followed, links to folders are not.
///
/// # Errors
/// If a folder cannot be read.
pub fn below(root: &Path) -> std::result::Result<Vec<PathBuf>, super::Error> {
    let (mut files, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = open.pop() {
        let path = root.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(super::Error::io("read", &path))? {
            let entry = entry.map_err(super::Error::io("read", &path))?;
            let kind = entry.file_type().map_err(super::Error::io("read", &path))?;
            if kind.is_dir() {
                open.push(folder.join(entry.file_name()));
            } else if kind.is_file() || entry.path().is_file() {
                files.push(folder.join(entry.file_name()));
            }
        }
    }
    files.sort();
    Ok(files)
}
