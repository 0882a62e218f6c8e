//! Sessions: every process under test leads one of its own, so that the kernel schedules all of them alike.
//!
//! With `kernel.sched_autogroup_enabled=1` each session is a scheduling group with a share of the cores of its own
//! (sched(7)). A program that calls `setsid` by itself, as daemons do, would be the only one with a share of its own.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process, set_parent_process_death_signal, setsid};

/// A command that runs `program` in a session of its own, and sends it `end` should this process die.
///
/// # Errors
/// When this program's own file is unknown.
pub fn command(program: &Path, end: Signal) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program's file is unknown")?);
    command.args(["launch", "--end", &end.as_raw().to_string(), "--"]).arg(program);
    Ok(command)
}

/// The second half of [`command`], in the new process: becomes `words`.
///
/// # Errors
/// Returns only when it fails.
pub fn launch(end: i32, words: &[String]) -> Result<()> {
    let signal = Signal::from_named_raw(end).context("no such signal")?;
    setsid().context("no session of its own")?;
    set_parent_process_death_signal(Some(signal))?;
    let (program, arguments) = words.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    bail!("{program}: {error}")
}

/// Runs this program again in a session of its own, and returns its exit code; `None` when this process already leads a
/// session. The first process stays with the terminal and passes SIGINT and SIGTERM on.
///
/// # Errors
/// When the program cannot be started or signals cannot be taken over.
pub fn lead() -> Result<Option<ExitCode>> {
    if crate::proc::leads_session() {
        return Ok(None);
    }
    let is_asked = Arc::new(AtomicBool::new(false));
    let (mut bell, ringer) = UnixStream::pair().context("no socket pair")?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGCHLD] {
        if signal != signal_hook::consts::SIGCHLD {
            signal_hook::flag::register(signal, Arc::clone(&is_asked)).context("signals cannot be taken over")?;
        }
        signal_hook::low_level::pipe::register(signal, ringer.try_clone().context("no descriptor")?)
            .context("signals cannot be taken over")?;
    }
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let mut child = command(&program, Signal::TERM)?.args(std::env::args_os().skip(1)).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)));
        }
        // Each signal writes a byte; an interrupted read is followed by one that has it.
        let _ = bell.read(&mut [0]);
        if is_asked.swap(false, Ordering::Relaxed)
            && let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32)
        {
            // The child may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}
