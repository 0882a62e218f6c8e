//! The drain of a backend that an upgrade comes across: whoever follows it is told the truth to its end.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::lab::{Lab, config, get, ready, upgrade};
use crate::support::{Gateway, Lines, within};
use crate::ws::{CLOSE, Tunnel, all_echo, frame, open_several};

/// `longhaul drain backend`, which runs; it is killed when dropped.
struct Follower {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Follower {
    fn of(gateway: &Gateway, backend: &str, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["drain", "backend", backend]).args(more).arg("--socket");
        command.arg(gateway.dir.path().join("control.sock"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    async fn ended(&mut self) -> ExitStatus {
        within("the command's end", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway with three tunnels to the first of two backends, which is being drained over a day.
async fn scene() -> ([Lab; 2], Gateway, Vec<Tunnel>, String, Follower) {
    let labs = [Lab::start().await, Lab::start().await];
    let gateway = ready(Gateway::start(&config(&[labs[0].address()], "")).await).await;
    gateway.log.find(&["control socket at"]).await;
    let mut tunnels = open_several(gateway.address(), 3).await;
    all_echo(&mut tunnels).await;
    let file = gateway.dir.path().join("longhaul.yaml");
    let (alone, both) =
        (labs[0].address().to_string(), labs.each_ref().map(|lab| lab.address().to_string()).join(", "));
    let yaml = std::fs::read_to_string(&file).unwrap().replace(&alone, &both);
    std::fs::write(&file, yaml).unwrap();
    gateway.signal("HUP");
    gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    let backend = format!("u/{alone}");
    let follower = Follower::of(&gateway, &backend, &["--over", "1d"]);
    follower.out.find(&["draining: 3 tunnels and 0 requests left"]).await;
    (labs, gateway, tunnels, backend, follower)
}

async fn close(mut tunnel: Tunnel) {
    tunnel.send(&frame(CLOSE, &1000u16.to_be_bytes(), true)).await;
    assert_eq!(tunnel.receive().await.code(), 1000);
}

#[tokio::test]
async fn who_follows_a_drain_is_told_of_the_tunnels_that_have_moved() {
    let (_labs, mut gateway, mut tunnels, backend, mut follower) = scene().await;
    upgrade(&mut gateway).await;
    all_echo(&mut tunnels).await;
    close(tunnels.pop().unwrap()).await;
    follower.out.find(&["draining: 2 tunnels and 0 requests left"]).await;
    assert_eq!(follower.out.count(&["nothing left"]), 0);
    // And across a second one.
    upgrade(&mut gateway).await;
    close(tunnels.pop().unwrap()).await;
    follower.out.find(&["draining: 1 tunnel and 0 requests left"]).await;
    close(tunnels.pop().unwrap()).await;
    assert_eq!(follower.ended().await.code(), Some(0), "{:?}", follower.err.all());
    follower.out.find(&[&format!("{backend} has nothing left")]).await;
}

#[tokio::test]
async fn who_follows_a_drain_is_told_that_it_was_called_off_in_the_new_process() {
    let (labs, mut gateway, mut tunnels, backend, mut follower) = scene().await;
    upgrade(&mut gateway).await;
    gateway.log.find(&["control socket at"]).await;
    assert_eq!(get(gateway.address()).await, labs[1].address());
    let mut undo = Follower::of(&gateway, &backend, &["--undo"]);
    assert_eq!(undo.ended().await.code(), Some(0), "{:?}", undo.err.all());
    assert_eq!(follower.ended().await.code(), Some(1));
    follower.err.find(&[&format!("the drain of {backend} was called off")]).await;
    all_echo(&mut tunnels).await;
}

/// Tunnels that stay in the old process are counted there to their end.
#[tokio::test]
async fn who_follows_a_drain_over_an_upgrade_that_fails_is_told_of_the_tunnels_that_stayed() {
    let (_labs, gateway, mut tunnels, backend, mut follower) = scene().await;
    let successor = crate::stand_in::StandIn::at(&gateway, crate::stand_in::Step::Commit).await;
    drop(successor);
    gateway.log.find(&["the handover failed, this process goes on"]).await;
    all_echo(&mut tunnels).await;
    close(tunnels.pop().unwrap()).await;
    follower.out.find(&["draining: 2 tunnels and 0 requests left"]).await;
    tunnels.drain(..).for_each(drop);
    assert_eq!(follower.ended().await.code(), Some(0), "{:?}", follower.err.all());
    follower.out.find(&[&format!("{backend} has nothing left")]).await;
}
