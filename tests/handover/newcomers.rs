//! Clients that a successor accepts before it has a tunnel: it may stand still, and they are not cut.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::lab::{Lab, blocking, get, stop};
use crate::raw::{Raw, Said};
use crate::support::{Gateway, within};
use crate::ws::{Tunnel, all_echo, open_several};

/// A gateway with three tunnels, and a relay between it and its successor.
struct Scene {
    lab: Lab,
    old: Gateway,
    tunnels: Vec<Tunnel>,
    knocked: UnixListener,
}

impl Scene {
    async fn new() -> Self {
        let lab = Lab::start().await;
        let old = lab.gateway("").await;
        old.log.find(&["control socket at"]).await;
        let mut tunnels = open_several(old.address(), 3).await;
        all_echo(&mut tunnels).await;
        let knocked = UnixListener::bind(old.dir.path().join("between.sock")).unwrap();
        let file = old.dir.path().join("longhaul.yaml");
        let yaml = std::fs::read_to_string(&file).unwrap().replace("upgrade.sock", "between.sock");
        std::fs::write(&file, yaml).unwrap();
        Self { lab, old, tunnels, knocked }
    }

    /// Starts a relay that holds the word `serving` back until the test says so; resolves to the successor's process
    /// once it has said it.
    fn relay(&self) -> (oneshot::Receiver<Pid>, std::sync::mpsc::Sender<()>) {
        let (serves, serving) = oneshot::channel();
        let (go_on, told) = std::sync::mpsc::channel();
        let (knocked, door) = (self.knocked.try_clone().unwrap(), self.old.dir.path().join("upgrade.sock"));
        std::thread::spawn(move || relay(&knocked, door, serves, &told));
        (serving, go_on)
    }

    /// Opens tunnels while the old process stands still: the successor accepts them.
    async fn newcomers(&mut self) {
        let old = Pid::from_raw(self.old.pid().cast_signed()).unwrap();
        blocking(move || stop(old)).await;
        let mut newcomers = open_several(self.old.address(), 4).await;
        all_echo(&mut newcomers).await;
        self.tunnels.extend(newcomers);
        kill_process(old, Signal::CONT).unwrap();
    }

    /// `longhaul upgrade`, which goes on in the background.
    fn upgrade(&self) -> tokio::task::JoinHandle<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.arg("upgrade").arg("--socket").arg(self.old.dir.path().join("control.sock")).stdin(Stdio::null());
        tokio::spawn(blocking(move || {
            let output = command.output().unwrap();
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
        }))
    }

    async fn all_live(&mut self) {
        all_echo(&mut self.tunnels).await;
        assert_eq!(get(self.old.address()).await, self.lab.address());
    }
}

/// Passes on all that is said, but holds back `serving`.
fn relay(knocked: &UnixListener, door: PathBuf, serves: oneshot::Sender<Pid>, told: &std::sync::mpsc::Receiver<()>) {
    let (mut successor, mut predecessor, hello) = Raw::between(knocked, &door);
    for raw in [&successor, &predecessor] {
        raw.stream.set_read_timeout(None).unwrap();
    }
    let pid = Pid::from_raw(i32::try_from(hello.value["pid"].as_i64().unwrap()).unwrap()).unwrap();
    predecessor.pass_on(&hello);
    successor.pass_on(&predecessor.hear().unwrap());
    let serving = successor.hear().unwrap();
    assert_eq!(serving.word(), "serving");
    serves.send(pid).unwrap();
    // A test that has failed says nothing more.
    let Ok(()) = told.recv() else { return };
    predecessor.pass_on(&serving);
    let [mut from, mut to] = [&successor, &predecessor].map(|raw| Raw::of(raw.stream.try_clone().unwrap()));
    from.stream.set_read_timeout(None).unwrap();
    let back = std::thread::spawn(move || pass_on(&mut from, &mut to));
    pass_on(&mut predecessor, &mut successor);
    back.join().unwrap();
}

fn pass_on(from: &mut Raw, to: &mut Raw) {
    while let Ok(said) = from.hear() {
        let Said { value, descriptors } = &said;
        let descriptors: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        if to.try_say(value, &descriptors).is_err() {
            break;
        }
    }
    let _ = to.stream.shutdown(std::net::Shutdown::Both);
    let _ = from.stream.shutdown(std::net::Shutdown::Both);
}

