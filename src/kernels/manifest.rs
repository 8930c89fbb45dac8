//! What `build.rs` and the library both know of `ptx/`: its manifest, the kernels in a PTX text, the sources behind it.
//!
//! Every line of `ptx/MANIFEST` is one file: its path in `ptx/`, the blake3 of its text, the blake3 of its sources with
//! all headers of `kernels/include`, compiler, flags joined by commas, symbols joined by commas. What was written by hand has
//! no sources and no flags (`-`), and the compiler `hand`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the folder cannot be used.
#[derive(Debug)]
pub enum ManifestError {
    /// A file that cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A line or a file that is not as it should be, and what to do.
    Wrong(String),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ManifestError {}

/// One file of `ptx/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Path in `ptx/`, with `/`.
    pub path: String,
    /// Digest of the text.
    pub digest: String,
    /// Digest of the sources; `-` for hand-written files.
    pub sources: String,
    /// Who made it: `hand`, or the compiler with its version.
    pub compiler: String,
    /// Its flags.
    pub flags: String,
    /// Its kernels.
    pub symbols: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, digest, sources, compiler, flags, symbols } = self;
        write!(f, "{path} {digest} {sources} {compiler} {flags} {symbols}")
    }
}

/// The lines of a manifest; lines that begin with # are remarks.
pub fn parse(manifest: &str) -> Result<Vec<Line>, ManifestError> {
    let mut lines: Vec<Line> = Vec::new();
    for text in manifest.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let [path, digest, sources, compiler, flags, symbols] = <[String; 6]>::try_from(fields).map_err(|fields| {
            ManifestError::Wrong(format!("ptx/MANIFEST: {} fields, six are needed: {text}", fields.len()))
        })?;
        if lines.iter().any(|line| line.path == path) {
            return Err(ManifestError::Wrong(format!("ptx/MANIFEST: {path} is listed twice; strike one line")));
        }
        lines.push(Line { path, digest, sources, compiler, flags, symbols });
    }
    Ok(lines)
}

/// A kernel and its parameter block (PTX ISA 5.1.6): where a struct is passed by value, the struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub symbol: String,
    /// Bytes from the first parameter to the end of the last.
    pub parameter_bytes: usize,
    /// The largest alignment among the parameters; 1 without any.
    pub parameter_align: usize,
}

/// The kernels of a PTX text, in its order.
pub fn entries(ptx: &str) -> Result<Vec<Entry>, ManifestError> {
    let code: String = ptx.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join(" ");
    let kernels = code.split(".entry ").skip(1).map(|kernel| {
        let end = kernel.find(['(', '{']).unwrap_or(kernel.len());
        let symbol = kernel[..end].split_whitespace().next().unwrap_or_default().to_owned();
        let parameters = kernel[end..].strip_prefix('(').and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let mut entry = Entry { symbol, parameter_bytes: 0, parameter_align: 1 };
        for parameter in parameters.split(',').filter(|parameter| !parameter.trim().is_empty()) {
            let (bytes, align) = parameter_size(parameter)
                .ok_or_else(|| ManifestError::Wrong(format!("{}: parameter `{}`?", entry.symbol, parameter.trim())))?;
            entry.parameter_bytes = entry.parameter_bytes.next_multiple_of(align) + bytes;
            entry.parameter_align = entry.parameter_align.max(align);
        }
        Ok(entry)
    });
    kernels.collect()
}

/// Bytes and alignment of one declaration, such as `.param .align 8 .b8 name[56]` or `.param .u64 .ptr .global name`.
fn parameter_size(declaration: &str) -> Option<(usize, usize)> {
    let words: Vec<&str> = declaration.split_whitespace().collect();
    let numbers = words.iter().find_map(|word| {
        let bits: usize = word.strip_prefix('.')?.strip_prefix(['b', 'u', 's', 'f'])?.parse().ok()?;
        Some(bits / 8)
    })?;
    let elements = match declaration.split_once('[') {
        Some((_, rest)) => rest.split(']').next()?.trim().parse().ok()?,
        None => 1,
    };
    // `.ptr ... .align` is that of what the pointer points to.
    let own = words.iter().position(|&word| word == ".ptr").map_or(&words[..], |ptr| &words[..ptr]);
    let align = match own.iter().position(|&word| word == ".align") {
        Some(at) => own.get(at + 1)?.parse().ok()?,
        None => numbers,
    };
    Some((numbers * elements, align))
}

/// A CUDA source and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path in the repository.
    pub path: PathBuf,
    /// Path of the PTX in `ptx/`.
    pub output: String,
    /// What it is compiled for: `80` or `90a`.
    pub arch: &'static str,
    /// Digest of the file with all headers of `kernels/include`.
    pub digest: String,
}

impl Source {
    /// The compiler's flags, but for input and output. Line numbers are kept, for reports of the emulated device.
    pub fn flags(&self) -> Vec<String> {
        let arch = format!("-gencode=arch=compute_{0},code=sm_{0}", self.arch);
        ["-ptx", "-O3", "-std=c++17", "-lineinfo", &arch].map(str::to_owned).to_vec()
    }
}

/// Every `kernels/NAME.cu` (for sm_80) and `kernels/NAME.sm90a.cu`, by name.
pub fn sources(root: &Path) -> Result<Vec<Source>, ManifestError> {
    let folder = root.join("kernels");
    let mut headers = files(&folder.join("include"))?;
    headers.retain(|path| path.extension().is_some_and(|ending| ending == "cuh"));
    let mut sources = Vec::new();
    for path in files(&folder)?.into_iter().filter(|path| path.parent() == Some(&folder)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".cu") else { continue };
        let (stem, arch) = stem.strip_suffix(".sm90a").map_or((stem, "80"), |stem| (stem, "90a"));
        let mut hasher = blake3::Hasher::new();
        for part in [&path].into_iter().chain(&headers) {
            hasher.update(digest(&read(part)?).as_bytes());
        }
        let digest = hasher.finalize().to_hex().to_string();
        sources.push(Source { output: format!("sm_{arch}/{stem}.ptx"), path, arch, digest });
    }
    Ok(sources)
}

/// Paths in `ptx/` of everything that lies there but the manifest and what kernels take, sorted.
pub fn committed(root: &Path) -> Result<Vec<String>, ManifestError> {
    let folder = root.join("ptx");
    let inside = files(&folder)?.into_iter().map(|path| relative(&folder, &path));
    Ok(inside.filter(|path| path != "MANIFEST" && path != "RESOURCES").collect())
}

/// The path of a file inside a folder, with `/`.
pub fn relative(folder: &Path, path: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    path.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join("/")
}

/// All files below a folder, sorted; none if there is no such folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let unreadable = |error| ManifestError::Unreadable(folder.to_owned(), error);
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file, with lines ending in line feeds.
pub fn read(path: &Path) -> Result<String, ManifestError> {
    let text = std::fs::read_to_string(path).map_err(|error| ManifestError::Unreadable(path.to_owned(), error))?;
    Ok(text.replace("\r\n", "\n"))
}

/// Digest of a text.
pub fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
