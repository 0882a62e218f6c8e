//! The file of members of `longhaul demo --discover`: the page puts backends on it and takes them off.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::serve::Changes;

/// The members, and the file that the gateway has them from. The file and its folder go with it.
#[derive(Debug)]
pub(super) struct Members {
    folder: PathBuf,
    /// Name and address of each backend, and whether it is a member.
    listed: Mutex<Vec<(&'static str, SocketAddr, bool)>>,
    changes: Changes,
}

/// Reason for which a backend stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotListed {
    /// A list without members would be kept for a while by the gateway, as a source that fails.
    #[error("the last member stays")]
    Last,
    /// The file cannot be written.
    #[error("the file of members cannot be written: {0}")]
    File(#[from] io::Error),
}

impl Members {
    /// Writes the first file, with the `first` of these backends, in a new folder in `parent`.
    ///
    /// # Errors
    /// The folder is there already, or cannot be written.
    pub(super) fn begin(
        parent: &Path,
        backends: impl Iterator<Item = (&'static str, SocketAddr)>,
        first: usize,
        changes: Changes,
    ) -> io::Result<Self> {
        // A folder that somebody else made is not taken.
        let folder = parent.join(format!("longhaul-demo-members-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let listed = backends.enumerate().map(|(place, (name, address))| (name, address, place < first)).collect();
        let members = Self { folder, listed: Mutex::new(listed), changes };
        members.write(&members.listed())?;
        Ok(members)
    }

    /// The file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("members.yaml")
    }

    /// Names of the members.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.listed().iter().filter(|(_, _, listed)| *listed).map(|(name, _, _)| *name).collect()
    }

    /// Puts a backend on the list, or takes it off.
    ///
    /// # Errors
    /// [`NotListed`], and nothing has changed.
    pub(super) fn list(&self, name: &str, listed: bool) -> Result<(), NotListed> {
        let mut known = self.listed();
        let mut after = known.clone();
        after.iter_mut().filter(|(other, _, _)| *other == name).for_each(|(_, _, is)| *is = listed);
        if !after.iter().any(|(_, _, listed)| *listed) {
            return Err(NotListed::Last);
        }
        self.write(&after)?;
        *known = after;
        drop(known);
        self.changes.note();
        Ok(())
    }

    /// Removes the file and its folder.
    pub(super) fn clear(&self) {
        // Nobody can be told of what is left in a folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }

    fn write(&self, listed: &[(&str, SocketAddr, bool)]) -> io::Result<()> {
        let members = listed.iter().filter(|(_, _, listed)| *listed);
        let text: String =
            members.map(|(name, address, _)| format!("- {{ name: {name}, address: {address} }}\n")).collect();
        let fresh = self.folder.join("members.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.file())
    }

    fn listed(&self) -> MutexGuard<'_, Vec<(&'static str, SocketAddr, bool)>> {
        // The value is replaced as a whole: a panic cannot leave half of it.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.clear();
    }
}
