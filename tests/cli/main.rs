//! The command line: exit codes, output, signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod daemon;
mod demo;
mod files;
mod signals;
mod start;
mod usage;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::within;
use tempfile::TempDir;

const CONFIG: &str = "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  \
                      u:\n    backends: [127.0.0.1:9]\n    health: off\n";

/// Runs the command to its end.
fn longhaul(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file in a folder of its own.
fn file(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("longhaul.yaml");
    std::fs::write(&path, text.replace("{dir}", dir.path().to_str().unwrap())).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// A process that is not this test's child any more. It is ended when this is dropped.
struct Stray(u32);

impl Stray {
    fn signal(&self, name: &str) {
        let _ = Command::new("kill").arg(format!("-{name}")).arg(self.0.to_string()).stderr(Stdio::null()).status();
    }

    /// Tells whether it is gone, or dead and not yet waited for by its parent.
    fn is_gone(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        if !self.is_gone() {
            self.signal("KILL");
        }
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, found).await
}
