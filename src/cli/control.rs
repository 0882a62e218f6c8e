//! Shared parts of the commands to a running gateway: the search for its control socket, and the output of its answers.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::output::{Unsaid, complain, failed, say, say_last};
use crate::config::{self, KnownHooks, Problem, Settings};
use crate::control::{CommandFailure, ControlClient, ControlError, ControlRequest, HandedOver, Reply};
use crate::counted::counted;
use crate::drain::Progress;
use crate::hook::HookRegistry;
use crate::snapshot::GatewayPhase;
use crate::status::TunnelStatus;
use crate::tls::certificates::Lapsed;
use crate::unix_socket::SocketPath;

/// Which gateway is meant, and how it is to be shown what it says.
#[derive(Debug, Args)]
pub(super) struct Instance {
    /// The running gateway's configuration file, which may name its control socket
    #[arg(short, long, value_name = "FILE", global = true)]
    conf: Option<PathBuf>,
    /// The control socket; control.sock in the runtime folder if neither this nor a file names it
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "conf")]
    socket: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

/// A configuration to be compared.
#[derive(Debug, Args)]
pub(super) struct PlanSource {
    /// Compare with what runs, instead of with another file
    #[arg(long)]
    running: bool,
    /// The configurations: the old one and the new one; with --running the new one alone
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn reload(instance: &Instance, hooks: &HookRegistry) -> ExitCode {
    instance.ask(&ControlRequest::Reload, hooks)
}

pub(super) fn upgrade(binary: Option<PathBuf>, instance: &Instance, hooks: &HookRegistry) -> ExitCode {
    // The gateway stands in another folder than whoever asks.
    match binary.map(std::path::absolute).transpose() {
        Ok(binary) => instance.ask(&ControlRequest::Upgrade { binary }, hooks),
        Err(error) => wrong(error),
    }
}

pub(super) fn plan(plan: &PlanSource, hooks: &HookRegistry) -> ExitCode {
    match plan.files.as_slice() {
        [file] if plan.running => {
            // The gateway may run where it cannot read the file, so it is sent.
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => return wrong(format_args!("{}: cannot be read: {error}", file.display())),
            };
            plan.instance.ask(&ControlRequest::Plan { file: file.display().to_string(), text }, hooks)
        }
        [old, new] if !plan.running => super::plan::run(old, new, plan.instance.json, hooks),
        _ => wrong("plan takes two files, OLD.yaml NEW.yaml, or --running and one"),
    }
}

impl Instance {
    /// Asks the gateway and shows what it says, to the last word.
    pub(super) fn ask(&self, request: &ControlRequest, hooks: &HookRegistry) -> ExitCode {
        self.ask_and(request, AwaitedReply::ForTheEnd, hooks)
    }

    /// As [`ask`](Self::ask); may leave as soon as the command has begun.
    pub(super) fn ask_and(&self, request: &ControlRequest, waits: AwaitedReply, hooks: &HookRegistry) -> ExitCode {
        self.answer(request, waits, hooks).unwrap_or_else(|unsaid| unsaid.ends_with(ExitCode::SUCCESS))
    }

