//! Whether `ptx/` is what it says it is.

use std::ffi::OsStr;
use std::path::Path;

use super::compile::compile;
use super::manifest;
use super::write::{WriteError, assemble};
use super::{MODULES, Origin, STALE, resources};

/// Checks what this program carries: every text listed as it is, none left out; where `root` is a checkout, that its ptx/
/// holds the same. With an assembler each must assemble without spills or warnings, with a compiler each source of the
/// checkout must give the committed text to the byte. What was checked and what could not be, one sentence each.
pub fn check(root: &Path, nvcc: Option<&OsStr>, ptxas: Option<&OsStr>) -> Result<Vec<String>, WriteError> {
    if !STALE.is_empty() {
        return Err(WriteError::Stale(STALE));
    }
    if let Some(module) = MODULES.iter().find(|module| !module.listed) {
        return Err(WriteError::Unlisted(module.path));
    }
    let mut said = vec![format!("{} texts of this program: listed when it was built, none left out", MODULES.len())];
    let there = root.join("ptx/MANIFEST").is_file();
    if there {
        same_as(root)?;
        said.push(format!("{} texts of ptx/ in this folder: the same, and listed", MODULES.len()));
    } else {
        said.push("not compared with a checkout: there is no ptx/MANIFEST in this folder".into());
    }
    match ptxas {
        Some(ptxas) => {
            let assembled = MODULES.iter().map(|module| Ok((module, assemble(module, ptxas)?)));
            let assembled: Vec<_> = assembled.collect::<Result<_, WriteError>>()?;
            if resources::record(&assembled) != resources::record(&[]) {
                return Err(WriteError::Resources);
            }
            said.push(format!("{} texts assemble without spills or warnings, as recorded", MODULES.len()));
        }
        None => said.push("not assembled: G2D_PTXAS names no assembler (kernels/toolchain.sh fetches one)".into()),
    }
    let Some(nvcc) = nvcc.filter(|_| there) else {
        said.push(match there {
            true => "not compiled: G2D_NVCC names no compiler (kernels/toolchain.sh fetches one)".into(),
            false => "not compiled: there are no sources in this folder".into(),
        });
        return Ok(said);
    };
    let folder = std::env::temp_dir().join(format!("g2d-kernels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| WriteError::Unwritable(folder.clone(), error))?;
    let same = manifest::sources(root).map_err(WriteError::from).and_then(|sources| {
        for source in &sources {
            let (text, _) = compile(Path::new(nvcc), source, &folder)?;
            let module = MODULES.iter().find(|module| module.path == source.output && module.origin != Origin::Hand);
            if module.is_none_or(|module| module.text != text) {
                return Err(WriteError::Differs(source.output.clone()));
            }
        }
        Ok(sources.len())
    });
    // Nobody looks for it any more.
    let _ = std::fs::remove_dir_all(&folder);
    said.push(format!("{} sources give the committed texts to the byte", same?));
    Ok(said)
}

/// Whether `ptx/` of a checkout holds just what this program carries, and lists it so.
fn same_as(root: &Path) -> Result<(), WriteError> {
    let folder = root.join("ptx");
    let manifest = manifest::read(&folder.join("MANIFEST"))?;
    for module in MODULES {
        let path = folder.join(module.path);
        if manifest::read(&path)? != module.text {
            return Err(WriteError::Elsewhere(path));
        }
        if !manifest.lines().any(|line| line == module.line) {
            return Err(WriteError::Unlisted(module.path));
        }
    }
    let carried = |path: &String| MODULES.iter().any(|module| module.path == path);
    match manifest::committed(root)?.into_iter().find(|path| !carried(path)) {
        Some(path) => Err(WriteError::Elsewhere(folder.join(path))),
        None => Ok(()),
    }
}
