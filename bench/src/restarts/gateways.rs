//! The gateways of a rolling restart, and the way in which each learns of its backends and of their absence.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::backends::{Backend, Backends, State};
use super::wait;
use crate::peer::{Ground, Peer};
use crate::session;

/// Way in which a gateway knows its backends, and what it does about those that are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Named members of a file, which return at other addresses; their clients wait for them.
    NamedAndHeld,
    /// The same, and nobody waits.
    Named,
    /// Members without names, which return at other addresses; clients wait.
    UnnamedAndHeld,
    /// The same, and nobody waits.
    Unnamed,
    /// Members without names, each of which leaves when another one has come in its place.
    Replaced,
    /// A list in the configuration, and backends that return at their addresses; clients wait.
    ListedAndHeld,
    /// The same, and nobody waits. Other gateways have no other way without a controller beside them.
    Listed,
}

impl Case {
    /// The cases of a gateway.
    pub fn of(peer: Peer) -> &'static [Self] {
        match peer {
            Peer::Longhaul => &[
                Self::NamedAndHeld,
                Self::Named,
                Self::UnnamedAndHeld,
                Self::Unnamed,
                Self::Replaced,
                Self::ListedAndHeld,
                Self::Listed,
            ],
            Peer::Nginx | Peer::Haproxy => &[Self::Listed],
            _ => &[],
        }
    }

    /// For the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::NamedAndHeld => "named, other addresses, `absent: hold`",
            Self::Named => "named, other addresses",
            Self::UnnamedAndHeld => "without names, other addresses, `absent: hold`",
            Self::Unnamed => "without names, other addresses",
            Self::Replaced => "without names, replaced while they leave",
            Self::ListedAndHeld => "the same addresses, `absent: hold`",
            Self::Listed => "the same addresses",
        }
    }

    /// True where backends return at other addresses.
    pub fn returns_elsewhere(self) -> bool {
        !matches!(self, Self::Listed | Self::ListedAndHeld)
    }

    fn is_held(self) -> bool {
        matches!(self, Self::NamedAndHeld | Self::UnnamedAndHeld | Self::ListedAndHeld)
    }

    fn is_named(self) -> bool {
        matches!(self, Self::NamedAndHeld | Self::Named)
    }
}

/// A running gateway. Ended when dropped.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    peer: Peer,
    case: Case,
    dir: TempDir,
    child: Child,
}

impl Gateway {
    /// Starts it, and waits until it listens.
    pub(super) async fn start(peer: Peer, case: Case, backends: &Backends, ground: &Ground) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("longhaul-restarts-").tempdir().context("no temporary folder")?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?.local_addr()?;
        let (file, log) = (dir.path().join("configuration"), File::create(dir.path().join("log"))?);
        tell(dir.path(), case, backends)?;
        std::fs::write(&file, configuration(peer, case, address, dir.path(), backends))?;
        let (file, folder) = (file.display().to_string(), dir.path().display().to_string());
        let arguments: &[&str] = match peer {
            Peer::Nginx => &["-c", &file, "-p", &folder],
            Peer::Haproxy => &["-db", "-f", &file],
            _ => &["-c", &file],
        };
        let program = peer.program(&ground.longhaul).context("its program is not installed")?;
        let mut command = session::command(&program, Signal::TERM)?;
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut gateway = Self { address, peer, case, dir, child: command.spawn()? };
        let until = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let is_there = gateway.child.try_wait()?.is_none() && Instant::now() < until;
            ensure!(is_there, "does not listen: {}", gateway.last_words());
            wait(Duration::from_millis(20), ground).await?;
        }
        Ok(gateway)
    }

    /// Tells the gateway of the backends that are there. A gateway with a list of backends is told nothing.
    pub(super) fn tell(&mut self, backends: &Backends) -> Result<()> {
        tell(self.dir.path(), self.case, backends)
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let end = if self.peer == Peer::Longhaul { Signal::INT } else { Signal::TERM };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, end);
        }
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            crate::stop::Stop::pause(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a new file of members in place of the one before.
fn tell(folder: &Path, case: Case, backends: &Backends) -> Result<()> {
    if !case.returns_elsewhere() {
        return Ok(());
    }
    let mut text = String::new();
    for backend in backends.listed() {
        let name = if case.is_named() { format!("name: shard-{}, ", backend.number) } else { String::new() };
        let leaving = backend.state == State::Leaving;
        writeln!(text, "- {{ {name}address: {}, leaving: {leaving} }}", backend.address)?;
    }
    let fresh = folder.join("members.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, folder.join("members.yaml")).context("the members cannot be written")
}

fn configuration(peer: Peer, case: Case, listen: SocketAddr, dir: &Path, backends: &Backends) -> String {
    let dir = dir.display().to_string();
    let lines = |line: &dyn Fn(&Backend) -> String| backends.all().iter().map(line).collect::<Vec<_>>().join("\n");
    let (template, backends) = match peer {
        Peer::Nginx => {
            let line = |backend: &Backend| format!("        server {} max_fails=0;", backend.address);
            (include_str!("../../peers/restarts/nginx.conf"), lines(&line))
        }
        Peer::Haproxy => {
            let line = |backend: &Backend| format!("    server shard-{} {}", backend.number, backend.address);
            (include_str!("../../peers/restarts/haproxy.cfg"), lines(&line))
        }
        _ => {
            let line = |backend: &Backend| format!("      - {}", backend.address);
            let listed = || format!("    backends:\n{}", lines(&line));
            let discovered = || format!("    discover: {{ file: {dir}/members.yaml, settle: 100ms }}");
            let source = if case.returns_elsewhere() { discovered() } else { listed() };
            (include_str!("../../peers/restarts/longhaul.yaml"), source)
        }
    };
    let absent = if case.is_held() { "{ hold: 20s }" } else { "off" };
    let listen = listen.to_string();
    let places = [("dir", &*dir), ("listen", &*listen), ("absent", absent), ("backends", &*backends)];
    places.iter().fold(template.to_owned(), |text, (place, value)| text.replace(&format!("{{{{{place}}}}}"), value))
}
