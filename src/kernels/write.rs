//! Brings `ptx/` up to date: what was compiled while this program was built, and a manifest that lists everything.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::manifest::{self, ManifestError};
use super::{MODULES, Module, Origin, STALE, resources};

/// Why `ptx/` was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder is not the repository this program was built from.
    #[error("{0} was changed since this program was built, or is that of another checkout; build and run in one place")]
    Elsewhere(PathBuf),
    /// Texts that this program does not have.
    #[error("not compiled: {}; build with G2D_NVCC set (kernels/toolchain.sh)", .0.join(", "))]
    Stale(&'static [&'static str]),
    /// A text that is not as the manifest lists it.
    #[error("ptx/{0} is not as ptx/MANIFEST lists it; run `g2d kernels --write`")]
    Unlisted(&'static str),
    /// Kernels that take something else than what is recorded.
    #[error("ptx/RESOURCES is not what the assembler says of ptx/; run `g2d kernels --write` with G2D_PTXAS set")]
    Resources,
    /// A source that gives another text than the committed one.
    #[error("ptx/{0} is not what its source compiles to; build with G2D_NVCC set and run `g2d kernels --write`")]
    Differs(String),
    /// The assembler refuses a text, or would spill registers to memory.
    #[error("ptx/{path}: {why}")]
    Assembler {
        /// Path in `ptx/`.
        path: &'static str,
        /// What it said.
        why: String,
    },
    /// The folder or its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that cannot be written.
    #[error("{0} cannot be written: {1}")]
    Unwritable(PathBuf, io::Error),
}

/// Writes `ptx/` of the repository at `root`, after `ptxas` (if one is given) has assembled every text without spills.
/// The paths in `ptx/` that were written; the manifest and what kernels take are among them if they changed.
pub fn write(root: &Path, ptxas: Option<&OsStr>) -> Result<Vec<String>, WriteError> {
    if !STALE.is_empty() {
        return Err(WriteError::Stale(STALE));
    }
    let folder = root.join("ptx");
    for module in MODULES.iter().filter(|module| module.origin != Origin::Compiled) {
        let path = folder.join(module.path);
        if manifest::read(&path)? != module.text {
            return Err(WriteError::Elsewhere(path));
        }
    }
    let assembled = match ptxas {
        Some(ptxas) => MODULES.iter().map(|module| Ok((module, assemble(module, ptxas)?))).collect(),
        None => Ok::<_, WriteError>(Vec::new()),
    };
    let resources = resources::record(&assembled?);
    let mut written = Vec::new();
    for module in MODULES.iter().filter(|module| module.origin == Origin::Compiled) {
        save(&folder.join(module.path), module.text)?;
        written.push(module.path.to_owned());
    }
    let old = manifest::read(&folder.join("MANIFEST"))?;
    let mut lines: Vec<&str> = MODULES.iter().map(|module| module.line).collect();
    lines.sort_unstable();
    let remarks = old.lines().take_while(|line| line.starts_with('#'));
    let new: String = remarks.chain(lines).map(|line| format!("{line}\n")).collect();
    if new != old {
        save(&folder.join("MANIFEST"), &new)?;
        written.push("MANIFEST".to_owned());
    }
    if resources != manifest::read(&folder.join("RESOURCES"))? {
        save(&folder.join("RESOURCES"), &resources)?;
        written.push("RESOURCES".to_owned());
    }
    Ok(written)
}

/// Whether the vendor's assembler takes the text and keeps everything in registers; what its kernels take, as
/// [`resources`] records it.
pub(super) fn assemble(module: &'static Module, ptxas: &OsStr) -> Result<String, WriteError> {
    let fault = |why: String| WriteError::Assembler { path: module.path, why };
    let text = std::env::temp_dir().join(format!("g2d-{}.ptx", std::process::id()));
    fs::write(&text, module.text).map_err(|error| WriteError::Unwritable(text.clone(), error))?;
    let (cubin, arch) = (text.with_extension("cubin"), format!("-arch={}", module.target));
    let output = Command::new(ptxas).arg("-v").arg(arch).arg(&text).arg("-o").arg(&cubin).output();
    for file in [&text, &cubin] {
        // What was refused left no output behind.
        let _ = fs::remove_file(file);
    }
    let output = output.map_err(|error| fault(format!("{}: {error}", ptxas.display())))?;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let spills = said.lines().find(|line| line.contains("bytes spill") && !line.contains(" 0 bytes spill stores"));
    match spills {
        _ if !output.status.success() => Err(fault(said.trim().to_owned())),
        Some(spills) => Err(fault(format!("spills: {}", spills.trim()))),
        None => match said.lines().find(|line| line.contains("warning")) {
            Some(line) => Err(fault(line.trim().into())),
            None => Ok(resources::lines(&said)),
        },
    }
}

/// Writes a file beside its place, then moves it there.
fn save(path: &Path, text: &str) -> Result<(), WriteError> {
    let beside = path.with_extension("new");
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| WriteError::Unwritable(path.to_owned(), error))
}
