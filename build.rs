//! Checks `ptx/` against `ptx/MANIFEST`: what is built, tested and shipped is exactly what is listed there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=ptx");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("ptx");
    if let Err(why) = check(&folder) {
        eprintln!("ptx/MANIFEST: {why}");
        process::exit(1);
    }
}

/// Every file listed once, present, and of the digest that its line states; no file unlisted.
fn check(folder: &Path) -> Result<(), String> {
    let manifest = fs::read_to_string(folder.join("MANIFEST")).map_err(|error| error.to_string())?;
    let mut listed = BTreeMap::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut fields = line.split_whitespace();
        let (Some(path), Some(digest)) = (fields.next(), fields.next()) else {
            return Err(format!("a line lacks path or digest: {line}"));
        };
        if listed.insert(folder.join(path), digest.to_owned()).is_some() {
            return Err(format!("{path} is listed twice"));
        }
    }
    for path in files(folder).map_err(|error| error.to_string())? {
        let digest = listed.remove(&path).ok_or_else(|| format!("{} is not listed", path.display()))?;
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            return Err(format!("{} is not the file that was listed; write it anew with its digest", path.display()));
        }
    }
    match listed.keys().next() {
        None => Ok(()),
        Some(absent) => Err(format!("{} is listed but absent", absent.display())),
    }
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.file_name().is_none_or(|name| name != "MANIFEST") {
            found.push(path);
        }
    }
    Ok(found)
}
