//! Connecting to a Unix socket of another gateway process, if it is one that can be trusted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use super::listener::{folder_of, wrong_with};

/// Connects to the socket at `path`, if its folder is one that only this user or root can write to, and the process
/// that answers is of this user or root. Root also trusts the user that the folder belongs to: a gateway may have left
/// root's rights (`user`).
///
/// # Errors
/// No process listens there; or `PermissionDenied`, with the reason in its text.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let folder = folder_of(path);
    let metadata = fs::metadata(folder)?;
    let ours = rustix::process::geteuid();
    let trusted = if ours.is_root() { metadata.uid() } else { ours.as_raw() };
    if let Some(reason) = wrong_with(&metadata, trusted) {
        return Err(refused(format!("the folder {} is refused: {reason}", folder.display())));
    }
    let stream = UnixStream::connect(path)?;
    let user = socket_peercred(&stream)?.uid;
    if !user.is_root() && user.as_raw() != trusted {
        return Err(refused(format!("the process that answers is of user {}", user.as_raw())));
    }
    Ok(stream)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_in_a_folder_that_others_may_write_to_is_not_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(connect(&path).is_ok());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = connect(&path).unwrap_err();
        assert!(error.to_string().contains("others may write to it"), "{error}");
    }
}
