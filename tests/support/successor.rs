//! Processes that an upgrade starts.

use rustix::process::{Pid, Signal, kill_process};

/// A process that took over and is not this test's child. It is killed when this is dropped.
pub struct Successor(pub Pid);

impl Successor {
    /// The process that the outcome of an upgrade names.
    pub fn of(said: &str) -> Self {
        let number = said.strip_prefix("process ").and_then(|rest| rest.split(' ').next()).unwrap_or(said);
        Self(Pid::from_raw(number.parse().unwrap()).unwrap())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
