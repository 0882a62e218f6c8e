//! Gives one core to the gateway alone, and priority on the other core to the load generator.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use crate::proc::Pid;

/// The gateway's core.
pub(super) const GATEWAY: &str = "0";
/// The core of the generator and the backends.
pub(super) const OTHERS: &str = "1";

/// Binds the calling thread to the core of the generator, with priority over all others there. Undone when dropped.
pub struct Isolated {
    before: CpuSet,
}

impl Isolated {
    pub(super) fn this_thread() -> Result<Self> {
        let before = sched_getaffinity(None).context("no affinity")?;
        let mut second = CpuSet::new();
        second.set(1);
        sched_setaffinity(None, &second).context("there is no second core")?;
        let isolated = Self { before };
        come_first(gettid().as_raw_nonzero().get())?;
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
pub(super) fn pin(pid: Pid, core: &str) -> Result<()> {
    run("taskset", &["--all-tasks", "--cpu-list", "--pid", core, &pid.to_string()])
}

/// Gives a thread real-time priority. Threads that it starts do not have it.
pub(super) fn come_first(thread: Pid) -> Result<()> {
    run("chrt", &["--fifo", "--reset-on-fork", "--pid", "1", &thread.to_string()])
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("`{program}` is not there"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {}", arguments.join(" "), said.trim());
    Ok(())
}
