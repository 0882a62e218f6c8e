//! A successor that dies, hangs or panics, at every step: the old process goes on as if nothing had been asked.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::lab::{Lab, blocking, get, ready, upgrade};
use crate::raw::Raw;
use crate::stand_in::{StandIn, Step};
use crate::support::{Gateway, Wire, within};
use crate::tls::{Secure, with_tls};
use crate::ws::{Tunnel, all_echo, open_several};

/// A gateway with open tunnels, plain ones and some by wss, and a successor that stands at a step.
struct Scene {
    lab: Lab,
    gateway: Gateway,
    tunnels: Vec<Tunnel>,
    secure: Secure,
    successor: StandIn,
}

impl Scene {
    async fn at(step: Step) -> Self {
        let lab = Lab::start().await;
        let (gateway, ends) = with_tls(&lab, &lab.config("")).await;
        let mut tunnels = open_several(gateway.address(), 3).await;
        all_echo(&mut tunnels).await;
        let secure = Secure::open(gateway.addresses[1], ends).await;
        let successor = StandIn::at(&gateway, step).await;
        Self { lab, gateway, tunnels, secure, successor }
    }

    /// The same, and the successor is stopped there, which its predecessor has found out.
    async fn silent_at(step: Step) -> Self {
        let word = if step <= Step::Tunnels { "did not say `ready`" } else { "did not say `taken`" };
        let silent = ["the new process is silent, with 0 tunnels; ", word];
        for _ in 0..10 {
            let scene = Self::at(step).await;
            scene.successor.signal("STOP");
            let first = scene.gateway.log.find(&silent[..1]).await;
            // One that was ready too late stands before a batch that was withdrawn: the next one is tried.
            if step != Step::Ready || first.contains(word) {
                scene.gateway.log.find(&silent).await;
                return scene;
            }
        }
        panic!("no successor was ready in time");
    }

    /// Old tunnels and new connections work.
    async fn serves(&mut self) {
        all_echo(&mut self.tunnels).await;
        self.secure.echo().await;
        assert_eq!(get(self.gateway.address()).await, self.lab.address());
        let mut tunnel = Tunnel::open(self.gateway.address(), "/echo").await;
        tunnel.echoes().await;
        self.tunnels.push(tunnel);
    }

    /// The old process has said why it goes on.
    async fn said_why(&self, step: Step, why: &[&str]) {
        if step == Step::Connected {
            // A process that connects and leaves without a word may have been a probe, which is not logged.
            return;
        }
        let line = self.gateway.log.find(&["the handover failed, this process goes on: "]).await;
        assert!(why.iter().any(|why| line.contains(why)), "{step:?}: {line}");
    }

    /// A real successor takes everything over.
    async fn upgrades(mut self) {
        let old = upgrade(&mut self.gateway).await;
        let moved = format!("handed over: {} tunnels moved, 0 stayed", self.tunnels.len() + self.secure.count());
        old.log.find(&[&moved]).await;
        assert!(old.log.count(&["goes on"]) <= 1, "{:?}", old.log.all());
        self.serves().await;
    }
}

#[tokio::test]
async fn a_successor_killed_at_any_step_changes_nothing() {
    join_all(Step::ALL.map(|step| async move {
        let mut scene = Scene::at(step).await;
        scene.successor.signal("KILL");
        scene.said_why(step, &["the other process is gone"]).await;
        scene.serves().await;
        scene.upgrades().await;
    }))
    .await;
}

#[tokio::test]
async fn a_successor_that_panics_at_any_step_changes_nothing() {
    join_all(Step::ALL.map(|step| async move {
        let mut scene = Scene::at(step).await;
        scene.successor.panic();
        assert!(!scene.successor.ended().await.success());
        scene.said_why(step, &["the other process is gone"]).await;
        scene.serves().await;
        scene.upgrades().await;
    }))
    .await;
}

/// The start of a successor may take long, and everything is served meanwhile.
#[tokio::test]
async fn a_successor_that_hangs_before_it_serves_holds_nobody_up() {
    join_all([Step::Hello, Step::Welcome].map(|step| async move {
        let mut scene = Scene::at(step).await;
        scene.successor.signal("STOP");
        scene.gateway.log.find(&["asks to take over"]).await;
        for _ in 0..3 {
            scene.serves().await;
        }
        assert_eq!(scene.gateway.log.count(&["the handover failed"]), 0);
        scene.successor.signal("KILL");
        scene.said_why(step, &["the other process is gone"]).await;
        scene.upgrades().await;
    }))
    .await;
}

#[tokio::test]
async fn a_successor_that_hangs_before_it_says_hello_is_not_heard() {
    let mut scene = Scene::at(Step::Connected).await;
    scene.successor.signal("STOP");
    scene.gateway.log.find(&["the handover failed, this process goes on: ", "did not say `hello`"]).await;
    scene.serves().await;
    scene.upgrades().await;
}

