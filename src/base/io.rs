//! What to do about a file that the system refuses.

use std::io::{Error, ErrorKind};

/// The end of a sentence that names the file and the system's answer.
pub fn hint(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; check the path",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; give a place that you may use",
        ErrorKind::AlreadyExists => "; give another name, or remove what is there",
        ErrorKind::DirectoryNotEmpty => "; give a new or empty folder",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => "; check which of the two the path should name",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; free some space, or give a place on another disk"
        }
        _ => "; check the path, and that you may use it",
    }
}