/// A process that is not this test's child, killed when this is dropped.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_stands_still_before_its_first_tunnel_keeps_the_clients_it_accepted() {
    let mut scene = Scene::new().await;
    let (serves, go_on) = scene.relay();
    let said = scene.upgrade();
    let successor = within("`serving`", serves).await.unwrap();
    let _killed = Killed(successor);
    scene.newcomers().await;
    blocking(move || stop(successor)).await;
    go_on.send(()).unwrap();
    scene.old.log.find(&["the new process is silent, with 0 tunnels; this process serves until it answers"]).await;
    // The old process serves what it has and who comes now.
    all_echo(&mut scene.tunnels[..3]).await;
    scene.tunnels.extend(open_several(scene.old.address(), 2).await);
    assert_eq!(get(scene.old.address()).await, scene.lab.address());
    kill_process(successor, Signal::CONT).unwrap();
    let said = within("the command's end", said).await.unwrap();
    assert!(said.contains(" has taken over: 5 tunnels moved, 0 stayed"), "{said}");
    assert_eq!(scene.old.ended().await, Some(0));
    scene.all_live().await;
    assert_eq!(scene.old.log.count(&["ERROR"]), 0, "{:?}", scene.old.log.all());
}

/// The time that a successor may take to start passes without a word of its, although it accepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_accepts_and_does_not_say_so_is_waited_for() {
    let mut scene = Scene::new().await;
    let (serves, go_on) = scene.relay();
    let said = scene.upgrade();
    let successor = within("`serving`", serves).await.unwrap();
    let _killed = Killed(successor);
    scene.newcomers().await;
    scene.old.log.find(&["the new process is silent, with 0 tunnels", "did not say `serving` within 30s"]).await;
    scene.all_live().await;
    go_on.send(()).unwrap();
    let said = within("the command's end", said).await.unwrap();
    assert!(said.contains(" has taken over: 3 tunnels moved, 0 stayed"), "{said}");
    assert_eq!(scene.old.ended().await, Some(0));
    scene.all_live().await;
}

/// Here nothing has changed, and only here is that said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_has_not_come_to_accept_is_ended_and_nothing_has_changed() {
    let mut scene = Scene::new().await;
    let (knocked, door) = (scene.knocked.try_clone().unwrap(), scene.old.dir.path().join("upgrade.sock"));
    let held = std::thread::spawn(move || {
        let (successor, mut predecessor, hello) = Raw::between(&knocked, &door);
        predecessor.pass_on(&hello);
        // `welcome` is on its way for longer than a start may take; then `abort` stands behind it.
        let welcome = predecessor.hear().unwrap();
        let abort = predecessor.hear().unwrap();
        assert_eq!(abort.word(), "abort");
        drop((welcome, successor));
    });
    let said = within("the command's end", scene.upgrade()).await.unwrap();
    assert!(said.contains("nothing has changed: the other process did not say `serving` within 30s"), "{said}");
    blocking(move || held.join().unwrap()).await;
    scene.all_live().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_end_when_its_successor_accepts_leaves_it_the_clients_and_is_quiet() {
    for signal in ["TERM", "INT"] {
        let mut scene = Scene::new().await;
        let (serves, _go_on) = scene.relay();
        let said = scene.upgrade();
        let successor = within("`serving`", serves).await.unwrap();
        let _killed = Killed(successor);
        scene.newcomers().await;
        scene.old.signal(signal);
        let said = within("the command's end", said).await.unwrap();
        assert!(said.contains("stopped halfway: this process is told to end; the new process goes on alone"), "{said}");
        let mut newcomers = scene.tunnels.split_off(3);
        // Those of the old process end with it; a drain waits for them.
        drop(std::mem::take(&mut scene.tunnels));
        assert_eq!(scene.old.ended().await, Some(0), "{signal}");
        assert_eq!(scene.old.log.count(&["ERROR"]), 0, "{signal}: {:?}", scene.old.log.all());
        all_echo(&mut newcomers).await;
        assert_eq!(get(scene.old.address()).await, scene.lab.address());
    }
}

#[tokio::test]
async fn a_new_process_says_from_which_one_it_took_over() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let mut tunnels = open_several(gateway.address(), 2).await;
    all_echo(&mut tunnels).await;
    let before = gateway.pid();
    crate::lab::upgrade(&mut gateway).await;
    gateway.log.find(&["control socket at"]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("status").arg("--socket").arg(gateway.dir.path().join("control.sock")).stdin(Stdio::null());
    let output = blocking(move || command.output().unwrap()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.starts_with("last upgrade")).unwrap();
    let summary =
        format!("ago, done: took over 2 tunnels from process {before} (longhaul {})", env!("CARGO_PKG_VERSION"));
    assert!(line.ends_with(&summary), "{line}");
}
