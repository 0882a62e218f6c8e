//! A generator in another process: another build, by choice in a network namespace of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Job, Outcome};
use crate::netns::Namespace;
use crate::proc::Pid;
use crate::session;
use crate::stop::Stop;

/// The other generator, which has opened its tunnels and done its warm-up. Killed on drop.
pub struct Remote<'a> {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    job: Job,
    stop: &'a Stop,
}

/// The longest time for opening tunnels, and for the last answers.
const PATIENCE: Duration = Duration::from_secs(30);

impl<'a> Remote<'a> {
    /// Starts the generator and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start, fails, or the user wants an end.
    pub fn start(job: Job, namespace: Option<&Namespace>, stop: &'a Stop) -> Result<Self> {
        let program = std::env::current_exe().context("this program's file is unknown")?;
        let program = program.with_file_name("longhaul-bench-tokio");
        let mut command = match namespace {
            None => session::command(&program, Signal::KILL)?,
            Some(namespace) => {
                let mut command = session::command("ip".as_ref(), Signal::KILL)?;
                command.args(["netns", "exec", namespace.name()]).arg(program);
                command
            }
        };
        let command = command.arg(serde_json::to_string(&job)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the generator does not start")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        let (sender, lines) = channel();
        // Ends with the generator, whose output it reads.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let remote = Self { child, input, lines, job, stop };
        let word = remote.line(remote.job.warm_up + PATIENCE)?;
        anyhow::ensure!(word == READY, "the generator said {word}");
        Ok(remote)
    }

    /// Id of the other process.
    pub fn pid(&self) -> Pid {
        self.child.id() as Pid
    }

    /// Lets the other process run the load.
    ///
    /// # Errors
    /// The load fails, or the user wants an end.
    pub fn run(&mut self) -> Result<Outcome> {
        self.input.write_all(b"go\n").context("the generator has ended")?;
        let line = self.line(self.job.window + PATIENCE)?;
        serde_json::from_str(&line).with_context(|| format!("the generator said {line}"))
    }

    fn line(&self, patience: Duration) -> Result<String> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            self.stop.check()?;
            // Rarely: this process must not take part in the load.
            match self.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the generator has failed"),
            }
        }
        bail!("the generator does not answer")
    }
}

/// The line by which the generator says that it is ready.
pub const READY: &str = "ready";

impl Drop for Remote<'_> {
    fn drop(&mut self) {
        // It may have failed, and ended, by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
