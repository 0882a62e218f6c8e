//! Many tunnels over TLS while the gateway is replaced again and again: none may be lost, none may wait for long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::load::{Fleet, Targets};
use crate::peer::{Clients, Ground, Peer, Setting, Site};
use crate::proc::{self, Pid};
use crate::stop::Stop;
use crate::ws::Message;

/// Plan of a run.
pub struct Plan {
    /// Open tunnels, half of them with TLS towards the backend, too.
    pub tunnels: usize,
    /// Upgrades, one after the other.
    pub times: usize,
}

/// Messages a second over each half of the tunnels.
const RATE: f64 = 1_000.0;
/// Tunnels through the gateway that stays.
const BESIDE: usize = 200;
/// The longest pause that an upgrade may add.
const GOAL: Duration = Duration::from_millis(100);
/// The longest wait for the end of an old process.
const PATIENCE: Duration = Duration::from_secs(30);
/// Path of tunnels with TLS on both legs.
const SEALED: &str = "/sealed";

/// Runs it, and prints a line for each upgrade and the verdict. A second gateway, which stays, is the backend by TLS.
/// Some tunnels go to it directly: what they wait for is the cores, which the upgraded gateway is not charged with.
///
/// # Errors
/// When a tunnel was lost or an answer was wrong, when a pause was longer than that of the gateway that stays by more
/// than 100 ms, or when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground) -> Result<()> {
    let setting = Setting {
        workers: 2,
        is_replaced: true,
        is_logged: false,
        clients: Clients::Tls,
        storm: None,
        is_restarted: false,
    };
    let inner = Site::start(Peer::Longhaul, setting, ground)?;
    let site = Site::start(Peer::Longhaul, setting, ground)?;
    seal(&site, &inner)?;
    let half = plan.tunnels / 2;
    let memory = || proc::memory(&site.first.into_iter().collect()).anonymous as f64 / 1024.0;
    let before = memory();
    let mut open = Fleet::open(&site.targets, plan.tunnels - half, &ground.stop)?;
    let between = memory();
    let mut sealed = Fleet::open(&Targets { path: SEALED, ..site.targets.clone() }, half, &ground.stop)?;
    println!(
        "user memory of a tunnel: {:.2} KiB, with TLS on both legs {:.2} KiB",
        (between - before) / (plan.tunnels - half) as f64,
        (memory() - between) / half as f64
    );
    let mut beside = Fleet::open(&inner.targets, BESIDE, &ground.stop)?;
    let mut old = site.first.context("the gateway has a process")?;
    let (mut pauses, mut beyond, mut errors) = (Vec::new(), Duration::ZERO, 0);
    for number in 1..=plan.times {
        let before = site.processes();
        let (seen, gone) = upgrade(&site, old, [&mut open, &mut sealed, &mut beside])?;
        errors += seen.iter().map(|seen| seen.errors).sum::<u64>();
        let [one, other, beside] = seen.map(|seen| seen.pause);
        pauses.push(one.max(other));
        beyond = beyond.max(one.max(other).saturating_sub(beside));
        let lost = open.lost() + sealed.lost();
        println!(
            "upgrade {number}: longest pause {:.1} ms, with TLS on both legs {:.1} ms, through a gateway that stays \
             {:.1} ms; old process gone after {:.2} s, {lost} lost, {errors} errors",
            one.as_secs_f64() * 1e3,
            other.as_secs_f64() * 1e3,
            beside.as_secs_f64() * 1e3,
            gone.as_secs_f64()
        );
        let successor = site.processes().difference(&before).next().copied();
        old = successor.context("no new process came")?;
    }
    let lost = open.lost() + sealed.lost();
    pauses.sort();
    let (half, worst) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    println!(
        "{} tunnels, {} upgrades: {lost} lost; longest pause {:.1} ms, {:.1} ms in half of the upgrades at the most, \
         {:.1} ms beyond that of the gateway that stays",
        plan.tunnels,
        plan.times,
        worst.as_secs_f64() * 1e3,
        half.as_secs_f64() * 1e3,
        beyond.as_secs_f64() * 1e3
    );
    ensure!(lost == 0 && errors == 0, "tunnels were lost or answers were wrong");
    ensure!(beyond <= GOAL, "a pause was longer than {GOAL:?}");
    Ok(())
}

/// Adds an upstream whose one backend is the other gateway, and a route to it, and has them take force.
fn seal(site: &Site, inner: &Site) -> Result<()> {
    let text = std::fs::read_to_string(&site.file)?;
    let route = format!("routes:\n  - {{ path: {SEALED}, upstream: sealed }}\n");
    let upstream = format!(
        "  sealed:\n    backends: [\"{}\"]\n    health: off\n    tunnel: {{ idle: 1d }}\n    \
         tls: {{ ca: {}, server_name: bench.example.com }}\n",
        inner.targets.of(0),
        inner.path("tls.pem")
    );
    std::fs::write(&site.file, text.replacen("routes:\n", &route, 1) + &upstream)?;
    site.command(&["reload".into(), "-c".into(), site.file.clone()])
}

/// Pauses and errors of a load.
#[derive(Default)]
struct Seen {
    pause: Duration,
    errors: u64,
}

/// Upgrades under load until the old process has gone. Returns what the tunnels saw, and the time that it took.
fn upgrade(site: &Site, old: Pid, fleets: [&mut Fleet; 3]) -> Result<([Seen; 3], Duration)> {
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let loads = fleets.map(|fleet| scope.spawn(|| load(fleet, &is_over)));
        let gone = replace(site, old, begun);
        is_over.store(true, Ordering::Relaxed);
        let mut all = [Seen::default(), Seen::default(), Seen::default()];
        for (seen, load) in all.iter_mut().zip(loads) {
            let Ok(loaded) = load.join() else { bail!("the thread of a load panicked") };
            *seen = loaded?;
        }
        Ok((all, gone?))
    })
}

fn replace(site: &Site, old: Pid, begun: Instant) -> Result<Duration> {
    site.command(&["upgrade".into(), "-c".into(), site.file.clone()])?;
    while proc::is_alive(old) {
        ensure!(begun.elapsed() < PATIENCE, "the old process does not end");
        Stop::pause(Duration::from_millis(5));
    }
    Ok(begun.elapsed())
}

fn load(fleet: &mut Fleet, is_over: &AtomicBool) -> Result<Seen> {
    let message = Message::new(64);
    let mut seen = Seen::default();
    while !is_over.load(Ordering::Relaxed) {
        let outcome = fleet.paced(&message, RATE, Duration::from_millis(300))?;
        seen.pause = seen.pause.max(outcome.latency.quantile(1.0));
        seen.errors += outcome.errors;
    }
    Ok(seen)
}
