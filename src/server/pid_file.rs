//! Place of the file for the process id of a gateway that runs in the background.

use std::fs::{File, TryLockError};
use std::path::PathBuf;

use crate::config::Config;
use crate::unix_socket::{ListenError, SocketPath, prepare_folder};

/// Why a gateway has no file for its process id.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidFileError {
    /// Nothing names one, and there is no runtime folder.
    #[error("name a `pid_file` in the configuration: there is no runtime folder for it")]
    NoPlace,
    /// Another gateway runs in the background under the same path.
    #[error("another gateway has its process id in {}; name another `pid_file` or `control_sock`", .0.display())]
    InUse(PathBuf),
    /// The folder is refused.
    #[error(transparent)]
    Folder(#[from] ListenError),
}

/// Path of the file: `pid_file`, else beside the control socket, in a folder that no other user may write to. A process
/// that `replaces` another one may find the other's there.
///
/// # Errors
/// [`PidFileError`]. A path that the configuration names is taken as it is.
pub(super) fn choose(config: &Config, replaces: bool) -> Result<String, PidFileError> {
    let named = &config.pingora.pid_file;
    if !named.is_empty() {
        return Ok(named.clone());
    }
    let path = SocketPath::of_pid_file(config.control_sock.as_deref()).ok_or(PidFileError::NoPlace)?;
    prepare_folder(&path)?;
    if !replaces && is_locked(&path) {
        return Err(PidFileError::InUse(path));
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Tells if a process in the background holds the file: it locks it for its life.
fn is_locked(path: &PathBuf) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
