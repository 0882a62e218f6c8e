//! Handovers that fail halfway: a successor that is silent, refuses a tunnel or dies, at the first batch, a middle one,
//! the last.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use longhaul::handover::BATCH;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::lab::{Lab, blocking, get, ready, stop};
use crate::raw::{Raw, Said};
use crate::support::{Gateway, within};
use crate::ws::{CLOSE, Tunnel, all_echo, frame, open_several, read_frame};

/// Failure of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Stands still when the batch comes.
    SilentAtTunnels,
    /// Stands still when `commit` comes.
    SilentAtCommit,
    /// Cannot read the passport of the batch's first tunnel.
    Refusal,
    /// Killed when the batch comes.
    DeathAtTunnels,
    /// Killed when `commit` comes.
    DeathAtCommit,
}

impl Fault {
    fn word(self) -> &'static str {
        if matches!(self, Self::SilentAtCommit | Self::DeathAtCommit) { "commit" } else { "tunnels" }
    }

    /// Does it to the successor, before `said` is passed on. One that stands still goes on when it is told to.
    fn strike(self, said: &mut Said, successor: Pid, goes_on: mpsc::Receiver<()>) {
        match self {
            Self::SilentAtTunnels | Self::SilentAtCommit => {
                stop(successor);
                std::thread::spawn(move || {
                    // A test that has ended waits for nothing more.
                    let _ = goes_on.recv();
                    let _ = kill_process(successor, Signal::CONT);
                });
            }
            Self::Refusal => said.value["passports"][0]["pair"] = "of another release".into(),
            Self::DeathAtTunnels | Self::DeathAtCommit => kill_process(successor, Signal::KILL).unwrap(),
        }
    }
}

/// A gateway with open tunnels, whose successors come to it by way of a relay that strikes at a batch.
struct Scene {
    lab: Lab,
    old: Gateway,
    tunnels: Vec<Tunnel>,
    relay: JoinHandle<()>,
    /// Comes when the relay has struck.
    struck: Option<oneshot::Receiver<()>>,
    /// Tells a successor that stands still to go on.
    wake: mpsc::Sender<()>,
}

impl Scene {
    async fn new(count: usize, fault: Fault, batch: usize) -> Self {
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        let lab = Lab::start().await;
        // One worker, so that all batches but the last are full ones.
        let yaml = format!("drain: {{ window: 0s }}\n{}", lab.config("").replace("threads: 2", "threads: 1"));
        let old = ready(Gateway::start(&yaml).await).await;
        let mut tunnels = open_several(old.address(), count).await;
        all_echo(&mut tunnels).await;
        let (door, between) = (old.dir.path().join("upgrade.sock"), old.dir.path().join("between.sock"));
        let knocked = UnixListener::bind(&between).unwrap();
        rename_upgrade_socket(&old, "upgrade.sock", "between.sock");
        let (tell, struck) = oneshot::channel();
        let (wake, told) = mpsc::channel();
        let relay = std::thread::spawn(move || relay(&knocked, &door, fault, batch, (tell, told)));
        Self { lab, old, tunnels, relay, struck: Some(struck), wake }
    }

    /// Waits until the successor stands still and the old process has found out.
    async fn stands_still(&mut self) {
        within("the strike", self.struck.take().unwrap()).await.unwrap();
        self.old.log.find(&["the new process is silent", "this process serves until it answers"]).await;
    }

    /// A successor that is started by hand.
    fn successor(&self) -> Gateway {
        Gateway::begin(Arc::clone(&self.old.dir), &["-u"], &[])
    }

    /// Every tunnel of these works, and so do new connections.
    async fn serves(&mut self, address: std::net::SocketAddr) {
        all_echo(&mut self.tunnels).await;
        assert_eq!(get(address).await, self.lab.address());
        Tunnel::open(address, "/echo").await.echoes().await;
    }

    /// The old process goes on with these tunnels, and a successor without faults takes all of them over.
    async fn goes_on(mut self) {
        let address = self.old.address();
        self.serves(address).await;
        rename_upgrade_socket(&self.old, "between.sock", "upgrade.sock");
        crate::lab::upgrade(&mut self.old).await;
        self.serves(address).await;
    }
}

