//! Files that certificates and keys are read from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Reason for which a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system does not let the file be read.
    #[error("{} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Message of the system.
        reason: String,
    },
    /// A folder, a pipe or a device.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file is longer than 4 MiB.
    #[error("{} has more than {MAX_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
}

impl FileError {
    /// The file.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. } | Self::NotRegular(file) | Self::TooLong(file) => file,
        }
    }
}

/// The longest file that is read: 4 MiB, twenty times the certificates of every public authority.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// Reads a whole file.
///
/// # Errors
/// The file is missing, is no regular one, or too long.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error: std::io::Error| FileError::Unreadable { file: path.into(), reason: error.to_string() };
    // A pipe that nobody writes to would block the one who opens it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::NotRegular(path.into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(FileError::TooLong(path.into())),
        false => Ok(bytes),
    }
}
