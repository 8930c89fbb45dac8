//! Where kernels come from: what ships, or a folder of PTX texts under development.

use std::borrow::Cow;
use std::path::Path;

use super::manifest::{self, Entry, ManifestError};
use super::{Brought, MODULES};

/// One PTX text of a library.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its path in `ptx/`.
    pub path: String,
    /// The text.
    pub ptx: Cow<'static, str>,
    /// Its kernels.
    pub entries: Vec<Entry>,
}

impl Text {
    fn has(&self, symbol: &str) -> bool {
        self.entries.iter().any(|entry| entry.symbol == symbol)
    }
}

/// PTX texts from which kernels are taken by name.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its texts.
    pub texts: Vec<Text>,
}

impl Library {
    /// What this program carries.
    pub fn shipped() -> Self {
        let entry = |entry: &super::Entry| Entry {
            symbol: entry.symbol.into(),
            parameter_bytes: entry.parameter_bytes,
            parameter_align: entry.parameter_align,
        };
        let text = |module: &super::Module| Text {
            path: module.path.into(),
            ptx: module.text.into(),
            entries: module.entries.iter().map(entry).collect(),
        };
        Self { texts: MODULES.iter().map(text).collect() }
    }

    /// What this program carries, with the texts of a folder laid out like `ptx/` in the place of those of the same path:
    /// kernels are tried without building anew.
    pub fn with_folder(folder: &Path) -> Result<Self, ManifestError> {
        let mut library = Self::shipped();
        let mut paths = manifest::files(folder)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "ptx"));
        if paths.is_empty() {
            return Err(ManifestError::Wrong(
                "no file of PTX (.ptx) lies there; name a folder laid out like ptx/".into(),
            ));
        }
        for path in &paths {
            let name = manifest::relative(folder, path);
            library.replace(&name, manifest::read(path)?)?;
        }
        Ok(library)
    }

    /// Puts a text in the place of the one at `path`, or adds it.
    pub fn replace(&mut self, path: &str, ptx: String) -> Result<(), ManifestError> {
        let entries = manifest::entries(&ptx)?;
        self.texts.retain(|text| text.path != path);
        self.texts.push(Text { path: path.into(), ptx: ptx.into(), entries });
        Ok(())
    }

    /// Adds texts that an op brings along; what is there already stays.
    ///
    /// # Errors
    /// If another text has that name, or a kernel of one of theirs.
    pub fn bring(&mut self, texts: &[Brought]) -> Result<(), ManifestError> {
        for &Brought { name, text: ptx } in texts {
            if self.texts.iter().any(|text| text.path == name && text.ptx == ptx) {
                continue;
            }
            let entries = manifest::entries(ptx)?;
            let taken = |text: &&Text| text.path == name || entries.iter().any(|new| text.has(&new.symbol));
            if let Some(text) = self.texts.iter().find(taken) {
                let why = format!("{name} shares its name, or that of a kernel, with {}; give it another", text.path);
                return Err(ManifestError::Wrong(why));
            }
            self.texts.push(Text { path: name.into(), ptx: ptx.into(), entries });
        }
        Ok(())
    }

    /// The text that holds the kernel of that name, and the kernel.
    pub fn find(&self, symbol: &str) -> Option<(&Text, &Entry)> {
        let entries = self.texts.iter().flat_map(|text| text.entries.iter().map(move |entry| (text, entry)));
        entries.into_iter().find(|(_, entry)| entry.symbol == symbol)
    }
}
