//! What can go wrong between files and batches: one sentence each, saying what, where and what to do.

use std::path::{Path, PathBuf};

/// An error of the data part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a read or a write.
    #[error("cannot {action} {}: {source}{}", path.display(), crate::base::hint(source))]
    Io {
        /// What was tried, as a verb: `read`, `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A table (csv) breaks a rule at one line; the header is line 1.
    #[error("{}, line {line}: {what}", path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// Line in the file, the header being line 1.
        line: u64,
        /// What is wrong and what to do.
        what: String,
    },
    /// A file or folder of a published data set is not where its layout has it.
    #[error("there is no {names} in {}; fetch what is missing, or give the folder that holds it", folder.display())]
    NoTable {
        /// Where it was looked for.
        folder: PathBuf,
        /// What was looked for, as far as names differ between versions.
        names: String,
    },
    /// A patient is on two sides of the split.
    #[error(
        "{}: patient {patient:?} is in two splits: {first:?} at line {first_line}, {second:?} at line {second_line}; \
         give all films of a patient the same split", path.display()
    )]
    PatientInTwoSplits {
        /// The table.
        path: PathBuf,
        /// The patient's id.
        patient: String,
        /// Split of the first row.
        first: &'static str,
        /// Line of the first row.
        first_line: u64,
        /// Split of the row that contradicts it.
        second: &'static str,
        /// Its line.
        second_line: u64,
    },
    /// More than half of the rows could not be used; nothing was written.
    #[error("{}: {dropped} of {rows} rows could not be used, nothing was written; {reasons}; \
             check the paths (relative to the table) and the files", path.display())]
    TooManyDropped {
        /// The table.
        path: PathBuf,
        /// Rows that could not be used.
        dropped: usize,
        /// Rows read.
        rows: usize,
        /// The reasons, each with its count and first example.
        reasons: String,
    },
    /// The folder to write to holds something else.
    #[error("{} is not empty ({what}); give an empty or a new folder", path.display())]
    OutputInUse {
        /// The folder.
        path: PathBuf,
        /// What lies there.
        what: String,
    },
    /// A packed data set is damaged, of another version, or not finished.
    #[error("{}: {what}; {}", path.display(), again(path))]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An object store that cannot be used, or what lies there.
    #[cfg(feature = "s3")]
    #[error("{url}: {what}")]
    Store {
        /// The object, or the folder of objects.
        url: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A vocabulary or tokenizer file cannot be used.
    #[error("tokenizer {}: {what}", path.display())]
    Tokenizer {
        /// The file, or the place the text came from.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// An option has an impossible value, or does not fit the data.
    #[error("{0}")]
    Option(String),
    /// The caller asked to stop; nothing that looks finished was left. Holds what is kept, and what to do.
    #[error("stopped; {0}")]
    Cancelled(&'static str),
}

/// The file that marks, and locks, a folder that is filled from an object store.
pub(super) const FETCH_LOCK: &str = "fetch.lock";

/// What to do about a damaged file of a packed data set.
fn again(path: &Path) -> String {
    match path.parent().filter(|folder| folder.join(FETCH_LOCK).exists()) {
        Some(_) => format!(
            "it is a copy of what lies in an object store: delete {} and give the data's s3:// address once more, which fetches \
             it again",
            path.display()
        ),
        None => "pack the data again".into(),
    }
}

impl Error {
    /// Packing was stopped.
    #[cfg(feature = "data")]
    pub(super) const UNPACKED: Self = Self::Cancelled("nothing of this pack was kept, the same command starts over");

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn shard(path: &Path, what: impl Into<String>) -> Self {
        Self::Shard { path: path.to_owned(), what: what.into() }
    }
}
