//! Paths of a gateway's Unix sockets, and of the file with its process id.

use std::env;
use std::path::{Path, PathBuf};

/// Path of a Unix socket, and whether an operator chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketPath {
    /// A path from the configuration (`control_sock`, `upgrade_sock`) or from the command line (`--socket`).
    Named(PathBuf),
    /// The default: a file in the runtime folder, or beside the control socket.
    Default(PathBuf),
}

impl SocketPath {
    /// Path of the control socket: the named one, else `control.sock` in the runtime folder. `None` where nothing is
    /// named and there is no runtime folder.
    ///
    /// The runtime folder is `$RUNTIME_DIRECTORY` (set by systemd), else `/run/longhaul` for root, else
    /// `$XDG_RUNTIME_DIR/longhaul`.
    pub fn of_control(named: Option<&Path>) -> Option<Self> {
        Self::find(named, "control.sock")
    }

    /// Path of the handover socket: the named one, else a path beside the control socket of the same gateway. There it
    /// is called `upgrade.sock` where that one is called `control.sock`, and else as that one with `.upgrade` behind
    /// it: so gateways with a control socket each have a handover socket each.
    pub fn of_handover(named: Option<&Path>, control: Option<&Path>) -> Option<Self> {
        match (named, control) {
            (None, Some(control)) => {
                let name = control.file_name()?.to_string_lossy();
                let name = if name == "control.sock" { "upgrade.sock".to_owned() } else { format!("{name}.upgrade") };
                Some(Self::Default(control.with_file_name(name)))
            }
            _ => Self::find(named, "upgrade.sock"),
        }
    }

    /// Path of the file with a gateway's process id: beside its control socket, `longhaul.pid` where that is called
    /// `control.sock`, and else as that one with `.pid` behind it. `None` where there is no runtime folder.
    pub fn of_pid_file(control: Option<&Path>) -> Option<PathBuf> {
        let control = Self::of_control(control)?;
        let name = control.path().file_name()?.to_string_lossy();
        let name = if name == "control.sock" { "longhaul.pid".to_owned() } else { format!("{name}.pid") };
        Some(control.path().with_file_name(name))
    }

    fn find(named: Option<&Path>, default: &str) -> Option<Self> {
        if let Some(path) = named {
            return Some(Self::Named(path.to_owned()));
        }
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let is_root = rustix::process::geteuid().is_root();
        let folder = runtime_folder(variable("RUNTIME_DIRECTORY"), is_root, variable("XDG_RUNTIME_DIR"))?;
        Some(Self::Default(folder.join(default)))
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Default(path) => path,
        }
    }
}

fn runtime_folder(runtime_directory: Option<String>, is_root: bool, xdg: Option<String>) -> Option<PathBuf> {
    if let Some(folders) = runtime_directory {
        // systemd.exec(5): with several, they are separated by colons.
        return folders.split(':').next().map(PathBuf::from);
    }
    if is_root {
        return Some("/run/longhaul".into());
    }
    xdg.map(|folder| Path::new(&folder).join("longhaul"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gateway_with_a_control_socket_has_a_handover_socket_of_its_own() {
        let of = |named: Option<&str>, control: Option<&str>| {
            let path = SocketPath::of_handover(named.map(Path::new), control.map(Path::new)).unwrap();
            path.path().to_str().unwrap().to_owned()
        };
        assert_eq!(of(None, Some("/run/b/control.sock")), "/run/b/upgrade.sock");
        assert_eq!(of(None, Some("/run/b.sock")), "/run/b.sock.upgrade");
        assert_eq!(of(Some("/run/u"), Some("/run/b.sock")), "/run/u");
    }

    #[test]
    fn each_gateway_with_a_control_socket_has_a_pid_file_of_its_own() {
        let of = |control: &str| SocketPath::of_pid_file(Some(Path::new(control)));
        assert_eq!(of("/run/b/control.sock"), Some("/run/b/longhaul.pid".into()));
        assert_eq!(of("/run/b.sock"), Some("/run/b.sock.pid".into()));
    }

    #[test]
    fn the_runtime_folder_is_systemds_then_roots_then_the_users() {
        let text = |text: &str| Some(text.to_owned());
        let folder = |systemd, is_root, xdg| runtime_folder(systemd, is_root, xdg);
        assert_eq!(folder(text("/run/a:/run/b"), true, text("/x")), Some("/run/a".into()));
        assert_eq!(folder(None, true, text("/x")), Some("/run/longhaul".into()));
        assert_eq!(folder(None, false, text("/run/user/7")), Some("/run/user/7/longhaul".into()));
        assert_eq!(folder(None, false, None), None);
    }
}
