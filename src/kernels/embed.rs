//! What `build.rs` makes of `ptx/`: the Rust table of what ships, and what it says about it. Part of the build script alone;
//! `tests/build_script.rs` runs it on small folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::compile;
use super::manifest::{self, Line, ManifestError, Source};

/// What becomes of one file.
struct Shipped {
    line: Line,
    /// As in `kernels::Origin`.
    origin: &'static str,
    /// Whether the manifest lists it just so.
    listed: bool,
    text: String,
}

/// The compiler that `kernels/toolchain.sh` installed in its own folder of a checkout, if it finished there.
pub fn installed(root: &Path) -> Option<PathBuf> {
    let toolchain = root.join(TOOLCHAIN);
    if !toolchain.join("complete").is_file() {
        return None;
    }
    let pythons = toolchain.join("lib").read_dir().ok()?.flatten();
    let mut found: Vec<PathBuf> = pythons
        .map(|python| python.path().join("site-packages/nvidia/cu13/bin/nvcc"))
        .filter(|nvcc| nvcc.is_file())
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Where `kernels/toolchain.sh` installs, unless told otherwise.
pub const TOOLCHAIN: &str = "target/toolchain";

/// What was embedded.
#[derive(Debug)]
pub struct Embedded {
    /// What to tell: one line with the counts, and one for each file that is not as listed or left out.
    pub said: Vec<String>,
    /// Whether files were left out for want of a compiler.
    pub lacks_compiler: bool,
}

/// Writes the table of the checkout `root` to the folder `out`; what is stale is compiled, if there is a compiler.
pub fn table(root: &Path, out: &Path, nvcc: Option<&Path>) -> Result<Embedded, ManifestError> {
    let mut lines = manifest::parse(&manifest::read(&root.join("ptx/MANIFEST"))?)?;
    let mut take = |path: &str| lines.iter().position(|line| line.path == path).map(|at| lines.remove(at));
    let sources = manifest::sources(root)?;
    let mut shipped = Vec::new();
    let mut stale = Vec::new();
    for path in manifest::committed(root)? {
        if path.starts_with("hand/") {
            shipped.push(by_hand(root, &path, take(&path))?);
        } else if sources.iter().all(|source| source.output != path) {
            return Err(ManifestError::Wrong(format!("{path} has no source in kernels/; delete it")));
        }
    }
    for source in sources {
        match (unchanged(root, &source, take(&source.output))?, nvcc) {
            (Some(committed), _) => shipped.push(committed),
            (None, Some(nvcc)) => shipped.push(compiled(nvcc, &source, out)?),
            (None, None) => stale.push(source.output),
        }
    }
    if let Some(line) = lines.first() {
        return Err(ManifestError::Wrong(format!("{} is listed but absent; restore it or strike its line", line.path)));
    }
    write(&shipped, &stale, out)?;
    Ok(Embedded { said: said(&shipped, &stale), lacks_compiler: !stale.is_empty() })
}

/// A hand-written file as it stands.
fn by_hand(root: &Path, path: &str, listed: Option<Line>) -> Result<Shipped, ManifestError> {
    let text = manifest::read(&root.join("ptx").join(path))?;
    let line = line(path, &text, "-", "hand", "-")?;
    Ok(Shipped { listed: listed.as_ref() == Some(&line), line, origin: "Hand", text })
}

/// The committed text, if it is the one that the manifest lists, made from these sources with these flags.
fn unchanged(root: &Path, source: &Source, listed: Option<Line>) -> Result<Option<Shipped>, ManifestError> {
    let path = root.join("ptx").join(&source.output);
    let Some(listed) = listed.filter(|_| path.is_file()) else { return Ok(None) };
    let text = manifest::read(&path)?;
    let line = line(&source.output, &text, &source.digest, &listed.compiler, &source.flags().join(","))?;
    Ok((line == listed).then_some(Shipped { line, origin: "Committed", listed: true, text }))
}

/// Compiles a source that the manifest does not list as it is.
fn compiled(nvcc: &Path, source: &Source, out: &Path) -> Result<Shipped, ManifestError> {
    let (text, version) = compile::compile(nvcc, source, out)?;
    let line = line(&source.output, &text, &source.digest, &format!("nvcc-{version}"), &source.flags().join(","))?;
    Ok(Shipped { line, origin: "Compiled", listed: false, text })
}

/// The line that the manifest should have.
fn line(path: &str, text: &str, sources: &str, compiler: &str, flags: &str) -> Result<Line, ManifestError> {
    let symbols: Vec<String> = manifest::entries(text)?.into_iter().map(|entry| entry.symbol).collect();
    let (path, sources, compiler, flags) = (path.into(), sources.into(), compiler.into(), flags.into());
    Ok(Line { path, digest: manifest::digest(text), sources, compiler, flags, symbols: symbols.join(",") })
}

/// One line, and one for each file that is not as listed.
fn said(shipped: &[Shipped], stale: &[String]) -> Vec<String> {
    let count = |origin| shipped.iter().filter(|file| file.origin == origin).count();
    let (hand, compiled, committed) = (count("Hand"), count("Compiled"), count("Committed"));
    let left_out = if stale.is_empty() { String::new() } else { format!(", {} left out", stale.len()) };
    let mut said =
        vec![format!("ptx: {hand} written by hand, {compiled} compiled now, {committed} embedded{left_out}")];
    for file in shipped.iter().filter(|file| !file.listed) {
        said.push(format!("ptx/{} is not as listed; run `g2d kernels --write`", file.line.path));
    }
    let advice = "run kernels/toolchain.sh, or set G2D_NVCC to a compiler";
    said.extend(stale.iter().map(|path| format!("ptx/{path} is not made from these sources; {advice}")));
    said
}

/// The Rust table `kernels.rs`, beside the texts that it embeds.
fn write(shipped: &[Shipped], stale: &[String], out: &Path) -> Result<(), ManifestError> {
    let save = |name: &str, text: &str| {
        fs::write(out.join(name), text)
            .map_err(|error| ManifestError::Wrong(format!("{name} cannot be written: {error}")))
    };
    let mut table = String::from("/// Every file that is shipped.\npub static MODULES: &[Module] = &[\n");
    for (at, Shipped { line, origin, listed, text }) in shipped.iter().enumerate() {
        let name = format!("module{at}.ptx");
        save(&name, text)?;
        let target = text.lines().find_map(|line| line.strip_prefix(".target ")).unwrap_or_default();
        let entries = manifest::entries(text)?.into_iter().map(|entry| {
            let (symbol, bytes, align) = (entry.symbol, entry.parameter_bytes, entry.parameter_align);
            format!("Entry {{ symbol: {symbol:?}, parameter_bytes: {bytes}, parameter_align: {align} }}, ")
        });
        table += &format!(
            "    Module {{ path: {:?}, line: {:?}, target: {:?}, origin: Origin::{origin}, listed: {listed}, \
             text: include_str!({:?}), entries: &[{}] }},\n",
            line.path,
            line.to_string(),
            target.split([',', ' ']).next().unwrap_or_default(),
            out.join(&name),
            entries.collect::<String>()
        );
    }
    table += &format!(
        "];\n\n/// Files that are not shipped, as their sources have changed.\npub static STALE: &[&str] = &{stale:?};\n"
    );
    save("kernels.rs", &table)
}
