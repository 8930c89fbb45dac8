//! Opening files that a user names: regular files only, so that a folder, a pipe or a device is an error and not a
//! program that waits forever.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::Path;

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