/// Such a successor may have clients of its own: it is waited for, and offered the tunnels again.
#[tokio::test]
async fn a_successor_that_hangs_once_it_serves_is_neither_killed_nor_given_up() {
    join_all([Step::Serving, Step::Tunnels, Step::Ready, Step::Commit].map(|step| async move {
        let mut scene = Scene::silent_at(step).await;
        scene.serves().await;
        scene.successor.signal("CONT");
        let heard = scene.successor.go_on().await;
        let late = if step >= Step::Ready { "late, " } else { "" };
        assert!(heard.ends_with(&format!("heard last: {late}tunnels")), "{step:?}: {heard}");
        // It ends there, and has taken nothing.
        let why = "0 tunnels had moved to the new process and ended with it";
        scene.said_why(step, &[why]).await;
        scene.serves().await;
        scene.upgrades().await;
    }))
    .await;
}

/// A successor of protocol 1 might wake up and take the batch that its predecessor has put back.
#[tokio::test]
async fn a_successor_without_claims_that_hangs_after_commit_is_killed() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let mut tunnels = open_several(gateway.address(), 3).await;
    // Only a message shows that a tunnel is open.
    all_echo(&mut tunnels).await;
    let (_foreground, pid) = StandIn::hanging_in_the_background(&gateway).await;
    let dead = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    let died = async {
        while !dead() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("its death", died).await;
    all_echo(&mut tunnels).await;
    upgrade(&mut gateway).await;
    all_echo(&mut tunnels).await;
}

#[tokio::test]
async fn who_connects_while_nobody_accepts_is_served_when_the_handover_has_failed() {
    let scene = Scene::at(Step::Tunnels).await;
    let mut client = Wire::connect(scene.gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    drop(scene.successor);
    assert_eq!(client.answer().await.address(), scene.lab.address());
}

#[tokio::test]
async fn a_batch_that_was_put_back_is_offered_to_the_very_next_successor() {
    let mut scene = Scene::at(Step::Ready).await;
    scene.successor.signal("KILL");
    let door = scene.gateway.dir.path().join("upgrade.sock");
    blocking(move || {
        // Each knocks before the one ahead is gone, and says at once what it is waited for.
        let knock = |_| {
            let mut raw = Raw::connect(&door);
            raw.say(json!({ "say": "hello", "oldest": 1, "newest": 1, "version": "0", "pid": 1 }));
            raw.say(json!({ "say": "serving" }));
            raw
        };
        let knocking: Vec<Raw> = (0..100).map(knock).collect();
        // In whatever order they are heard.
        let offered = |mut raw: Raw| {
            std::thread::spawn(move || {
                assert_eq!(raw.hear().unwrap().word(), "welcome");
                assert_eq!(raw.hear().unwrap().word(), "tunnels");
            })
        };
        let offered: Vec<_> = knocking.into_iter().map(offered).collect();
        offered.into_iter().for_each(|successor| successor.join().unwrap());
    })
    .await;
    scene.serves().await;
}

#[tokio::test]
async fn processes_that_are_stopped_and_go_on_in_the_middle_of_it_finish_it() {
    let lab = Lab::start().await;
    let mut old = lab.gateway("").await;
    let mut tunnels = open_several(old.address(), 3).await;
    let between = old.dir.path().join("between.sock");
    let knocked = UnixListener::bind(&between).unwrap();
    let file = old.dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap().replace("upgrade.sock", "between.sock");
    std::fs::write(&file, yaml).unwrap();
    let new = Gateway::begin(Arc::clone(&old.dir), &["-u"], &[]);
    let (door, pids) = (old.dir.path().join("upgrade.sock"), [old.pid(), new.pid()]);
    let relay = std::thread::spawn(move || {
        let [predecessor, successor] = pids;
        let (mut to_new, mut to_old, hello) = Raw::between(&knocked, &door);
        to_old.pass_on(&hello);
        let welcome = to_old.hear().unwrap();
        // The predecessor waits for `serving`, the successor for `welcome`.
        stop_and_go_on(predecessor);
        stop_and_go_on(successor);
        to_new.pass_on(&welcome);
        to_old.pass_on(&to_new.hear().unwrap());
        // Each batch, and `done`; then the old one is gone.
        while let Ok(said) = to_old.hear() {
            to_new.pass_on(&said);
            if ["tunnels", "commit"].contains(&said.word()) {
                to_old.pass_on(&to_new.hear().unwrap());
            }
        }
    });
    let new = ready(new.listening().await).await;
    assert_eq!(old.ended().await, Some(0), "{:?}", old.log.to_the_end().await);
    blocking(move || relay.join().unwrap()).await;
    all_echo(&mut tunnels).await;
    assert_eq!(get(new.address()).await, lab.address());
}

/// Stops a process, and lets it go on once it stands still.
fn stop_and_go_on(pid: u32) {
    let stopped = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    while !stopped() {
        std::thread::yield_now();
    }
    kill_process(pid, Signal::CONT).unwrap();
}
