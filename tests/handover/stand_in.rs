//! A successor that goes as far as it is told and no further, in a process of its own that can be killed and stopped.

use std::io::{BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use longhaul::handover::{Received, ToPredecessor, Welcome};
use serde_json::json;

use crate::raw::Raw;
use crate::support::{Gateway, Lines, PATIENCE, within};

/// Progress of a successor, in the order of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Step {
    /// Connected, and said nothing.
    Connected,
    /// Said `hello`.
    Hello,
    /// Received the listening sockets.
    Welcome,
    /// Said `serving`.
    Serving,
    /// Received the offer of a batch of tunnels.
    Tunnels,
    /// Said `ready`.
    Ready,
    /// Read `commit`.
    Commit,
}

impl Step {
    pub(crate) const ALL: [Self; 7] =
        [Self::Connected, Self::Hello, Self::Welcome, Self::Serving, Self::Tunnels, Self::Ready, Self::Commit];
}

/// A successor's process, which stands at a step. It is killed when dropped.
pub(crate) struct StandIn {
    child: Child,
    input: ChildStdin,
    output: Lines,
}

impl StandIn {
    /// Starts one that goes to `step`, and waits until it stands there.
    pub(crate) async fn at(gateway: &Gateway, step: Step) -> Self {
        Self::start(gateway, step, "stand_in::process").await
    }

    /// Starts one that reads `commit` and then hangs; its process is not the one that knocked, as with one that goes
    /// into the background. Its process id comes along.
    pub(crate) async fn hanging_in_the_background(gateway: &Gateway) -> (Self, u32) {
        let stand_in = Self::start(gateway, Step::Commit, "stand_in::foreground").await;
        let line = stand_in.output.find(&["in the background is "]).await;
        let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
        (stand_in, pid)
    }

    async fn start(gateway: &Gateway, step: Step, test: &str) -> Self {
        let mut child = itself(test)
            .env(STEP, (step as usize).to_string())
            .env(DOOR, gateway.dir.path().join("upgrade.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = Lines::of(child.stdout.take().unwrap());
        output.find(&["stands at"]).await;
        Self { child, input, output }
    }

    /// Sends it a signal, named as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Makes it panic.
    pub(crate) fn panic(&mut self) {
        writeln!(self.input, "panic").unwrap();
    }

    /// Lets it go on with the protocol, and returns the last word that it hears.
    pub(crate) async fn go_on(&mut self) -> String {
        writeln!(self.input, "go on").unwrap();
        self.output.find(&["heard last: "]).await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let ended = async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the stand-in's end", ended).await
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This test binary, started to run one test as a separate process.
pub(crate) fn itself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]).env("RUST_BACKTRACE", "0");
    command
}

#[test]
#[ignore = "the process of a stand-in, started by other tests"]
fn process() {
    let Some(door) = std::env::var_os(DOOR) else { return };
    let step = Step::ALL[std::env::var(STEP).unwrap().parse::<usize>().unwrap()];
    play(Path::new(&door), step);
}

#[test]
#[expect(clippy::zombie_processes, reason = "it is what this one is for: the child outlives it")]
#[ignore = "the process of a stand-in that knocks and ends, started by other tests"]
fn foreground() {
    let Some(door) = std::env::var_os(DOOR) else { return };
    let mut raw = Raw::connect(Path::new(&door));
    raw.say(json!({ "say": "hello", "oldest": 1, "newest": 1, "version": "0", "pid": std::process::id() }));
    let child = itself("stand_in::background").env(DOOR, door).stdin(OwnedFd::from(raw.stream)).spawn().unwrap();
    println!("in the background is {}", child.id());
}

#[test]
#[ignore = "the process of a stand-in in the background, started by another"]
fn background() {
    if std::env::var_os(DOOR).is_none() {
        return;
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut raw = Raw::of(UnixStream::from(socket));
    assert_eq!(raw.hear().unwrap().word(), "welcome");
    raw.say(json!({ "say": "serving" }));
    let mut batch = raw.hear().unwrap();
    raw.say(json!({ "say": "ready" }));
    let mut next = raw.hear().unwrap();
    while next.word() != "commit" {
        // Whoever was ready too late is offered the batch again.
        assert_eq!(next.word(), "tunnels");
        batch = next;
        raw.say(json!({ "say": "ready" }));
        next = raw.hear().unwrap();
    }
    println!("stands at Commit");
    // Hangs for longer than any test waits, and keeps its descriptors.
    std::thread::park_timeout(PATIENCE * 2);
    drop(batch);
}

/// Goes to a step, and waits there to be told how to go on.
fn play(door: &Path, step: Step) {
    if step <= Step::Hello {
        let mut raw = Raw::connect(door);
        if step == Step::Hello {
            raw.say(json!({ "say": "hello", "oldest": 1, "newest": 1, "version": "0", "pid": std::process::id() }));
        }
        stand(step);
        return;
    }
    let Welcome { mut predecessor, sockets, .. } = ToPredecessor::connect(door).unwrap();
    // Its listeners, and that of the metrics.
    assert!(sockets.len() >= 2, "{} sockets", sockets.len());
    if step >= Step::Serving {
        predecessor.serving().unwrap();
    }
    // Keeps the connection until the end, as a real successor does.
    let mut batch = None;
    if step >= Step::Tunnels {
        let Received::Tunnels(tunnels, _) = predecessor.receive().unwrap() else { panic!("tunnels are expected") };
        batch = Some(tunnels);
    }
    if step >= Step::Ready {
        predecessor.ready(Vec::new()).unwrap();
    }
    if step >= Step::Commit {
        loop {
            match predecessor.receive().unwrap() {
                Received::Commit => break,
                // Whoever was ready too late is offered the batch again.
                Received::Tunnels(tunnels, _) => batch = Some(tunnels),
                _ => panic!("`commit` is expected"),
            }
            predecessor.ready(Vec::new()).unwrap();
        }
    }
    stand(step);
    let mut took = "";
    if step == Step::Commit {
        took = if predecessor.take() { "taken, " } else { "late, " };
    } else if step == Step::Tunnels {
        let _ = predecessor.ready(Vec::new());
    }
    let last = loop {
        match predecessor.receive() {
            // The first batch that it was waiting for; any further one is offered in vain.
            Ok(Received::Tunnels(tunnels, _)) if step == Step::Serving && batch.is_none() => {
                batch = Some(tunnels);
                let _ = predecessor.ready(Vec::new());
            }
            Ok(Received::Tunnels(..)) => break "tunnels".to_owned(),
            Ok(Received::Commit) if predecessor.take() => break "commit".to_owned(),
            Ok(Received::Commit) => took = "late, ",
            Ok(Received::Done) => break "done".to_owned(),
            Ok(Received::Abort(reason)) => break format!("abort: {reason}"),
            Ok(Received::Gone) => break "nothing".to_owned(),
            Err(failure) => break failure.to_string(),
        }
    };
    println!("heard last: {took}{last}");
    drop(batch);
}

/// Says where it stands, and waits for the next line.
fn stand(step: Step) {
    println!("stands at {step:?}");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    assert_ne!(line.trim(), "panic", "told to panic");
}

const STEP: &str = "STAND_IN_STEP";
const DOOR: &str = "STAND_IN_DOOR";
