//! Restarts of backends, planned or by SIGKILL.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use super::site::Backend;
use super::{Peer, Site};

/// Way in which a backend is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The gateway is told before, where it has a command for that; then the process is ended.
    Planned,
    /// The process is killed, and nobody is told.
    Killed,
}

impl Site<'_> {
    /// Number of its backends.
    pub fn backends(&self) -> usize {
        self.backends.len()
    }

    /// Restarts one of the backends, at the same address. `gone` is called when its process has ended.
    ///
    /// # Errors
    /// When the gateway's command fails, or the backend does not start again.
    pub fn restart_backend(&mut self, at: usize, way: Way, gone: impl FnOnce()) -> Result<()> {
        let address = self.backends[at].address;
        let is_told = way == Way::Planned && self.peer == Peer::Longhaul;
        if is_told {
            self.drain(address, &["--over", "1s"])?;
        }
        let pid = rustix::process::Pid::from_raw(self.backends[at].pid).context("a process id is not zero")?;
        kill_process(pid, if way == Way::Killed { Signal::KILL } else { Signal::TERM })?;
        waitpid(Some(pid), WaitOptions::empty())?;
        gone();
        // As long as a quick program takes to come back.
        self.ground.stop.wait(AWAY)?;
        let Backend { name, .. } = self.backends[at];
        self.backends[at] = self.spawn_backend(Backend { name, address, pid: 0 })?;
        if is_told {
            self.drain(address, &["--undo"])?;
        }
        Ok(())
    }

    fn drain(&self, address: SocketAddr, more: &[&str]) -> Result<()> {
        let backend = format!("echo/{address}");
        let words = ["drain", "-c", &self.file, "backend", &backend];
        self.command(&words.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }
}

/// Time without the backend's process.
const AWAY: Duration = Duration::from_millis(500);
