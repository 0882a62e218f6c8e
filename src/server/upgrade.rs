//! `longhaul upgrade`: starts the new process that takes over.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use tokio::process::{Child, Command};

use super::hand_over::{Moved, TOLD_TO_END};
use super::operator::Operator;
use super::signals::Signals;
use crate::control::{CommandFailure, Reply, Responder};
use crate::counted::counted;
use crate::handover::{START_WITHIN, ToSuccessor};
use crate::tls::certificates::{KEPT_VARIABLE, kept_variable};

impl Operator {
    /// Starts `binary` (or the program that runs now) and hands everything over to it. Returns whether this process
    /// must end.
    pub(super) async fn upgrade(
        &mut self,
        binary: Option<PathBuf>,
        responder: Responder,
        signals: &mut Signals,
    ) -> bool {
        match self.try_to_upgrade(binary, signals).await {
            Ok((pid, moved)) => {
                responder.finish(Reply::done(format!(
                    "process {pid} has taken over: {} moved, {} stayed, longest pause {:.1} ms{}",
                    counted(moved.tunnels, "tunnel"),
                    moved.stayed,
                    moved.longest_pause.as_secs_f64() * 1_000.0,
                    moved.tls
                )));
                true
            }
            Err(FailedUpgrade { kind, reason, halfway, told_to_end }) => {
                if told_to_end {
                    info!("the upgrade is given up: {reason}");
                } else {
                    warn!("the upgrade failed, this process goes on: {reason}");
                    self.history.upgraded(false, reason.as_str());
                }
                let outcome = if halfway { "stopped halfway" } else { "nothing has changed" };
                let message = format!("{outcome}: {reason}");
                responder.finish(Reply::failed(kind, message));
                false
            }
        }
    }

    async fn try_to_upgrade(
        &mut self,
        binary: Option<PathBuf>,
        signals: &mut Signals,
    ) -> Result<(u32, Moved), FailedUpgrade> {
        let file = self.running.snapshot().config.source.clone();
        let file = file.map(|source| source.path);
        let file = file.ok_or_else(|| FailedUpgrade::because("this gateway was not started from a file"))?;
        if self.unix_sockets.handover.is_none() {
            return Err(FailedUpgrade::because("there is no upgrade socket; name one with upgrade_sock"));
        }
        let binary = binary.map_or_else(program, Ok).map_err(FailedUpgrade::because)?;
        let kept = kept_variable(&self.running.snapshot().certificates_in_use(), SystemTime::now());
        tokio::select! {
            tried = try_configuration(&binary, &file, &kept) => tried?,
            () = signals.told_to_end() => return Err(FailedUpgrade::told_to_end()),
        }
        let child = start(&binary, &file).map_err(FailedUpgrade::because)?;
        let pid = child.id().unwrap_or_default();
        info!("started process {pid} ({}) to take over", binary.display());
        let (child, successor) = self.asked_by(child, signals).await?;
        let entry = successor.entry();
        match self.give_way(successor, signals).await {
            Ok(moved) => Ok((pid, moved)),
            // The new process has accepted nobody, and never will.
            Err(stopped) if entry.revoke() => {
                end(child).await;
                Err(FailedUpgrade { told_to_end: stopped.told_to_end, ..FailedUpgrade::because(stopped) })
            }
            // It may have clients, and finds this process gone.
            Err(stopped) if stopped.told_to_end => {
                let reason = format!("{stopped}; the new process goes on alone");
                Err(FailedUpgrade { halfway: true, reason, ..FailedUpgrade::told_to_end() })
            }
            // It may have clients, and ends by itself once they have left.
            Err(stopped) => Err(FailedUpgrade { halfway: true, ..FailedUpgrade::because(stopped) }),
        }
    }

    /// Waits until the new process asks to take over.
    async fn asked_by(
        &mut self,
        mut child: Child,
        signals: &mut Signals,
    ) -> Result<(Child, ToSuccessor), FailedUpgrade> {
        tokio::select! {
            successor = self.unix_sockets.successor() => Ok((child, successor)),
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                let reason = format!("the new process ended before it took over ({status}); its log says why");
                Err(FailedUpgrade::because(reason))
            }
            () = tokio::time::sleep(START_WITHIN) => {
                end(child).await;
                let within = humantime::format_duration(START_WITHIN);
                Err(FailedUpgrade::because(format!("the new process did not ask to take over within {within}")))
            }
            () = signals.told_to_end() => {
                end(child).await;
                Err(FailedUpgrade::told_to_end())
            }
        }
    }
}

/// An upgrade that did not come to its end.
struct FailedUpgrade {
    kind: CommandFailure,
    reason: String,
    /// Set once the new process may have clients.
    halfway: bool,
    told_to_end: bool,
}

impl FailedUpgrade {
    fn because(reason: impl std::fmt::Display) -> Self {
        Self { kind: CommandFailure::Failed, reason: reason.to_string(), halfway: false, told_to_end: false }
    }

    fn told_to_end() -> Self {
        Self { told_to_end: true, ..Self::because(TOLD_TO_END) }
    }
}

/// Path of the program that runs now, also when another file has taken its name since.
fn program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // Linux marks a file that is no longer there under its name so (proc(5), /proc/pid/exe).
    let name = path.to_string_lossy().into_owned();
    Ok(name.strip_suffix(" (deleted)").map_or(path, PathBuf::from))
}

/// Lets the new program test the configuration, in which it is to bear with the certificates that `kept` names.
async fn try_configuration(binary: &Path, file: &Path, kept: &str) -> Result<(), FailedUpgrade> {
    let mut command = Command::new(binary);
    command.arg("-t").arg("-c").arg(file).stdin(Stdio::null()).kill_on_drop(true);
    command.env(KEPT_VARIABLE, kept);
    let cannot_run =
        |error: String| FailedUpgrade::because(format_args!("{} cannot be run: {error}", binary.display()));
    let output = match tokio::time::timeout(TEST_WITHIN, command.output()).await {
        Ok(output) => output.map_err(|error| cannot_run(error.to_string()))?,
        Err(_) => return Err(cannot_run(format!("it did not test the configuration within {TEST_WITHIN:?}"))),
    };
    if output.status.success() {
        return Ok(());
    }
    Err(refusal(binary, &output))
}

/// The failure by what a program printed about the configuration, or by how it ended where it printed nothing.
fn refusal(binary: &Path, output: &Output) -> FailedUpgrade {
    // Longhaul prints problems on the standard error; another program may print on either.
    let printed = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let (binary, status) = (binary.display(), output.status);
    match printed.iter().find(|text| !text.is_empty()) {
        Some(said) => FailedUpgrade {
            kind: CommandFailure::WrongConfiguration,
            ..FailedUpgrade::because(format_args!("{binary} refuses the configuration:\n{said}"))
        },
        None => FailedUpgrade::because(format_args!(
            "{binary} was told to test the configuration (-t -c FILE), printed nothing and ended ({status}); it may be \
             no longhaul"
        )),
    }
}

fn start(binary: &Path, file: &Path) -> Result<Child, String> {
    let mut command = Command::new(binary);
    command.arg("-u").arg("-c").arg(file).stdin(Stdio::null());
    command.spawn().map_err(|error| format!("{} cannot be run: {error}", binary.display()))
}

/// Ends a process that has taken over nothing.
async fn end(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill().await;
}

/// Time limit of that test.
const TEST_WITHIN: Duration = Duration::from_secs(30);
