//! Films found by the stem of their name, wherever they lie below a folder.

use std::collections::HashMap;
use std::path::Path;

use crate::data::error::Error;
use crate::data::file;

/// Endings of films, the preferred one first: a conversion stands in for its original.
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "dcm", "dicom"];

/// Files of films below a folder, by stem (the name without its last ending).
pub(super) struct Stems(HashMap<String, (usize, String)>);

impl Stems {
    /// Looks through a folder and those below it; links to folders are not followed. Of several films of one stem the one
    /// with the preferred ending counts, then the first by path.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub(super) fn below(root: &Path) -> Result<Self, Error> {
        let mut found = HashMap::<String, (usize, String)>::new();
        for file in file::below(root)? {
            let path = file.to_string_lossy().into_owned();
            let [stem, ending] =
                [file.file_stem(), file.extension()].map(|part| part.unwrap_or_default().to_string_lossy());
            let Some(rank) = ENDINGS.iter().position(|one| ending.eq_ignore_ascii_case(one)) else { continue };
            let this = (rank, path);
            let best = found.entry(stem.into_owned()).or_insert_with(|| this.clone());
            if this < *best {
                *best = this;
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
