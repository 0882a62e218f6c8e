//! Where a configuration was read from, and how to tell that there is something new to be read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file that a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its absolute path; links in it are not resolved, for they may be made to lead elsewhere.
    pub path: PathBuf,
    /// The file as it was just before it was read.
    pub stamp: Stamp,
}

/// What tells one state of a file from another: it is another file, or it was written, renamed or replaced since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Differs even where a copy kept the times.
    changed: (i64, i64),
}

impl Stamp {
    /// The state of the file at `path`, through links; `None` while there is none to be seen.
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
