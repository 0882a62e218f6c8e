//! A listening Unix socket: in a folder that only its user can write to, and never in another gateway's place.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use log::warn;
use tokio::net::UnixListener;

use super::path::SocketPath;

/// Why a Unix socket cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another gateway answers at the path.
    #[error("another gateway listens at {}", .0.display())]
    InUse(PathBuf),
    /// Other users could put a file of theirs into the folder.
    #[error("the folder {} is refused: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The fault found.
        reason: &'static str,
    },
    /// A file that is not a socket stands at the path.
    #[error("{} is there already, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot make {}: {error}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// The error that the system gave.
        error: io::Error,
    },
}

/// A listening Unix socket. Dropping it removes its file, unless another socket has taken its place.
#[derive(Debug)]
pub struct UnixSocketListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of its file, which tell it from another socket at the same path.
    identity: (u64, u64),
}

impl UnixSocketListener {
    /// Makes the socket, with mode 0600, and its folder with mode 0700 where that is missing. Replaces the socket of a
    /// gateway that has ended.
    ///
    /// Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`]: another gateway listens at the path; the folder belongs to another user (root excepted), or
    /// others may write to it; the system refused.
    pub fn bind(at: &SocketPath) -> Result<Self, ListenError> {
        Self::make(at.path(), false)
    }

    /// As [`bind`](Self::bind), and takes the path from a gateway that listens there: later connections come to this
    /// socket.
    ///
    /// # Errors
    /// [`ListenError`], but never [`ListenError::InUse`].
    pub fn replace(at: &SocketPath) -> Result<Self, ListenError> {
        Self::make(at.path(), true)
    }

    fn make(path: &Path, replace: bool) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Io { path: path.to_owned(), error };
        let folder = prepare_folder(path)?;
        // The lock keeps two gateways that start together from each taking the other's socket for one left behind. Only
        // root and this user can open the folder, and nobody holds the lock for long.
        let lock = File::open(folder).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if !replace {
            refuse_taken(path)?;
        }
        // The socket has another name until its mode is set; a short one, since a socket's path may have 107 bytes at
        // most.
        let fresh = folder.join(".new");
        remove(&fresh).map_err(failed)?;
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let identity = fs::set_permissions(&fresh, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&fresh, path))
            .and_then(|()| fs::symlink_metadata(path))
            .map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), identity: (identity.dev(), identity.ino()) })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts the next connection of this user or of root. Connections of other users are closed.
    ///
    /// # Errors
    /// The system could not accept this time.
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

    /// The socket itself, for a caller that answers other users too.
    pub fn socket(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for UnixSocketListener {
    fn drop(&mut self) {
        // As in `make`: a successor may be about to put its socket in the place of this one.
        let folder = self.path.parent().and_then(|folder| File::open(folder).ok());
        let _lock = folder.filter(|folder| folder.lock().is_ok());
        let is_ours = |metadata: &Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| is_ours(&metadata)) {
            // A file left behind does no harm: the next gateway replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the folder that `path` lies in, with mode 0700, where it is missing.
///
/// # Errors
/// [`ListenError`]: the folder belongs to another user (root excepted), or others may write to it; the system refused.
pub fn prepare_folder(path: &Path) -> Result<&Path, ListenError> {
    let failed = |error| ListenError::Io { path: path.to_owned(), error };
    let folder = folder_of(path);
    make_folder(folder).map_err(failed)?;
    let ours = rustix::process::geteuid().as_raw();
    match wrong_with(&fs::metadata(folder).map_err(failed)?, ours) {
        Some(reason) => Err(ListenError::Folder { folder: folder.to_owned(), reason }),
        None => Ok(folder),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The folder that a path lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Finds the fault that keeps a folder from holding a socket of user `ours`.
pub(super) fn wrong_with(folder: &Metadata, ours: u32) -> Option<&'static str> {
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

/// Refuses a path at which another gateway answers, or at which a file stands that is not a socket.
fn refuse_taken(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::Io { path: path.to_owned(), error }),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        // No process listens any more: the one that bound it has ended.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(ListenError::Io { path: path.to_owned(), error }),
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
