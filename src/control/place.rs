//! Where the control socket is.

use std::env;
use std::path::{Path, PathBuf};

/// Where the control socket is, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The configuration's `control_sock`, or the command line's `--socket`.
    Named(PathBuf),
    /// `control.sock` in the runtime folder.
    Usual(PathBuf),
}

impl Place {
    /// The place that was named, or else the usual one: in `$RUNTIME_DIRECTORY` (set by systemd), else in `/run/longhaul`
    /// for root, else in `$XDG_RUNTIME_DIR/longhaul`. `None` where there is none of these.
    pub fn find(named: Option<&Path>) -> Option<Self> {
        match named {
            Some(path) => Some(Self::Named(path.to_owned())),
            None => {
                let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
                let is_root = rustix::process::geteuid().is_root();
                let folder = usual_folder(variable("RUNTIME_DIRECTORY"), is_root, variable("XDG_RUNTIME_DIR"))?;
                Some(Self::Usual(folder.join("control.sock")))
            }
        }
    }

    /// The place of another socket that belongs to the same gateway: the one that was named for it, or `name` beside the
    /// control socket's usual place.
    pub fn find_other(named: Option<&Path>, name: &str) -> Option<Self> {
        match Self::find(named)? {
            Self::Usual(path) => Some(Self::Usual(path.with_file_name(name))),
            place => Some(place),
        }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Usual(path) => path,
        }
    }
}

fn usual_folder(runtime_directory: Option<String>, is_root: bool, xdg: Option<String>) -> Option<PathBuf> {
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
    fn the_runtime_folder_is_systemds_then_roots_then_the_users() {
        let text = |text: &str| Some(text.to_owned());
        let folder = |systemd, is_root, xdg| usual_folder(systemd, is_root, xdg);
        assert_eq!(folder(text("/run/a:/run/b"), true, text("/x")), Some("/run/a".into()));
        assert_eq!(folder(None, true, text("/x")), Some("/run/longhaul".into()));
        assert_eq!(folder(None, false, text("/run/user/7")), Some("/run/user/7/longhaul".into()));
        assert_eq!(folder(None, false, None), None);
    }
}
