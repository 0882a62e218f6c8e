//! The file that a configuration was read from, and a stamp that tells its states apart.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file that a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Absolute path. Links in it are not resolved, because they may be changed to lead elsewhere.
    pub path: PathBuf,
    /// State of the file just before it was read.
    pub stamp: Stamp,
}

/// State of a file. Two stamps differ when the file was written, renamed or replaced between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Time of the last change of the inode, which differs even where a copy kept the other times.
    changed: (i64, i64),
}

impl Stamp {
    /// State of the file at `path`, links followed; `None` while the file cannot be seen.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(Self::from)
    }
}

/// Opens a regular file to be read, links followed.
///
/// # Errors
/// The file cannot be opened, or is no regular one: a pipe that nobody writes to would block whoever opens it.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("not a regular file")) }
}

impl From<Metadata> for Stamp {
    fn from(of: Metadata) -> Self {
        Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}
