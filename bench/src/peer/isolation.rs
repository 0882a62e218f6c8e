//! Gives one core to the gateway alone, and priority on the other core to the load generator.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use super::Site;
use crate::proc::Pid;

/// The gateway's core.
const GATEWAY: &str = "0";
/// The core of the generator and the backends.
const OTHERS: &str = "1";

/// Binds the calling thread to the core of the generator, with priority over all others there. Undone when dropped.
pub struct Isolated {
    before: CpuSet,
}

impl Isolated {
    /// Binds it.
    ///
    /// # Errors
    /// When there is no second core, or the system does not allow it.
    pub fn this_thread() -> Result<Self> {
        let before = sched_getaffinity(None).context("no affinity")?;
        let mut second = CpuSet::new();
        second.set(1);
        sched_setaffinity(None, &second).context("there is no second core")?;
        let isolated = Self { before };
        come_first(gettid().as_raw_nonzero().get())?;
        Ok(isolated)
    }
}

impl Site<'_> {
    /// Puts the backends on the gateway's core, beside it: what their clients wait for is that core.
    ///
    /// # Errors
    /// When they have ended.
    pub fn share_core_of_gateway(&self) -> Result<()> {
        self.backends.iter().try_for_each(|backend| pin(backend.pid, GATEWAY))
    }

    /// Gives the gateway the first core for itself, and what measures it the second one: the calling thread and the
    /// backends `quick` come before everything else there, so that what they wait for is the gateway. Lasts until the
    /// returned value is dropped; for the backends and the gateway until they end.
    ///
    /// # Errors
    /// When there is one core only, or real-time priority is not permitted.
    pub fn isolate(&self, quick: &[&str]) -> Result<Isolated> {
        let isolated = Isolated::this_thread()?;
        for pid in self.processes() {
            pin(pid, GATEWAY)?;
        }
        for backend in &self.backends {
            pin(backend.pid, OTHERS)?;
            if quick.contains(&backend.name) {
                come_first(backend.pid)?;
            }
        }
        Ok(isolated)
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        // Both were so before.
        let _ = run("chrt", &["--other", "--pid", "0", &gettid().as_raw_nonzero().to_string()]);
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Binds all threads of a process to one core.
fn pin(pid: Pid, core: &str) -> Result<()> {
    run("taskset", &["--all-tasks", "--cpu-list", "--pid", core, &pid.to_string()])
}

/// Gives a thread real-time priority. Threads that it starts do not have it.
fn come_first(thread: Pid) -> Result<()> {
    run("chrt", &["--fifo", "--reset-on-fork", "--pid", "1", &thread.to_string()])
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("`{program}` is not there"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {}", arguments.join(" "), said.trim());
    Ok(())
}
