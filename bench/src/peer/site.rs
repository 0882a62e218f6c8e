//! A running gateway in front of three backends; ends all their processes when dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, WaitOptions, kill_process, wait, waitpid};
use tempfile::TempDir;

use super::ports::Ports;
use super::{Peer, Places, template};
use crate::generator::Generator;
use crate::load::{self, Job, Remote, Targets};
use crate::netns::{self, Namespace};
use crate::proc::{self, Pid};
use crate::scheduling::{self, Party};
use crate::session;
use crate::stop::Stop;
use crate::tls::Certificate;

/// Everything that sites have in common.
pub struct Ground {
    /// Longhaul's program.
    pub longhaul: PathBuf,
    /// Ends waits early.
    pub stop: Stop,
    /// The certificate of all gateways.
    pub certificate: Certificate,
    /// The generator of messages and handshakes.
    pub generator: Generator,
    /// The generator's network namespace, if it has one of its own.
    pub namespace: Option<Namespace>,
}

impl Ground {
    /// Address of gateways and backends.
    fn address(&self) -> Ipv4Addr {
        if self.namespace.is_some() { netns::OUTSIDE } else { Ipv4Addr::LOCALHOST }
    }
}

/// Setting of a gateway at its start.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Worker processes or threads.
    pub workers: usize,
    /// Another program will take its place.
    pub is_replaced: bool,
    /// With the access log that it has by default; without one otherwise.
    pub is_logged: bool,
    /// The way its clients come.
    pub clients: Clients,
    /// Backends that bear so many handshakes, and gateways that know it.
    pub storm: Option<Storm>,
    /// Ten backends that are restarted, and gateways that go on with the others.
    pub is_restarted: bool,
}

/// Backends that take one handshake at a time.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Handshakes a second that each backend takes.
    pub rate: u32,
    /// Handshakes that may wait at each backend; one more is answered 503.
    pub queue: usize,
    /// Descriptors that a gateway may have.
    pub descriptors: u64,
}

/// The way from clients to the gateway. Backends are plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Without TLS.
    Plain,
    /// Over TLS 1.3, each with a full handshake.
    Tls,
    /// Over TLS 1.3, each in the session of an earlier one.
    Resuming,
}

/// A running gateway (or none, for [`Peer::Direct`]) with its backends. Ends them all when dropped.
pub struct Site<'a> {
    /// Addresses for clients: the gateway, or each backend in turn.
    pub targets: Targets,
    /// The gateway's configuration file.
    pub file: String,
    /// The folder of its sockets.
    pub dir: TempDir,
    /// Its first process.
    pub first: Option<Pid>,
    pub(super) peer: Peer,
    setting: Setting,
    pub(super) backends: Vec<Backend>,
    pub(super) ground: &'a Ground,
    /// The other generator's process, once it was started.
    remote: Cell<Option<Pid>>,
    differences: RefCell<Vec<String>>,
    /// The ports of the gateway and of the backends, kept while those are away.
    ports: Ports,
}

pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) pid: Pid,
}

impl Setting {
    fn backends(self) -> usize {
        if self.is_restarted { NAMES.len() } else { 3 }
    }
}

/// Names of the backends, in order.
const NAMES: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
/// The longest time a gateway may take to answer its first request, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

impl<'a> Site<'a> {
    /// Starts the backends, three where not ten are restarted, and the gateway, and waits until it answers.
    ///
    /// # Errors
    /// When any of them does not start, or the gateway does not answer within 30 s; the message has its last words.
    pub fn start(peer: Peer, setting: Setting, ground: &'a Ground) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("longhaul-bench-").tempdir().context("no temporary folder")?;
        let (targets, backends, ports) = (Targets::default(), vec![], Ports::default());
        let (file, first) = (String::new(), None);
        let (remote, differences) = (Cell::new(None), RefCell::new(Vec::new()));
        let mut site = Self { targets, file, dir, first, peer, setting, backends, ground, remote, differences, ports };
        for name in &NAMES[..setting.backends()] {
            site.start_backend(name, ground.address())?;
        }
        if peer == Peer::Direct {
            site.targets.addresses = site.backends.iter().map(|backend| backend.address).collect();
            return Ok(site);
        }
        let listen = site.ports.free(ground.address())?;
        site.targets.addresses = vec![listen];
        if setting.clients != Clients::Plain {
            std::fs::write(site.path("tls.pem"), ground.certificate.pem()).context("no certificate written")?;
            site.targets.tls = Some(ground.certificate.client(setting.clients == Clients::Resuming)?);
        }
        site.file = site.path(peer.file_name());
        site.configure(setting.backends())?;
        site.start_gateway()?;
        Ok(site)
    }