    /// As [`ask_and`](Self::ask_and); tells where the output was not taken.
    pub(super) fn answer(
        &self,
        request: &ControlRequest,
        waits: AwaitedReply,
        hooks: &HookRegistry,
    ) -> Result<ExitCode, Unsaid> {
        let mut screen = Screen::new(self.json);
        let opened = self.socket(hooks).and_then(|at| {
            let answer = ControlClient::ask(at.path(), request).map_err(failed)?;
            Ok((at, answer))
        });
        let (at, mut answer) = match opened {
            Ok(opened) => opened,
            Err(code) => return Ok(code),
        };
        loop {
            match answer.next_reply() {
                Ok(Reply::Tunnels { tunnels }) => screen.tunnels(&tunnels)?,
                Ok(Reply::Progress(progress)) => {
                    let is_shown = screen.progress(&progress);
                    if waits == AwaitedReply::ForTheBeginning {
                        is_shown?;
                        screen.end_line()?;
                        return Ok(ExitCode::SUCCESS);
                    }
                    // Whoever waited for the end does not see it: that is no success, even without a reader.
                    is_shown.map_err(|_| Unsaid::Failed)?;
                }
                Ok(reply) => match HandedOver::of(&reply).and_then(|to| Some((to, request.followed(to)?))) {
                    Some((to, request)) => match ask_successor(at.path(), to, &request) {
                        Ok(followed) => answer = followed,
                        Err(error) => {
                            screen.last(&reply)?;
                            return Ok(failed(error));
                        }
                    },
                    None => return screen.last(&reply),
                },
                Err(error) => {
                    screen.end_line()?;
                    return Ok(failed(error));
                }
            }
        }
    }

    /// The configuration file, where one is named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.conf.as_deref()
    }

    /// Tells whether the answer is to be JSON.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// Tells whether the gateway answers at all.
    pub(super) fn answers(&self, hooks: &HookRegistry) -> bool {
        let status = |at: SocketPath| {
            ControlClient::ask(at.path(), &ControlRequest::Status).and_then(|mut answer| answer.next_reply())
        };
        self.socket(hooks).is_ok_and(|at| status(at).is_ok())
    }

    /// Path of the gateway's control socket.
    fn socket(&self, hooks: &HookRegistry) -> Result<SocketPath, ExitCode> {
        let named = match (&self.socket, &self.conf) {
            (Some(socket), _) => Some(socket.clone()),
            (None, Some(file)) => named_by(file, hooks)?,
            (None, None) => None,
        };
        SocketPath::of_control(named.as_deref())
            .ok_or_else(|| wrong("there is no runtime folder with a control socket; name it with `--socket PATH`"))
    }
}

/// The names of hooks, for a reader of the file that makes none: a hook may open files and connections when it is made.
struct Named<'h>(&'h HookRegistry);

impl KnownHooks for Named<'_> {
    fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}

/// The control socket that a file names. A file with problems names it, too: the gateway runs with an older
/// one. Warnings are left to `check`.
fn named_by(file: &Path, hooks: &HookRegistry) -> Result<Option<PathBuf>, ExitCode> {
    let error = match config::load_by(file, &Named(hooks), &Lapsed::Taken) {
        Ok(loaded) => return Ok(loaded.config.control_sock),
        Err(error) => error,
    };
    let at = file.display();
    if let Some(socket) = fs::read_to_string(file).ok().and_then(|text| config::control_sock_of(&text)) {
        let hint =
            format_args!("{at} has problems, which `longhaul check` names; its control_sock is used all the same");
        complain(format_args!("warning: {hint}"));
        return Ok(Some(socket));
    }
    super::output::refused(file, &error);
    complain(
        "longhaul: a running gateway is found without its file, too: name its control socket with `--socket PATH`",
    );
    Err(super::output::WRONG.into())
}

/// Asks the process that has taken over, once it listens at the control socket in its predecessor's place.
fn ask_successor(at: &Path, to: HandedOver, request: &ControlRequest) -> Result<ControlClient, ControlError> {
    let until = Instant::now() + SUCCESSOR_WITHIN;
    loop {
        let status = ControlClient::ask(at, &ControlRequest::Status).and_then(|mut answer| answer.next_reply());
        match status {
            Ok(Reply::Status(status)) if status.pid == to.pid => return ControlClient::ask(at, request),
            Err(error) if Instant::now() >= until => return Err(error),
            _ if Instant::now() >= until => return ControlClient::ask(at, request),
            _ => std::thread::park_timeout(ASK_AGAIN),
        }
    }
}

/// The reply that a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwaitedReply {
    /// That it has begun.
    ForTheBeginning,
    /// That it is done.
    ForTheEnd,
}

