//! The files of a source: what it may read, and the bounds on that.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{MAX_BYTES, open_regular};

/// Access to the files that a source names, and to the environment that it reads.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// The file cannot be read, is larger than a configuration may be, or is no UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The files that a pattern with `*`, `?` and `[…]` stands for, in the order of their names.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf>;

    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The file system and the environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        open_regular(path)?.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_BYTES {
            return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
        }
        String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.split(|byte| *byte == b'\n').count();
            io::Error::other(format!("line {line} is not UTF-8: save the file as UTF-8"))
        })
    }

    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let Ok(found) = glob::glob(&pattern.to_string_lossy()) else { return Vec::new() };
        found.flatten().filter(|path| path.is_file()).take(MAX_FILES + 1).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Most files that one source may include. No folder of sites has as many, and a pattern that matches everything ends
/// here.
pub(super) const MAX_FILES: usize = 1_000;
