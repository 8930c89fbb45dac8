//! `--data s3://bucket/folder`: packed data in an object store.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The folder of a packed data set: `data` itself, or where its files are, once fetched, if it is an address in an object store.
pub(super) fn local(data: &Path) -> Result<PathBuf, Error> {
    match data.to_str().filter(|data| data.starts_with("s3://")) {
        Some(url) => fetched(url),
        None => Ok(data.into()),
    }
}

/// Refuses an address in an object store as a place to write.
pub(super) fn refuse_to_write(out: &Path) -> Result<(), Error> {
    if !out.starts_with("s3:") {
        return Ok(());
    }
    let what = "give --out a folder of this machine and copy it there, dataset.json last (docs/shards.md)";
    Err(Error::Usage(format!("{}: an object store is not written to; {what}", out.display())))
}

#[cfg(not(feature = "s3"))]
fn fetched(url: &str) -> Result<PathBuf, Error> {
    let what = "this g2d was built without object stores; build it with cargo build --release --features s3";
    Err(Error::Usage(format!("{url}: {what}, or copy the packed folder to this machine")))
}

#[cfg(feature = "s3")]
fn fetched(url: &str) -> Result<PathBuf, Error> {
    use crate::data::pack::Progress;

    let home = std::env::home_dir().map(|home| home.join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or(home);
    let what = "there is no folder to fetch to; set XDG_CACHE_HOME";
    let cache = cache.ok_or_else(|| Error::Usage(format!("{url}: {what}")))?.join("g2d");
    let folder = super::pack::with_bar("fetching {bar:30} {pos}/{len} MiB {eta}", |progress| {
        let mib = |bytes: u64| (bytes >> 20) as usize;
        let told = |done: u64, total: u64| progress(Progress { done: mib(done), total: mib(total) });
        crate::data::store::fetch(url, &cache, &told, &super::CANCELLED)
    })?;
    eprintln!("{url} is in {}", folder.display());
    Ok(folder)
}
