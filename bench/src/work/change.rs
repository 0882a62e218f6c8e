//! Open tunnels while the gateway reads its configuration anew, or is replaced by another program.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};

use super::{Amount, Figures};
use crate::load::{self, Fleet, Outcome};
use crate::peer::{Peer, Site, Way};
use crate::proc::{self, Pid};
use crate::stop::Stop;
use crate::ws::Message;

/// Tunnels that are open meanwhile, and messages a second over all of them.
const TUNNELS: usize = 500;
const RATE: f64 = 2_000.0;

/// Ids: tunnels lost, seconds until the old process was gone, the longest time an answer took.
type Ids = [&'static str; 3];

const RELOAD: Ids = ["reload.lost", "reload.old", "reload.worst"];
const UPGRADE: Ids = ["upgrade.lost", "upgrade.old", "upgrade.worst"];

pub(super) fn reload(site: &Site, peer: Peer, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let way = peer.reload(&site.file, &site.path("")).context("it has no reload")?;
    // A master, or the only process, stays by design. Its workers of before are the old processes.
    let old = site.processes().into_iter().filter(|pid| Some(*pid) != site.first).collect();
    change(site, amount, &RELOAD, &way, &old, stop)
}

pub(super) fn upgrade(site: &Site, peer: Peer, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let way = peer.upgrade(&site.file, &site.path("")).context("it has no upgrade")?;
    let mut old = site.processes();
    if let (Way::Signal(_), Some(first)) = (&way, site.first) {
        // The first process executes the new program in its own place.
        old.remove(&first);
    }
    change(site, amount, &UPGRADE, &way, &old, stop)
}

fn change(site: &Site, amount: &Amount, ids: &Ids, way: &Way, old: &BTreeSet<Pid>, stop: &Stop) -> Result<Figures> {
    let message = Message::new(64);
    let mut fleet = Fleet::open(&site.targets, TUNNELS, stop)?;
    fleet.paced(&message, RATE, Duration::from_millis(500))?;
    let begun = Instant::now();
    go(site, way, stop)?;
    // Without an old process there is none to wait for.
    let mut gone = old.is_empty().then_some(Duration::ZERO);
    let mut worst = Duration::ZERO;
    while begun.elapsed() < amount.watch {
        let Outcome { latency, .. } = fleet.paced(&message, RATE, Duration::from_millis(200))?;
        worst = worst.max(latency.quantile(1.0));
        if gone.is_none() && !old.iter().any(|pid| proc::is_alive(*pid)) {
            gone = Some(begun.elapsed());
        }
    }
    ensure!(load::ask(0, &site.targets).is_ok_and(|answer| answer.status == 200), "does not answer afterwards");
    let gone = gone.map_or(f64::INFINITY, |gone| gone.as_secs_f64());
    let mut figures = vec![(ids[0], fleet.lost() as f64), (ids[1], gone)];
    if !worst.is_zero() {
        figures.push((ids[2], worst.as_secs_f64() * 1e3));
    }
    Ok(figures)
}

fn go(site: &Site, way: &Way, stop: &Stop) -> Result<()> {
    match way {
        Way::Signal(signal) => send(site, *signal),
        Way::Command(words) => site.command(words),
        Way::Successor(words) => site.spawn(words).map(drop),
        Way::Replace(start, retire) => {
            let before = site.processes();
            send(site, *start)?;
            // As many again are there when the new master has started its workers.
            let is_there = || Ok(site.processes().difference(&before).count() >= before.len());
            ensure!(stop.wait_until(Duration::from_secs(5), is_there)?, "no new process came");
            stop.wait(Duration::from_millis(200))?;
            send(site, *retire)
        }
    }
}

fn send(site: &Site, signal: Signal) -> Result<()> {
    let first = site.first.and_then(rustix::process::Pid::from_raw).context("there is no process")?;
    kill_process(first, signal).context("its first process has gone")
}
