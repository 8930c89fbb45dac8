//! What `build.rs` and the library both know of compiling `kernels/`.

use std::path::Path;
use std::process::Command;

use super::manifest::{self, ManifestError, Source};

/// Compiles a source, with `folder` for what the compiler writes: the PTX without places on this machine, and the
/// compiler's version.
pub fn compile(nvcc: &Path, source: &Source, folder: &Path) -> Result<(String, String), ManifestError> {
    let fault = |why: String| ManifestError::Wrong(format!("{}: {}: {why}", source.path.display(), nvcc.display()));
    let run = |command: &mut Command| {
        let output = command.output().map_err(|error| fault(error.to_string()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(fault(text(&output.stderr))) }
    };
    let compiled = folder.join("compiled.ptx");
    run(Command::new(nvcc).args(source.flags()).arg(&source.path).arg("-o").arg(&compiled))?;
    let version = run(Command::new(nvcc).arg("--version"))?;
    let version = version.split_whitespace().find_map(|word| word.strip_prefix('V')).unwrap_or("unknown").to_owned();
    Ok((without_paths(&manifest::read(&compiled)?), version))
}

/// PTX with line numbers names files by absolute paths with dates, and holds a section of strings that depend on them:
/// keeps the files' bare names and the lines, drops the rest, so that every machine makes the same text.
fn without_paths(ptx: &str) -> String {
    let mut text = String::new();
    let mut in_section = false;
    for line in ptx.lines() {
        in_section |= line.trim_start().starts_with(".section");
        if in_section {
            in_section = !line.trim_end().ends_with('}');
            continue;
        }
        let file = line.trim_start().strip_prefix(".file").and_then(|rest| {
            let mut quoted = rest.split('"');
            Some((quoted.next()?.trim(), quoted.next()?.rsplit(['/', '\\']).next()?))
        });
        match file {
            Some((number, name)) => text += &format!("\t.file {number} \"{name}\"\n"),
            // Which function was inlined is told by a label in the dropped section.
            None if line.trim_start().starts_with(".loc") => {
                text += &format!("{}\n", line.split(',').next().unwrap_or(line))
            }
            None => text += &format!("{line}\n"),
        }
    }
    text
}
