//! The control socket in the file system: in a folder that only we can write to, and never another gateway's.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use log::warn;
use tokio::net::UnixListener;

use super::place::Place;

/// There can be no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another gateway answers there.
    #[error("another gateway listens at {}", .0.display())]
    InUse(PathBuf),
    /// Others could put a socket of theirs into the folder.
    #[error("the folder {} of a socket is refused: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something else stands there.
    #[error("{} is there already, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot make the socket {}: {error}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A listening control socket. Dropped, it is removed from the file system, unless another has taken its place.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of its file, by which it is known from another at the same path.
    identity: (u64, u64),
}

impl Socket {
    /// Makes the control socket, with mode 0600, and its folder with mode 0700 where that is missing. A socket that a
    /// gateway left behind is replaced.
    ///
    /// To be called on a Tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`]: another gateway's socket is there; the folder is not ours (nor root's), or others may write to it;
    /// the system refuses.
    pub fn bind(place: &Place) -> Result<Self, SocketError> {
        Self::make(place.path(), false)
    }

    /// As [`bind`](Self::bind), in the place of another gateway's where there is one: from now on who connects comes here.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), but for the first.
    pub fn replace(place: &Place) -> Result<Self, SocketError> {
        Self::make(place.path(), true)
    }

    fn make(path: &Path, replace: bool) -> Result<Self, SocketError> {
        let failed = |error| SocketError::Io { path: path.to_owned(), error };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder).map_err(failed)?;
        let ours = rustix::process::geteuid().as_raw();
        if let Some(reason) = wrong_with(&fs::metadata(folder).map_err(failed)?, ours) {
            return Err(SocketError::Folder { folder: folder.to_owned(), reason });
        }
        // Two gateways that start together must not both find the other's socket left behind. Only root and we can open
        // the lock in a folder of ours for long, and nobody keeps it.
        let lock = File::open(folder).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if !replace {
            refuse_taken(path)?;
        }
        // Under another name until nobody else may connect; a short one, since a socket's path may have 107 bytes only.
        let fresh = folder.join(".new");
        remove(&fresh).map_err(failed)?;
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let identity = fs::set_permissions(&fresh, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&fresh, path))
            .and_then(|()| fs::symlink_metadata(path))
            .map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), identity: (identity.dev(), identity.ino()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next process that connects. One of another user than ours and root is turned away.
    ///
    /// # Errors
    /// No connection could be accepted this time.
    pub async fn accept(&self) -> io::Result<std::os::unix::net::UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            if user == 0 || user == rustix::process::geteuid().as_raw() {
                return stream.into_std();
            }
            warn!("user {user} is refused at {}", self.path.display());
        }
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = |metadata: &Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| is_ours(&metadata)) {
            // Left behind it does no harm: the next gateway replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What is wrong with a folder for a socket of user `ours`, if anything is.
fn wrong_with(folder: &Metadata, ours: u32) -> Option<&'static str> {
    if !folder.is_dir() {
        Some("it is not a folder")
    } else if folder.uid() != ours && folder.uid() != 0 {
        Some("it belongs to another user")
    } else if folder.mode() & 0o022 != 0 {
        Some("others may write to it; `chmod go-w` it, or name another socket")
    } else {
        None
    }
}

/// Refuses a path at which another gateway answers, or at which something stands that is not a socket.
fn refuse_taken(path: &Path) -> Result<(), SocketError> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::Io { path: path.to_owned(), error }),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        // Nobody has it open any more: whoever bound it is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(SocketError::Io { path: path.to_owned(), error }),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
