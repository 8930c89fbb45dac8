//! Makes the table of shipped kernels out of `ptx/`: what is built, tested and shipped is what `ptx/MANIFEST` lists.
//!
//! A checkout needs no compiler. Files written by hand are embedded as they stand. A file compiled from `kernels/` is
//! embedded if it and its sources are those that the manifest lists; if not, it is compiled anew where `G2D_NVCC` names
//! a compiler (`kernels/toolchain.sh` fetches one), and left out with a warning where not. `g2d kernels --write` moves
//! what was compiled into `ptx/` and lists everything anew. No GPU is looked for.

#[path = "src/kernels/compile.rs"]
mod compile;
#[path = "src/kernels/manifest.rs"]
mod manifest;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use manifest::{Line, ManifestError, Source};

fn main() {
    for path in ["ptx", "kernels", "src/kernels/manifest.rs", "src/kernels/compile.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=G2D_NVCC");
    let folder = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR"), folder("OUT_DIR"));
    if let Err(why) = table(&root, &out) {
        eprintln!("ptx: {why}");
        process::exit(1);
    }
}

/// What becomes of one file.
struct Shipped {
    line: Line,
    /// As in `kernels::Origin`.
    origin: &'static str,
    /// Whether the manifest lists it just so.
    listed: bool,
    text: String,
}

/// Writes the table to the output folder and says in one line what is in it.
fn table(root: &Path, out: &Path) -> Result<(), ManifestError> {
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
    let nvcc = env::var_os("G2D_NVCC").map(PathBuf::from);
    for source in sources {
        match (unchanged(root, &source, take(&source.output))?, &nvcc) {
            (Some(committed), _) => shipped.push(committed),
            (None, Some(nvcc)) => shipped.push(compiled(nvcc, &source, out)?),
            (None, None) => stale.push(source.output),
        }
    }
    if let Some(line) = lines.first() {
        return Err(ManifestError::Wrong(format!("{} is listed but absent; restore it or strike its line", line.path)));
    }
    say(&shipped, &stale);
    write(&shipped, &stale, out)
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
fn say(shipped: &[Shipped], stale: &[String]) {
    let count = |origin| shipped.iter().filter(|file| file.origin == origin).count();
    let (hand, compiled, committed) = (count("Hand"), count("Compiled"), count("Committed"));
    let left_out = if stale.is_empty() { String::new() } else { format!(", {} left out", stale.len()) };
    println!("cargo::warning=ptx: {hand} written by hand, {compiled} compiled now, {committed} embedded{left_out}");
    for file in shipped.iter().filter(|file| !file.listed) {
        println!("cargo::warning=ptx/{} is not as listed; run `g2d kernels --write`", file.line.path);
    }
    for path in stale {
        println!("cargo::warning=ptx/{path} is not made from these sources; set G2D_NVCC (kernels/toolchain.sh)");
    }
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
