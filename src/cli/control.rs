//! Shared parts of the commands to a running gateway: the search for its control socket, and the output of its answers.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::control::{Client, ClientError, FailureKind, HandedOver, Reply, Request};
use crate::drain::Progress;
use crate::hook::Registry;
use crate::snapshot::Phase;
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
pub(super) struct Plan {
    /// Compare with what runs, instead of with another file
    #[arg(long)]
    running: bool,
    /// The configurations: the old one and the new one; with --running the new one alone
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn reload(instance: &Instance, hooks: &Registry) -> ExitCode {
    instance.ask(&Request::Reload, hooks)
}

pub(super) fn upgrade(binary: Option<PathBuf>, instance: &Instance, hooks: &Registry) -> ExitCode {
    // The gateway stands in another folder than whoever asks.
    match binary.map(std::path::absolute).transpose() {
        Ok(binary) => instance.ask(&Request::Upgrade { binary }, hooks),
        Err(error) => wrong(error),
    }
}

pub(super) fn plan(plan: &Plan, hooks: &Registry) -> ExitCode {
    match plan.files.as_slice() {
        [file] if plan.running => {
            // The gateway may run where it cannot read the file, so it is sent.
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => return wrong(format_args!("{}: cannot be read: {error}", file.display())),
            };
            plan.instance.ask(&Request::Plan { file: file.display().to_string(), text }, hooks)
        }
        [old, new] if !plan.running => super::plan::run(old, new, plan.instance.json, hooks),
        _ => wrong("plan takes two files, OLD.yaml NEW.yaml, or --running and one"),
    }
}

impl Instance {
    /// Asks the gateway and shows what it says, to the last word.
    pub(super) fn ask(&self, request: &Request, hooks: &Registry) -> ExitCode {
        self.ask_and(request, Waits::ForTheEnd, hooks)
    }

    /// As [`ask`](Self::ask); may leave as soon as the command has begun.
    pub(super) fn ask_and(&self, request: &Request, waits: Waits, hooks: &Registry) -> ExitCode {
        let mut screen = Screen::new(self.json);
        let opened = self.socket(hooks).and_then(|at| {
            let answer = Client::ask(at.path(), request).map_err(super::output::failed)?;
            Ok((at, answer))
        });
        let (at, mut answer) = match opened {
            Ok(opened) => opened,
            Err(code) => return code,
        };
        loop {
            match answer.next_reply() {
                Ok(Reply::Progress(progress)) => {
                    screen.progress(&progress);
                    if waits == Waits::ForTheBeginning {
                        screen.end_line();
                        return ExitCode::SUCCESS;
                    }
                }
                Ok(reply) => match HandedOver::of(&reply).and_then(|to| Some((to, request.followed(to)?))) {
                    Some((to, request)) => match ask_successor(at.path(), to, &request) {
                        Ok(followed) => answer = followed,
                        Err(error) => {
                            screen.last(&reply);
                            return super::output::failed(error);
                        }
                    },
                    None => return screen.last(&reply),
                },
                Err(error) => {
                    screen.end_line();
                    return super::output::failed(error);
                }
            }
        }
    }

    /// Path of the gateway's control socket.
    fn socket(&self, hooks: &Registry) -> Result<SocketPath, ExitCode> {
        let named = match (&self.socket, &self.conf) {
            (Some(socket), _) => Some(socket.clone()),
            (None, Some(file)) => super::output::load(file, hooks)?.control_sock,
            (None, None) => None,
        };
        SocketPath::of_control(named.as_deref())
            .ok_or_else(|| wrong("there is no runtime folder with a control socket; name it with `--socket PATH`"))
    }
}

/// Asks the process that has taken over, once it listens at the control socket in its predecessor's place.
fn ask_successor(at: &Path, to: HandedOver, request: &Request) -> Result<Client, ClientError> {
    let until = Instant::now() + SUCCESSOR_WITHIN;
    loop {
        let status = Client::ask(at, &Request::Status).and_then(|mut answer| answer.next_reply());
        match status {
            Ok(Reply::Status(status)) if status.pid == to.pid => return Client::ask(at, request),
            Err(error) if Instant::now() >= until => return Err(error),
            _ if Instant::now() >= until => return Client::ask(at, request),
            _ => std::thread::park_timeout(ASK_AGAIN),
        }
    }
}

/// The reply that a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
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
    shown: Option<Instant>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let is_terminal = !json && std::io::stdout().is_terminal();
        Self { json, is_terminal, line_open: false, shown: None }
    }

    /// Shows progress: in place on a terminal, else a line a second.
    fn progress(&mut self, progress: &Progress) {
        if self.is_terminal {
            super::output::say(&format!("\r\x1b[2K{}", sentence(progress)));
            self.line_open = true;
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= A_LINE_EVERY) {
            self.shown = Some(Instant::now());
            if self.json {
                super::output::say(&Reply::Progress(*progress).to_line());
            } else {
                super::output::say(&format!("{}\n", sentence(progress)));
            }
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.line_open) {
            super::output::say("\n");
        }
    }

    /// Shows the last word.
    fn last(&mut self, reply: &Reply) -> ExitCode {
        self.end_line();
        if self.json {
            match reply {
                Reply::Status(status) => super::output::say(&format!("{}\n", json!(status))),
                reply => super::output::say(&reply.to_line()),
            }
        }
        match reply {
            Reply::Failed(failed) => {
                if !self.json {
                    eprintln!("longhaul: {}", failed.message);
                }
                match failed.failure {
                    FailureKind::WrongConfiguration => super::output::WRONG.into(),
                    _ => ExitCode::FAILURE,
                }
            }
            Reply::Done(done) if !self.json => {
                super::output::say(&format!("{}\n", done.message));
                ExitCode::SUCCESS
            }
            Reply::Status(status) if !self.json => {
                super::output::say(&super::status::text(status));
                ExitCode::SUCCESS
            }
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Progress in words: how many are left, how long.
fn sentence(progress: &Progress) -> String {
    let seconds = |millis: u64| millis.div_ceil(1000);
    let left = format!("{} tunnels and {} requests left", progress.tunnels, progress.requests);
    match progress.phase {
        Phase::Grace => format!("not ready any more; listeners close in {} s; {left}", seconds(progress.grace_ms)),
        Phase::Serving | Phase::Closing => {
            format!("draining: {left}, {} s at the most", seconds(progress.remaining_ms))
        }
    }
}

/// Wrong usage.
pub(super) fn wrong(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("longhaul: {error}");
    super::output::WRONG.into()
}

const A_LINE_EVERY: Duration = Duration::from_secs(1);
/// Time within which a process that has taken over listens at the control socket.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);
