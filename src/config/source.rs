//! The file that a configuration was read from, and a stamp that tells its states apart.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file that a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
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