fn rename_upgrade_socket(gateway: &Gateway, from: &str, to: &str) {
    let file = gateway.dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap().replace(from, to);
    std::fs::write(&file, yaml).unwrap();
}

/// Passes on all that the two processes say, and strikes when the message of a batch comes by.
fn relay(
    knocked: &UnixListener,
    door: &Path,
    fault: Fault,
    batch: usize,
    strike: (oneshot::Sender<()>, mpsc::Receiver<()>),
) {
    let (successor, mut predecessor, hello) = Raw::between(knocked, door);
    let pid = Pid::from_raw(i32::try_from(hello.value["pid"].as_i64().unwrap()).unwrap()).unwrap();
    predecessor.pass_on(&hello);
    let [back_from, back_to] = [&successor, &predecessor].map(|raw| Raw::of(raw.stream.try_clone().unwrap()));
    // Counted by what was taken: a successor that is only slow is offered a batch a second time.
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let back = std::thread::spawn(move || {
        pass_on(back_from, back_to, |said| {
            count.fetch_add(usize::from(said.word() == "taken"), SeqCst);
        });
    });
    let mut strike = Some(strike);
    pass_on(predecessor, successor, |said| {
        if said.word() == fault.word()
            && !(said.word() == "tunnels" && said.descriptors.is_empty())
            && taken.load(SeqCst) + 1 == batch
            && let Some((struck, goes_on)) = strike.take()
        {
            fault.strike(said, pid, goes_on);
            // Not every test waits for it.
            let _ = struck.send(());
        }
    });
    back.join().unwrap();
}

/// Passes on all that one process says, up to the end of its stream.
fn pass_on(mut from: Raw, mut to: Raw, mut before: impl FnMut(&mut Said)) {
    from.stream.set_read_timeout(None).unwrap();
    while let Ok(mut said) = from.hear() {
        before(&mut said);
        let descriptors: Vec<_> = said.descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        if to.try_say(&said.value, &descriptors).is_err() {
            break;
        }
    }
    // Both ways: a process that is gone neither hears nor speaks.
    let _ = to.stream.shutdown(std::net::Shutdown::Both);
    let _ = from.stream.shutdown(std::net::Shutdown::Both);
}

/// The first batch, a middle one, and the last one of so many tunnels.
fn batches(tunnels: usize) -> [usize; 3] {
    let last = tunnels.div_ceil(BATCH);
    [1, last.div_ceil(2), last]
}

