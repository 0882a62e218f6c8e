//! A predecessor that dies in the middle of a handover: the successor goes on alone.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::word;
use crate::lab::{Lab, blocking, get, ready, stop, upgrade};
use crate::raw::Raw;
use crate::support::Gateway;
use crate::tls::{Secure, with_tls};
use crate::ws::{Tunnel, all_echo, open_several};

/// The last word that passes between the two processes before the predecessor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Last {
    Welcome,
    Serving,
    Tunnels,
    Ready,
    Commit,
    Taken,
}

/// Stands between a predecessor and its successor, passes words on up to `last`, and kills the predecessor with it.
///
/// Each speaks in turn. Where the other one answers too late, the batch is withdrawn and offered again.
fn pass_on(knocked: &UnixListener, door: &Path, last: Last, process: Pid) {
    let (mut successor, mut predecessor, hello) = Raw::between(knocked, door);
    predecessor.pass_on(&hello);
    let (mut from, mut to) = (&mut predecessor, &mut successor);
    let mut claim = None;
    loop {
        let said = from.hear().unwrap();
        if said.word() == "tunnels" {
            claim = said.descriptors.back().map(|claim| claim.try_clone().unwrap());
        }
        let is_last = said.word() == format!("{last:?}").to_lowercase();
        if is_last {
            // It does nothing more, and so cannot withdraw the batch behind this look.
            stop(process);
            if last != Last::Commit || claim.as_ref().is_some_and(is_free) {
                to.pass_on(&said);
                break;
            }
            kill_process(process, Signal::CONT).unwrap();
        }
        to.pass_on(&said);
        std::mem::swap(&mut from, &mut to);
    }
    if last == Last::Tunnels {
        // The successor was offered the batch and is ready; nobody hears that word any more.
        assert_eq!(successor.hear().unwrap().word(), "ready");
    }
    kill_process(process, Signal::KILL).unwrap();
    // The end of the connection shows that the predecessor is gone.
    while predecessor.hear().is_ok() {}
}

/// Tells whether neither process has taken a batch.
fn is_free(claim: &impl std::os::fd::AsFd) -> bool {
    poll(&mut [PollFd::new(claim, PollFlags::IN)], Some(&Timespec::default())).unwrap() > 0
}

/// A successor whose predecessor was killed behind `last`, and the tunnels that the predecessor had. Some are by wss,
/// where there are any.
async fn orphan(lab: &Lab, last: Last, tunnels: usize) -> (Gateway, Vec<Tunnel>, Option<Secure>) {
    // One worker, so that all of its tunnels are one batch.
    let yaml = lab.config("").replace("threads: 2", "threads: 1");
    let (mut old, ends) = with_tls(lab, &yaml).await;
    let mut tunnels = open_several(old.address(), tunnels).await;
    all_echo(&mut tunnels).await;
    let mut secure = None;
    if !tunnels.is_empty() {
        let mut open = Secure::open(old.addresses[1], ends).await;
        open.echo().await;
        secure = Some(open);
    }
    let (door, between) = (old.dir.path().join("upgrade.sock"), old.dir.path().join("between.sock"));
    let knocked = UnixListener::bind(&between).unwrap();
    let file = old.dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap().replace("upgrade.sock", "between.sock");
    std::fs::write(&file, yaml).unwrap();
    let new = Gateway::begin(Arc::clone(&old.dir), &["-u"], &[]);
    let process = Pid::from_raw(old.pid().cast_signed()).unwrap();
    blocking(move || pass_on(&knocked, &door, last, process)).await;
    assert_eq!(old.ended().await, None, "it was killed");
    (ready(new.listening().await).await, tunnels, secure)
}

#[tokio::test]
async fn a_successor_whose_predecessor_is_killed_goes_on_with_the_listeners() {
    join_all([Last::Welcome, Last::Serving].map(|last| async move {
        let lab = Lab::start().await;
        let (mut new, ..) = orphan(&lab, last, 0).await;
        new.log.find(&["the predecessor is gone in the middle of the handover; this process goes on"]).await;
        assert_eq!(get(new.address()).await, lab.address());
        let mut tunnel = Tunnel::open(new.address(), "/echo").await;
        tunnel.echoes().await;
        upgrade(&mut new).await;
        tunnel.echoes().await;
    }))
    .await;
}

#[tokio::test]
async fn a_successor_whose_predecessor_is_killed_goes_on_with_the_batch_it_was_ready_for() {
    join_all([Last::Tunnels, Last::Ready, Last::Commit, Last::Taken].map(|last| async move {
        let lab = Lab::start().await;
        let (mut new, mut tunnels, secure) = orphan(&lab, last, 5).await;
        let mut secure = secure.unwrap();
        all_echo(&mut tunnels).await;
        secure.echo().await;
        assert_eq!(get(new.address()).await, lab.address());
        new.metric_becomes("longhaul_tunnels_adopted_total{upstream=\"u\"}", 9.0).await;
        upgrade(&mut new).await;
        all_echo(&mut tunnels).await;
        secure.echo().await;
        tunnels.push(Tunnel::open(new.address(), "/echo").await);
        all_echo(&mut tunnels).await;
    }))
    .await;
}

#[tokio::test]
async fn a_successor_that_was_given_up_while_it_started_ends() {
    let lab = Lab::start().await;
    let old = lab.gateway("").await;
    let (door, between) = (old.dir.path().join("upgrade.sock"), old.dir.path().join("between.sock"));
    let knocked = UnixListener::bind(&between).unwrap();
    let file = old.dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap().replace("upgrade.sock", "between.sock");
    std::fs::write(&file, yaml).unwrap();
    let mut new = Gateway::begin(Arc::clone(&old.dir), &["-u"], &[]);
    blocking(move || {
        let (mut successor, mut predecessor, hello) = Raw::between(&knocked, &door);
        predecessor.pass_on(&hello);
        successor.pass_on(&predecessor.hear().unwrap());
        // The predecessor says it and closes the connection before the successor says a word.
        successor.say(word("abort"));
    })
    .await;
    assert_eq!(new.ended().await, Some(1));
    new.log
        .find(&["the predecessor goes on, this process ends: the other process did not say `ready` within 2s"])
        .await;
    assert_eq!(get(old.address()).await, lab.address());
}