    /// Writes the configuration, with the first `backends` of them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, backends: usize) -> Result<()> {
        let addresses: Vec<SocketAddr> = self.backends.iter().take(backends).map(|backend| backend.address).collect();
        let dir = self.path("");
        let (extra, workers) = (self.peer.extra(), self.setting.workers);
        let daemon = if self.peer.pid_file(self.setting).is_some() { "on" } else { "off" };
        let (log, storm) = (self.peer.log(self.setting), self.setting.storm);
        let (listen, is_tls) = (self.targets.of(0), self.targets.tls.is_some());
        let places = Places { listen, is_tls, backends: &addresses, dir: &dir, extra, workers, daemon, log, storm };
        std::fs::write(&self.file, template::fill(self.peer.template(self.setting), &places))
            .context("no configuration written")
    }

    /// Starts the gateway's program in a session of its own. The signal that ends it is sent to it should this process
    /// die.
    ///
    /// # Errors
    /// When it is missing.
    pub fn spawn(&self, arguments: &[String]) -> Result<Pid> {
        let program = self.peer.program(&self.ground.longhaul).context("its program is not installed")?;
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let mut command = session::command(&program, self.peer.end())?;
        command.args(arguments);
        command.env("GOMAXPROCS", self.setting.workers.to_string());
        command.env("HOME", self.dir.path()).env("XDG_DATA_HOME", self.dir.path());
        if self.peer == Peer::Pingora {
            // Stock Pingora is built in Longhaul's folder, with Longhaul's settings of jemalloc. These are jemalloc's
            // own defaults.
            command.env("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,lg_tcache_max:15");
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(child.id() as Pid)
    }

    /// Runs a command of the gateway's program to its end, at most 30 s.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&self, arguments: &[String]) -> Result<()> {
        let pid = self.spawn(arguments)?;
        let handle = rustix::process::Pid::from_raw(pid).context("a process id is not zero")?;
        let mut status = None;
        let ended = self.ground.stop.wait_until(Duration::from_secs(30), || {
            status = waitpid(Some(handle), WaitOptions::NOHANG)?;
            Ok(status.is_some())
        })?;
        ensure!(ended, "`{}` does not end", arguments.join(" "));
        let code = status.and_then(|(_, status)| status.exit_status());
        ensure!(code == Some(0), "`{}` failed: {}", arguments.join(" "), self.last_words());
        Ok(())
    }

    /// Ends the gateway and starts it again, with the configuration as it is now.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.end_gateway();
        self.start_gateway()
    }

    fn start_gateway(&mut self) -> Result<()> {
        let started = self.spawn(&self.peer.arguments(&self.file, &self.path(""), self.setting))?;
        self.wait_for_answer()?;
        self.first = match self.peer.pid_file(self.setting) {
            None => Some(started),
            Some(name) => {
                let pid = std::fs::read_to_string(self.path(name)).context("no pid file")?;
                Some(pid.trim().parse().context("no process id in the pid file")?)
            }
        };
        Ok(())
    }

    fn end_gateway(&self) {
        // The first signal lets it end its children in order. Processes that are left after that are killed.
        signal_all(&self.processes(), self.peer.end());
        // After a second Ctrl-C this wait ends at once.
        let _ = self.ground.stop.wait_until(Duration::from_secs(2), || Ok(self.processes().is_empty()));
        // Each round kills processes that a dying one left behind, until two rounds found none.
        let mut rounds_without = 0;
        for _ in 0..200 {
            let left = self.processes();
            signal_all(&left, Signal::KILL);
            while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
            rounds_without = if left.is_empty() { rounds_without + 1 } else { 0 };
            if rounds_without == 2 {
                break;
            }
            Stop::pause(Duration::from_millis(10));
        }
    }

    /// Starts one more backend, on every address of this machine, and returns its port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_everywhere(&mut self) -> Result<u16> {
        self.start_backend("everywhere", Ipv4Addr::UNSPECIFIED)?;
        Ok(self.backends.last().map_or(0, |backend| backend.address.port()))
    }

    fn start_backend(&mut self, name: &'static str, ip: Ipv4Addr) -> Result<()> {
        let address = self.ports.free(ip)?;
        let started = self.spawn_backend(Backend { name, address, pid: 0 })?;
        self.backends.push(started);
        Ok(())
    }

    /// Starts a backend's process, and waits until it listens.
    pub(super) fn spawn_backend(&self, backend: Backend) -> Result<Backend> {
        let Backend { name, address: listen, .. } = backend;
        let listen = listen.to_string();
        let mut command = session::command(&std::env::current_exe()?, Signal::KILL)?;
        let mut arguments = ["echo", "--name", name, "--listen", &listen].map(str::to_owned).to_vec();
        if let Some(storm) = self.setting.storm {
            let slow = [(1_000_000 / storm.rate.max(1)).to_string(), storm.queue.to_string()];
            arguments.extend(["--handshake-us".to_owned(), slow[0].clone(), "--queue".to_owned(), slow[1].clone()]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("a backend does not start")?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let Ok(address) = line.trim().parse() else {
            // It ends in any case, whatever it said.
            let _ = child.kill();
            let _ = child.wait();
            bail!("a backend did not start");
        };
        Ok(Backend { name, address, pid: child.id() as Pid })
    }

    fn wait_for_answer(&self) -> Result<()> {
        // A program that goes into the background may be missed for a moment.
        let mut missed = 0;
        let answers = self.ground.stop.wait_until(PATIENCE, || {
            missed = if self.processes().is_empty() { missed + 1 } else { 0 };
            if missed > 10 {
                bail!("ended at its start: {}", self.last_words());
            }
            Ok(load::ask(0, &self.targets).is_ok_and(|answer| answer.status == 200))
        })?;
        ensure!(answers, "does not answer: {}", self.last_words());
        Ok(())
    }

    /// All processes of the gateway that run now.
    pub fn processes(&self) -> BTreeSet<Pid> {
        let mut pids = proc::descendants(std::process::id() as Pid);
        for other in self.backends.iter().map(|backend| backend.pid).chain(self.remote.get()) {
            pids.remove(&other);
        }
        pids
    }

    /// Source address of the first client.
    pub fn sources(&self) -> Ipv4Addr {
        if self.ground.namespace.is_some() { netns::SOURCES } else { load::source(0) }
    }

    /// The other generator, ready for the job; `None` when this process is the generator.
    ///
    /// # Errors
    /// When it does not start, or cannot open its tunnels.
    pub fn remote(&self, job: &Job) -> Result<Option<Remote<'_>>> {
        if self.ground.generator == Generator::Mio {
            return Ok(None);
        }
        let remote = Remote::start(job.clone(), self.ground.namespace.as_ref(), &self.ground.stop)?;
        self.remote.set(Some(remote.pid()));
        Ok(Some(remote))
    }

    /// Differences found by [`Site::check_scheduling`], one sentence each.
    pub fn differences(&self) -> Vec<String> {
        self.differences.take()
    }

    /// Compares how the kernel schedules the generator, the backends and the gateway.
    pub fn check_scheduling(&self) {
        let generator = self.remote.get().unwrap_or(std::process::id() as Pid);
        let mut parties = vec![Party { name: "generator".into(), pids: BTreeSet::from([generator]) }];
        for backend in &self.backends {
            parties.push(Party { name: format!("backend {}", backend.name), pids: BTreeSet::from([backend.pid]) });
        }
        parties.push(Party { name: self.peer.title().into(), pids: self.processes() });
        self.differences.borrow_mut().extend(scheduling::differences(&parties));
    }

    /// The last lines of the gateway's log, those about trouble where there are any.
    fn last_words(&self) -> String {
        let mut words = String::new();
        for name in ["log", "error.log"] {
            words += &std::fs::read_to_string(self.path(name)).unwrap_or_default();
        }
        let mut lines: Vec<&str> = words.trim().lines().collect();
        let is_trouble = |line: &&str| ["rror", "emerg", "critical", "ALERT"].iter().any(|word| line.contains(word));
        if lines.iter().any(is_trouble) {
            lines.retain(is_trouble);
        }
        lines[lines.len().saturating_sub(2)..].join(" / ")
    }

    /// A path in the site's folder; the folder itself for "".
    pub fn path(&self, name: &str) -> String {
        let dir: &Path = self.dir.path();
        if name.is_empty() { dir.display().to_string() } else { dir.join(name).display().to_string() }
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        self.end_gateway();
        let backends: BTreeSet<Pid> = self.backends.iter().map(|backend| backend.pid).collect();
        signal_all(&backends, Signal::KILL);
        for pid in backends.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            // A killed process ends.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn signal_all(pids: &BTreeSet<Pid>, signal: Signal) {
    for pid in pids {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            // The process may have ended by itself meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}
