//! The socket that successors knock at.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use pingora::server::configuration::ServerConf;

/// Where a gateway with this configuration waits for its successor: `upgrade_sock`, or `upgrade.sock` in the runtime
/// folder. Pingora's own default lies in a folder that everyone may write to, so it stands for none.
pub fn upgrade_socket(pingora: &ServerConf) -> Option<PathBuf> {
    if pingora.upgrade_sock != ServerConf::default().upgrade_sock {
        return Some(pingora.upgrade_sock.clone().into());
    }
    runtime_dir().map(|dir| dir.join("upgrade.sock"))
}

fn runtime_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("RUNTIME_DIRECTORY") {
        return Some(dir.into());
    }
    if rustix::process::geteuid().is_root() {
        return Some("/run/longhaul".into());
    }
    std::env::var_os("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("longhaul"))
}

/// Listens at `path`, for our own user and root. The folder is made if it is missing; a socket that nobody listens on any
/// more gives way, one that somebody does only where `replace` says so.
///
/// # Errors
/// Another gateway listens there; what is there is no socket; the folder is not ours, or others may write to it; or the system refuses.
pub fn open_door(path: &Path, replace: bool) -> io::Result<UnixListener> {
    private_folder(path)?;
    if !replace && UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway listens there"));
    }
    match fs::symlink_metadata(path) {
        Ok(facts) if facts.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether the process at the other end of a connection is our own user's, or root's.
pub fn admits(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == ours || peer.uid.is_root())
}

fn private_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let facts = fs::metadata(folder)?;
    if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
        let message =
            format!("the folder {} must be ours, and nobody else may write to it (chmod 0700)", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}
