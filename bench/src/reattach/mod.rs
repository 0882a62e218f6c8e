//! Restarts of backends: ten of them, one after the other, under clients that stay.

mod clients;
mod numbers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::histogram::Histogram;
use crate::peer::{Clients, Ground, Peer, RestartWay, Setting, Site};
use crate::report::About;
use clients::{Shared, Told};

/// Plan of the restarts.
pub struct Plan {
    /// The gateways, in turn.
    pub peers: Vec<Peer>,
    /// Clients, each with a message every half second.
    pub clients: usize,
    /// Time between two restarts.
    pub pause: Duration,
}

/// Figures of one gateway and one way of restarting.
struct Outcome {
    told: Told,
    /// Messages under way when backends had gone, all restarts together.
    under_way: u64,
    /// Re-attachments of Longhaul's, by its access log.
    held: Held,
}

/// Times for which clients were held that were re-attached, and the outcomes of the others.
#[derive(Default)]
struct Held {
    times: Histogram,
    failed: BTreeMap<String, u64>,
}

impl Held {
    /// Reads the access log of a gateway; one that has none has re-attached nobody.
    fn of(log: &str) -> Self {
        let mut held = Self::default();
        let value = |line: &str, name: &str| {
            line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        for line in log.lines().filter(|line| line.contains("tunnel_reattach")) {
            let outcome = value(line, "outcome").unwrap_or_default();
            match value(line, "gap_ms").and_then(|gap| gap.parse().ok()) {
                Some(gap) if outcome == "attached" => held.times.record(Duration::from_millis(gap)),
                _ => *held.failed.entry(outcome).or_default() += 1,
            }
        }
        held
    }
}

/// Runs it, prints the figures, and writes them as `reattach.md` into `out`.
///
/// # Errors
/// When planned restarts under Longhaul cut a client off, or lost, doubled or reordered a message; when restarts by
/// SIGKILL doubled or reordered one; when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground, out: Option<&Path>) -> Result<()> {
    let method = format!(
        "{} clients, each with a numbered message every 500 ms, which the backend echoes; 10 backends, restarted one \
         after the other, {:.1} s between two; each is away for 0.5 s. Planned: Longhaul is told before (`drain \
         backend`), then SIGTERM; the other gateways have no command that takes tunnels off a backend. Killed: \
         SIGKILL, and nobody is told. A client that is cut off comes again after up to a second.",
        plan.clients,
        plan.pause.as_secs_f64(),
    );
    let mut page = String::from(HEAD);
    let mut verdict = Ok(());
    for &peer in plan.peers.iter().filter(|peer| peer.bears_restarts()) {
        for way in [RestartWay::Planned, RestartWay::Killed] {
            eprintln!("{}: restarts, {}", peer.title(), word(way));
            match measure(plan, peer, way, ground) {
                Ok(outcome) => {
                    page += &row(peer, way, &outcome);
                    if peer == Peer::Longhaul && verdict.is_ok() {
                        verdict = judge(way, &outcome.told);
                    }
                }
                Err(error) => {
                    ground.stop.check()?;
                    writeln!(page, "| {}, {} | not measured: {error:#} |", peer.title(), word(way))?;
                    if peer == Peer::Longhaul {
                        verdict = Err(error);
                    }
                }
            }
        }
    }
    let page = format!("{page}\n{}", About::here(&plan.peers, &ground.longhaul, method).markdown());
    print!("{page}");
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).context("the folder cannot be made")?;
        std::fs::write(folder.join("reattach.md"), page)?;
    }
    verdict
}

fn word(way: RestartWay) -> &'static str {
    match way {
        RestartWay::Planned => "planned",
        RestartWay::Killed => "killed",
    }
}

fn judge(way: RestartWay, told: &Told) -> Result<()> {
    let Told { cut, lost, doubled, reordered, .. } = told;
    ensure!(doubled + reordered == 0, "messages of Longhaul's clients were doubled or reordered");
    ensure!(
        way == RestartWay::Killed || cut + lost == 0,
        "planned restarts cut clients of Longhaul's off, or lost messages"
    );
    Ok(())
}

fn measure(plan: &Plan, peer: Peer, way: RestartWay, ground: &Ground) -> Result<Outcome> {
    let clients = Clients::Plain;
    let setting =
        Setting { workers: 2, is_replaced: false, is_logged: false, clients, storm: None, is_restarted: true };
    let mut site = Site::start(peer, setting, ground)?;
    let shared = Arc::new(Shared::default());
    let (count, target) = (plan.clients, site.targets.of(0));
    let result = std::thread::scope(|scope| {
        let running = scope.spawn(|| clients::run(count, target, &shared));
        let under_way = restarts(plan, &mut site, way, &shared, ground);
        shared.is_over.store(true, Ordering::Relaxed);
        let Ok(ran) = running.join() else { bail!("the thread of the clients panicked") };
        ran?;
        under_way
    });
    let under_way = result?;
    let log = std::fs::read_to_string(site.path("access.log")).unwrap_or_default();
    Ok(Outcome { told: shared.told().clone(), under_way, held: Held::of(&log) })
}

