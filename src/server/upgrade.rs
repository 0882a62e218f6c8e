//! `longhaul upgrade`: starts the new process that takes over.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use log::{info, warn};
use tokio::process::{Child, Command};

use super::hand_over::Moved;
use super::operator::Operator;
use super::signals::Signals;
use crate::control::{FailureKind, Reply, Responder};
use crate::handover::START_WITHIN;

impl Operator {
    /// Starts `binary` (or the program that runs now) and hands everything over to it; says whether this process is to end.
    pub(super) async fn upgrade(
        &mut self,
        binary: Option<PathBuf>,
        responder: Responder,
        signals: &mut Signals,
    ) -> bool {
        match self.try_to_upgrade(binary, signals).await {
            Ok((pid, moved)) => {
                responder.finish(Reply::done(format!(
                    "process {pid} has taken over: {} tunnels moved, {} stayed, longest pause {:.1} ms",
                    moved.tunnels,
                    moved.stayed,
                    moved.longest_pause.as_secs_f64() * 1_000.0
                )));
                true
            }
            Err((failure, reason)) => {
                warn!("the upgrade failed, this process goes on: {reason}");
                self.history.upgraded(false, reason.as_str());
                responder.finish(Reply::failed(failure, format!("nothing has changed: {reason}")));
                false
            }
        }
    }

    async fn try_to_upgrade(
        &mut self,
        binary: Option<PathBuf>,
        signals: &mut Signals,
    ) -> Result<(u32, Moved), (FailureKind, String)> {
        let failed = |reason: String| (FailureKind::Failed, reason);
        let file = self.running.snapshot().config.source.clone();
        let file =
            file.map(|source| source.path).ok_or_else(|| failed("this gateway was not started from a file".into()))?;
        if self.unix_sockets.handover.is_none() {
            return Err(failed("there is no upgrade socket; name one with upgrade_sock".into()));
        }
        let binary = binary.map_or_else(program, Ok).map_err(|error| failed(error.to_string()))?;
        try_configuration(&binary, &file).await?;
        let mut child = start(&binary, &file).map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        info!("started process {pid} ({}) to take over", binary.display());
        let successor = tokio::select! {
            successor = self.unix_sockets.successor() => successor,
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(failed(format!("the new process ended before it took over ({status}); its log says why")));
            }
            () = tokio::time::sleep(START_WITHIN) => {
                end(child).await;
                return Err(failed(format!("the new process did not ask to take over within {START_WITHIN:?}")));
            }
        };
        match self.give_way(successor, signals).await {
            Ok(moved) => Ok((pid, moved)),
            Err(failure) => {
                end(child).await;
                Err(failed(failure.to_string()))
            }
        }
    }
}

/// The program that runs now, also when another file has taken its name since.
fn program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // Linux marks a file that is no longer there under its name so (proc(5), /proc/pid/exe).
    let name = path.to_string_lossy().into_owned();
    Ok(name.strip_suffix(" (deleted)").map_or(path, PathBuf::from))
}

/// Has the new program read the configuration, before anything is asked of anyone.
async fn try_configuration(binary: &Path, file: &Path) -> Result<(), (FailureKind, String)> {
    let mut command = Command::new(binary);
    command.arg("-t").arg("-c").arg(file).stdin(Stdio::null()).kill_on_drop(true);
    let cannot_run = |error: String| (FailureKind::Failed, format!("{} cannot be run: {error}", binary.display()));
    let output = match tokio::time::timeout(TEST_WITHIN, command.output()).await {
        Ok(output) => output.map_err(|error| cannot_run(error.to_string()))?,
        Err(_) => return Err(cannot_run(format!("it did not test the configuration within {TEST_WITHIN:?}"))),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err((FailureKind::WrongConfiguration, format!("{} refuses the configuration:\n{said}", binary.display())))
}

fn start(binary: &Path, file: &Path) -> Result<Child, String> {
    let mut command = Command::new(binary);
    command.arg("-u").arg("-c").arg(file).stdin(Stdio::null());
    command.spawn().map_err(|error| format!("{} cannot be run: {error}", binary.display()))
}

/// Makes sure that a process which did not take over does not go on either.
async fn end(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill().await;
}

const TEST_WITHIN: Duration = Duration::from_secs(30);
