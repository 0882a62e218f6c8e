//! A gateway that goes into the background by Pingora's daemon.
//!
//! Pingora forks first and panics then, where nobody sees it: what it would panic on is looked at before. It tells the
//! command that waits for the daemon when Pingora's own preparations are made; here it is told when the gateway serves.

use std::fmt::{self, Display};
use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use log::warn;
use nix::unistd::{Group, User};
use pingora_core::server::configuration::ServerConf;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getegid, geteuid, getpid, kill_process};

use super::pid_file::{self, PidFileError};
use crate::config::{Config, DaemonKey, folder_of};

/// Everything that keeps a gateway from the background.
#[derive(Debug)]
pub struct BackgroundError(Vec<String>);

impl Display for BackgroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run in the background: {}", self.0.join("; "))
    }
}

impl std::error::Error for BackgroundError {}

/// Completes Pingora's settings for a process that goes into the background, and may `replace` another one. Returns the
/// command that is to be told when the gateway serves, if it waits for that.
///
/// # Errors
/// There is no place for the process id, or Pingora could not do what the settings say.
pub(super) fn prepare(
    config: &Config,
    conf: &mut ServerConf,
    replaces: bool,
) -> Result<Option<WaitingCommand>, BackgroundError> {
    let chosen = pid_file::choose(config, replaces);
    conf.pid_file = chosen.map_err(|error: PidFileError| BackgroundError(vec![error.to_string()]))?;
    // A daemon of Pingora's goes to `/`, where relative paths of the file lead elsewhere.
    let folder = conf.working_directory.take().or_else(|| std::env::current_dir().ok());
    let from = folder.as_deref().and_then(Path::to_str);
    conf.pid_file = DaemonKey::PidFile.place(&conf.pid_file, from);
    conf.error_log = conf.error_log.take().map(|log| DaemonKey::ErrorLog.place(&log, from));
    conf.working_directory = folder;
    let faults = faults(conf);
    if faults.is_empty() { Ok(WaitingCommand::this(conf)) } else { Err(BackgroundError(faults)) }
}

fn faults(conf: &ServerConf) -> Vec<String> {
    let folder = conf.working_directory.as_deref();
    let values = [
        (DaemonKey::PidFile, Some(conf.pid_file.as_str())),
        (DaemonKey::ErrorLog, conf.error_log.as_deref()),
        (DaemonKey::WorkingDirectory, folder.and_then(Path::to_str)),
        (DaemonKey::User, conf.user.as_deref()),
        (DaemonKey::Group, conf.group.as_deref()),
    ];
    let given = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
    given.filter_map(|(key, value)| Some(format!("{}: {}", key.as_str(), fault(key, value)?))).collect()
}

/// Fault of a value that names something, and what this process is not permitted.
fn fault(key: DaemonKey, value: &str) -> Option<String> {
    if let Some(fault) = key.fault(value) {
        return Some(format!("{} ({})", fault.message, fault.remedy));
    }
    let refused = |error: Errno| format!("{value} cannot be used: {error}");
    match key {
        DaemonKey::PidFile => {
            let folder = folder_of(Path::new(value));
            let error = access(&folder, Access::WRITE_OK | Access::EXEC_OK).err()?;
            Some(format!("no file can be made in {}: {error}", folder.display()))
        }
        DaemonKey::ErrorLog => {
            let opened = OpenOptions::new().append(true).create(true).read(true).open(value);
            opened.err().map(|error| format!("{value} cannot be written: {error}"))
        }
        DaemonKey::WorkingDirectory => access(value, Access::EXEC_OK).err().map(refused),
        DaemonKey::User => {
            let becomes = User::from_name(value).ok().flatten()?.uid.as_raw();
            let may = geteuid().is_root() || becomes == geteuid().as_raw();
            (!may).then(|| format!("only root may become {value}"))
        }
        DaemonKey::Group => {
            let becomes = Group::from_name(value).ok().flatten()?.gid.as_raw();
            let may = geteuid().is_root() || becomes == getegid().as_raw();
            (!may).then(|| format!("only root may become a process of {value}"))
        }
    }
}

/// The command that started the daemon and waits until it serves (`daemon_wait_for_ready`).
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingCommand {
    pid: Pid,
    within: Duration,
}

impl WaitingCommand {
    /// This process, before it forks; `None` where it does not wait.
    fn this(conf: &ServerConf) -> Option<Self> {
        let within = conf.daemon_notify_timeout_seconds.map_or(60, std::num::NonZeroU64::get);
        conf.daemon_wait_for_ready.then(|| Self { pid: getpid(), within: Duration::from_secs(within) })
    }

    /// Tells it that the gateway serves, as soon as it listens for that: the signal would end it before.
    pub(super) async fn tell(self) {
        let until = Instant::now() + self.within;
        loop {
            let told = if catches_usr1(self.pid) { kill_process(self.pid, Signal::USR1) } else { Err(Errno::AGAIN) };
            match told {
                Ok(()) => return,
                // It was root, and becomes another user as this process has. Or it is not yet ready to be told.
                Err(Errno::PERM | Errno::AGAIN) if Instant::now() < until => {}
                Err(error) => return warn!("the command that waits for this daemon cannot be told: {error}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Tells whether a process has a handler for SIGUSR1 (proc(5), `SigCgt`); true for one that is gone.
fn catches_usr1(pid: Pid) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_none_or(|mask| mask & (1 << (Signal::USR1.as_raw() - 1)) != 0)
}

/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(20);