/// Standard output, as the answer to one command.
struct Screen {
    json: bool,
    /// Progress overwrites the line it stands in.
    is_terminal: bool,
    line_open: bool,
    /// The line with the names of the table's columns has been printed.
    has_head: bool,
    shown: Option<Instant>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let is_terminal = !json && std::io::stdout().is_terminal();
        Self { json, is_terminal, line_open: false, has_head: false, shown: None }
    }

    /// Shows progress: in place on a terminal, else a line a second.
    fn progress(&mut self, progress: &Progress) -> Result<(), Unsaid> {
        if self.is_terminal {
            self.line_open = true;
            return say(&format!("\r\x1b[2K{}", sentence(progress)));
        }
        if self.shown.is_some_and(|shown| shown.elapsed() < A_LINE_EVERY) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        say(&if self.json { Reply::Progress(*progress).to_line() } else { format!("{}\n", sentence(progress)) })
    }

    /// Shows some tunnels: a line each.
    fn tunnels(&mut self, tunnels: &[TunnelStatus]) -> Result<(), Unsaid> {
        let lines = tunnels.iter().map(|tunnel| match self.json {
            true => format!("{}\n", json!(tunnel)),
            false => super::tunnels::line(tunnel),
        });
        let head = if self.json || std::mem::replace(&mut self.has_head, true) { "" } else { super::tunnels::HEAD };
        say(&lines.fold(head.to_owned(), |text, line| text + &line))
    }

    fn end_line(&mut self) -> Result<(), Unsaid> {
        if std::mem::take(&mut self.line_open) { say("\n") } else { Ok(()) }
    }

    /// Shows the last word.
    fn last(&mut self, reply: &Reply) -> Result<ExitCode, Unsaid> {
        self.end_line()?;
        let (text, code) = match reply {
            Reply::Located(located) => return Ok(super::locate::show(located, self.json)),
            Reply::Listed(listed) => {
                if !self.json {
                    complain(super::tunnels::summary(listed));
                }
                // Every line is a tunnel, the last one too.
                let nothing = listed.matched == 0 && (listed.open > 0 || listed.note.is_some());
                return Ok(if nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS });
            }
            Reply::Failed(failed) => {
                let code = match failed.failure {
                    CommandFailure::WrongConfiguration | CommandFailure::WrongArgument => super::output::WRONG.into(),
                    _ => ExitCode::FAILURE,
                };
                if !self.json {
                    complain(format_args!("longhaul: {}", failed.message));
                    return Ok(code);
                }
                (reply.to_line(), code)
            }
            Reply::Status(status) if self.json => (format!("{}\n", json!(status)), ExitCode::SUCCESS),
            Reply::Status(status) => (super::status::text(status), ExitCode::SUCCESS),
            Reply::Done(done) if !self.json => (format!("{}\n", done.message), ExitCode::SUCCESS),
            reply if self.json => (reply.to_line(), ExitCode::SUCCESS),
            _ => return Ok(ExitCode::SUCCESS),
        };
        Ok(say_last(&text, code))
    }
}

/// Progress in words: how many are left, how long.
fn sentence(progress: &Progress) -> String {
    let seconds = |millis: u64| millis.div_ceil(1000);
    let left = format!("{} and {} left", counted(progress.tunnels, "tunnel"), counted(progress.requests, "request"));
    match progress.phase {
        GatewayPhase::Grace => {
            format!("not ready any more; listeners close in {} s; {left}", seconds(progress.grace_ms))
        }
        GatewayPhase::Serving | GatewayPhase::Closing => {
            format!("draining: {left}, {} s at the most", seconds(progress.remaining_ms))
        }
    }
}

/// Wrong usage.
pub(super) fn wrong(error: impl std::fmt::Display) -> ExitCode {
    complain(format_args!("longhaul: {error}"));
    super::output::WRONG.into()
}

const A_LINE_EVERY: Duration = Duration::from_secs(1);
/// Time within which a process that has taken over listens at the control socket.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);