/// Restarts every backend while the clients talk. Returns the messages that were under way when the backends had gone.
fn restarts(plan: &Plan, site: &mut Site<'_>, way: RestartWay, shared: &Shared, ground: &Ground) -> Result<u64> {
    let stop = &ground.stop;
    let all = plan.clients as u64;
    let is_open = stop.wait_until(OPENING, || Ok(shared.open.load(Ordering::Relaxed) == all))?;
    ensure!(is_open, "only {} of {all} clients have a tunnel", shared.open.load(Ordering::Relaxed));
    stop.wait(QUIET)?;
    let mut under_way = 0;
    shared.is_restarting.store(true, Ordering::Relaxed);
    for at in 0..site.backends() {
        site.restart_backend(at, way, || under_way += shared.under_way())?;
        stop.wait(plan.pause)?;
    }
    shared.is_restarting.store(false, Ordering::Relaxed);
    // Those that were cut off last come again.
    stop.wait(QUIET)?;
    Ok(under_way)
}

/// The longest time in which all clients have a tunnel.
const OPENING: Duration = Duration::from_secs(60);
/// Time without restarts, before and after them.
const QUIET: Duration = Duration::from_secs(3);

const HEAD: &str = "\
| | cut off | handshakes again, failed | most in a second | without a tunnel, ms: p50, p99 | re-attached \
| held, ms: p50, p99 | messages | lost | under way at the ends | doubled | reordered | round trip, ms: p99 quiet \
| p50, p99, longest beside restarts |\n\
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

fn row(peer: Peer, way: RestartWay, outcome: &Outcome) -> String {
    let Outcome { told, under_way, held } = outcome;
    let ms = |histogram: &Histogram, part: f64| histogram.quantile(part).as_secs_f64() * 1e3;
    format!(
        "| {}, {} | {} | {}, {} | {} | {:.0}, {:.0} | {}{} | {:.0}, {:.0} | {} | {} | {under_way} | {} | {} | {:.1} \
         | {:.1}, {:.1}, {:.1} |\n",
        peer.title(),
        word(way),
        told.cut,
        told.again.len(),
        told.failed,
        most_in_a_second(&told.again),
        ms(&told.without, 0.5),
        ms(&told.without, 0.99),
        held.times.count(),
        held.failed.iter().map(|(outcome, count)| format!(", {outcome}: {count}")).collect::<String>(),
        ms(&held.times, 0.5),
        ms(&held.times, 0.99),
        told.sent,
        told.lost,
        told.doubled,
        told.reordered,
        ms(&told.quiet, 0.99),
        ms(&told.beside, 0.5),
        ms(&told.beside, 0.99),
        ms(&told.beside, 1.0),
    )
}

/// The most of these moments, in milliseconds, that lie within a second.
fn most_in_a_second(moments: &[u64]) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let within = |from: &u64| sorted.partition_point(|at| *at < from + 1000) - sorted.partition_point(|at| at < from);
    sorted.iter().map(within).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_may_begin_anywhere() {
        assert_eq!(most_in_a_second(&[0, 2_000, 900, 1_899, 1_900, 5_000]), 3);
        assert_eq!(most_in_a_second(&[]), 0);
    }

    #[test]
    fn the_access_log_has_the_times_and_the_outcomes() {
        let log = "a tunnel_open x=1\nb tunnel_reattach reason=leaving outcome=attached gap_ms=40 y=2\n\
                   c tunnel_reattach reason=crash outcome=nobody gap_ms=30000\n";
        let held = Held::of(log);
        assert_eq!((held.times.count(), held.failed), (1, BTreeMap::from([("nobody".to_owned(), 1)])));
    }

    #[test]
    fn planned_restarts_may_cost_nothing_and_others_may_cost_messages_under_way() {
        let told = |cut, lost, doubled| Told { cut, lost, doubled, ..Told::default() };
        let planned = |told| judge(RestartWay::Planned, &told).is_ok();
        assert!(planned(told(0, 0, 0)));
        assert!(!planned(told(1, 0, 0)) && !planned(told(0, 1, 0)) && !planned(told(0, 0, 1)));
        let killed = |told| judge(RestartWay::Killed, &told).is_ok();
        assert!(killed(told(1, 1, 0)) && !killed(told(0, 0, 1)));
    }
}
