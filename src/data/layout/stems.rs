//! Films found by the stem of their name, wherever they lie below a folder.

use std::collections::HashMap;
use std::path::Path;

use crate::data::error::Error;

/// Endings of films, the preferred one first: a conversion stands in for its original.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "dcm"];

/// Files of films below a folder, by stem (the name without its last ending).
pub(super) struct Stems(HashMap<String, (usize, String)>);

impl Stems {
    /// Looks through a folder and those below it; links to folders are not followed. Of several films of one stem the one
    /// with the preferred ending counts, then the first by path.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub(super) fn below(root: &Path) -> Result<Self, Error> {
        let (mut found, mut open) = (HashMap::<String, (usize, String)>::new(), vec![String::new()]);
        while let Some(folder) = open.pop() {
            let path = root.join(&folder);
            for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
                let entry = entry.map_err(Error::io("read", &path))?;
                let kind = entry.file_type().map_err(Error::io("read", &path))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if kind.is_dir() {
                    open.push(below);
                } else if let Some((stem, ending)) = name.rsplit_once('.')
                    && let Some(rank) = ENDINGS.iter().position(|one| ending.eq_ignore_ascii_case(one))
                {
                    let this = (rank, below);
                    let best = found.entry(stem.to_owned()).or_insert_with(|| this.clone());
                    if this < *best {
                        *best = this;
                    }
                }
            }
        }
        Ok(Self(found))
    }

    /// The file of a film, relative to the folder.
    pub(super) fn get(&self, stem: &str) -> Option<&str> {
        self.0.get(stem).map(|(_, path)| path.as_str())
    }
}

/// A film's name without its ending, which conversions change.
pub(super) fn stem(name: &str) -> &str {
    let name = name.trim();
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
