//! Keys of a daemon whose values name something of the system: files, folders, a user and a group.
//!
//! Pingora looks at none of them before it forks. What is wrong ends as a panic of a process that nobody sees, and a
//! `pid_file` that is anything else is renamed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use super::yaml::problem::quoted;

/// A key of a daemon that names something of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DaemonKey {
    PidFile,
    ErrorLog,
    WorkingDirectory,
    User,
    Group,
}

/// Fault of a value: the message, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DaemonFault {
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
}

impl DaemonKey {
    /// Every one.
    pub(crate) const ALL: [Self; 5] = [Self::PidFile, Self::ErrorLog, Self::WorkingDirectory, Self::User, Self::Group];

    /// The name of the key.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PidFile => "pid_file",
            Self::ErrorLog => "error_log",
            Self::WorkingDirectory => "working_directory",
            Self::User => "user",
            Self::Group => "group",
        }
    }

    /// The key with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// A value as it is meant: a file's path from the folder that the daemon runs in.
    pub(crate) fn place(self, value: &str, folder: Option<&str>) -> String {
        match (self, folder) {
            (Self::PidFile | Self::ErrorLog, Some(folder)) => {
                Path::new(folder).join(value).to_string_lossy().into_owned()
            }
            _ => value.to_owned(),
        }
    }

    /// The fault of a value, if it has one. A path that this process may not look at has none: a daemon that has become
    /// another user reads its configuration anew, too.
    pub(crate) fn fault(self, value: &str) -> Option<DaemonFault> {
        let path = Path::new(value);
        let (message, remedy) = match self {
            Self::PidFile => match fault_of_pid_file(path) {
                Some(message) => (message, "name a file of its own, such as `/run/longhaul/longhaul.pid`"),
                None => return None,
            },
            Self::ErrorLog => match fs::metadata(path) {
                Ok(found) if found.is_dir() => (format!("{value} is a folder"), "name a file"),
                Err(error) if error.kind() == ErrorKind::NotFound => fault_of_folder(path)?,
                _ => return None,
            },
            Self::WorkingDirectory => match fs::metadata(path) {
                Ok(found) if !found.is_dir() => (format!("{value} is not a folder"), "name a folder"),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    (format!("the folder {value} does not exist"), "make it, or name another one")
                }
                _ => return None,
            },
            // Where the system's list of users cannot be read, nothing is known of them.
            Self::User => match User::from_name(value) {
                Ok(None) => {
                    (format!("there is no user {}", quoted(value)), "name a user of this machine, not a number")
                }
                _ => return None,
            },
            Self::Group => match Group::from_name(value) {
                Ok(None) => {
                    (format!("there is no group {}", quoted(value)), "name a group of this machine, not a number")
                }
                _ => return None,
            },
        };
        Some(DaemonFault { message, remedy })
    }
}

/// Folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn fault_of_folder(file: &Path) -> Option<(String, &'static str)> {
    let folder = folder_of(file);
    let is_missing = fs::metadata(&folder).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    is_missing.then(|| (format!("the folder {} does not exist", folder.display()), "make it, or name another one"))
}

/// Message on a path that is no place for a process id: whatever is there is renamed.
fn fault_of_pid_file(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Some(format!("{} is a folder", path.display())),
        Ok(found) if !found.is_file() => Some(format!("{} is not a file", path.display())),
        Ok(_) => {
            let mut text = Vec::new();
            File::open(path).ok()?.take(MOST_OF_A_PID).read_to_end(&mut text).ok()?;
            let text = String::from_utf8_lossy(&text);
            let text = text.trim();
            let is_pid = text.is_empty() || text.parse::<u32>().is_ok();
            (!is_pid).then(|| format!("{} holds something else than a process id", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => fault_of_folder(path).map(|(message, _)| message),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Some(format!("{} is not a folder", folder_of(path).display()))
        }
        Err(_) => None,
    }
}

/// More bytes than a process id and the end of its line.
const MOST_OF_A_PID: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: DaemonKey, value: impl AsRef<Path>) -> Option<String> {
        key.fault(value.as_ref().to_str().unwrap()).map(|fault| fault.message)
    }

    #[test]
    fn a_pid_goes_where_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        for fine in [file("old.pid", "4711\n"), file("empty.pid", ""), dir.path().join("new.pid")] {
            assert_eq!(message(DaemonKey::PidFile, fine), None);
        }
        for (wrong, part) in [
            (dir.path().to_owned(), "is a folder"),
            (file("longhaul.yaml", "version: 1\n"), "holds something else than a process id"),
            (dir.path().join("nowhere/new.pid"), "nowhere does not exist"),
            (dir.path().join("old.pid/new.pid"), "old.pid is not a folder"),
            (PathBuf::from("/dev/null"), "/dev/null is not a file"),
        ] {
            let said = message(DaemonKey::PidFile, &wrong).unwrap();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn names_and_folders_that_the_system_does_not_have_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (here, missing) = (dir.path().to_str().unwrap(), dir.path().join("missing/x"));
        for (key, fine, wrong) in [
            (DaemonKey::User, "root", "no-such-user"),
            (DaemonKey::Group, "root", "no-such-group"),
            (DaemonKey::User, "root", "0"),
            (DaemonKey::WorkingDirectory, here, missing.to_str().unwrap()),
            (DaemonKey::WorkingDirectory, here, "/dev/null"),
            (DaemonKey::ErrorLog, "/dev/null", missing.to_str().unwrap()),
            (DaemonKey::ErrorLog, "/dev/null", here),
        ] {
            assert_eq!(key.fault(fine), None, "{key:?}");
            assert!(key.fault(wrong).is_some(), "{key:?}: {wrong}");
        }
    }
}