/// Number of tunnels in the tests over every batch; the one that `LONGHAUL_TUNNELS` names, to try more.
fn tunnels() -> usize {
    std::env::var("LONGHAUL_TUNNELS").map_or(9 * BATCH + 7, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_stands_still_gets_the_rest_when_it_goes_on() {
    for fault in [Fault::SilentAtTunnels, Fault::SilentAtCommit] {
        for batch in batches(tunnels()) {
            let mut scene = Scene::new(tunnels(), fault, batch).await;
            let new = scene.successor();
            scene.stands_still().await;
            let address = scene.old.address();
            scene.serves_but_for_the_silent(batch).await;
            // Served by the old process, and handed over behind the others.
            scene.tunnels.extend(open_several(address, 5).await);
            scene.wake.send(()).unwrap();
            let new = ready(new.listening().await).await;
            assert_eq!(scene.old.ended().await, Some(0), "{:?}", scene.old.log.to_the_end().await);
            scene.old.log.find(&["tunnels moved, 0 stayed"]).await;
            scene.serves(address).await;
            assert_eq!(new.log.count(&["ERROR"]), 0, "{:?}", new.log.all());
        }
    }
}

impl Scene {
    /// While the successor stands still, tunnels that it has not taken echo, those of the batch under way too.
    async fn serves_but_for_the_silent(&mut self, batch: usize) {
        let taken = (batch - 1) * BATCH;
        all_echo(&mut self.tunnels[taken..]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_the_successor_refuses_stays_and_the_others_move() {
    for batch in batches(tunnels()) {
        let mut scene = Scene::new(tunnels(), Fault::Refusal, batch).await;
        let new = ready(scene.successor().listening().await).await;
        scene.old.log.find(&["a tunnel stays here, the new process refuses it: "]).await;
        // The one that stays follows the drain policy, which ends it at once here.
        let mut refused = scene.tunnels.remove((batch - 1) * BATCH);
        assert_eq!(refused.receive().await.code(), 1001);
        drop(refused);
        assert_eq!(scene.old.ended().await, Some(0), "{:?}", scene.old.log.to_the_end().await);
        scene.old.log.find(&[&format!("handed over: {} tunnels moved, 1 stayed", tunnels() - 1)]).await;
        scene.serves(new.address()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_dies_halfway_takes_only_what_it_had_taken_along() {
    for fault in [Fault::DeathAtTunnels, Fault::DeathAtCommit] {
        for batch in batches(tunnels()) {
            let mut scene = Scene::new(tunnels(), fault, batch).await;
            let mut new = scene.successor();
            let line = scene.old.log.find(&["the handover failed, this process goes on: "]).await;
            assert_eq!(new.ended().await, None, "it was killed");
            let taken = (batch - 1) * BATCH;
            let left = tunnels() - taken;
            let said = format!("{taken} tunnels had moved to the new process and ended with it, {left} stayed: ");
            assert!(line.contains(&said), "{line}");
            assert!(line.contains("the other process is gone"), "{line}");
            for mut tunnel in scene.tunnels.drain(..taken) {
                assert!(within("its end", read_frame(&mut tunnel.stream)).await.is_err());
            }
            scene.goes_on().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_end_while_its_successor_stands_still_drains_the_rest_and_leaves_it_the_gateway() {
    let mut scene = Scene::new(tunnels(), Fault::SilentAtTunnels, 3).await;
    let new = scene.successor();
    let address = scene.old.address();
    scene.stands_still().await;
    scene.old.signal("TERM");
    for mut tunnel in scene.tunnels.drain(2 * BATCH..) {
        assert_eq!(tunnel.receive().await.code(), 1001);
        tunnel.send(&frame(CLOSE, &1001u16.to_be_bytes(), true)).await;
    }
    assert_eq!(scene.old.ended().await, Some(0));
    scene.wake.send(()).unwrap();
    let new = ready(new.listening().await).await;
    new.log.find(&[&format!("took over {} tunnels", 2 * BATCH)]).await;
    scene.serves(address).await;
}

/// The case that was seen: 2,500 tunnels, the successor stopped in the middle, by command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_by_command_survives_a_successor_that_stands_still_halfway() {
    for fault in [Fault::SilentAtTunnels, Fault::SilentAtCommit] {
        let mut scene = Scene::new(2_500, fault, 40).await;
        let address = scene.old.address();
        let socket = scene.old.dir.path().join("control.sock");
        let command = tokio::spawn(blocking(move || command(&socket)));
        scene.stands_still().await;
        scene.wake.send(()).unwrap();
        let said = command.await.unwrap();
        let pid = said.strip_prefix("process ").unwrap_or_else(|| panic!("{said}")).split(' ').next().unwrap();
        let _successor = Killed(Pid::from_raw(pid.parse().unwrap()).unwrap());
        assert!(said.contains(" has taken over: 2500 tunnels moved, 0 stayed"), "{said}");
        assert_eq!(scene.old.ended().await, Some(0));
        scene.serves(address).await;
        scene.relay.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_by_command_says_what_moved_and_what_stayed() {
    for batch in [1, 3] {
        let scene = Scene::new(tunnels(), Fault::DeathAtCommit, batch).await;
        let socket = scene.old.dir.path().join("control.sock");
        let said = blocking(move || command(&socket)).await;
        let moved = (batch - 1) * BATCH;
        let stayed = tunnels() - moved;
        let expected = format!(
            "stopped halfway: {moved} tunnels had moved to the new process and ended with it, {stayed} stayed: "
        );
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("clients that it had accepted itself ended with it, too"), "{said}");
    }
}

/// All that `longhaul upgrade` says.
fn command(socket: &PathBuf) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    let output = command.arg("upgrade").arg("--socket").arg(socket).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

/// A process that is not this test's child, killed when this is dropped.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
