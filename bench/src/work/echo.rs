//! Loads of messages and handshakes.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Amount, Figures, cost_each, cost_of};
use crate::load::{Fleet, Job, Kind, Outcome, handshakes};
use crate::peer::Site;
use crate::proc::Cost;
use crate::stop::Stop;
use crate::ws::Message;

/// Ids of a load's figures: cost per round trip (CPU µs, voluntary and involuntary context switches), round trips a
/// second, latency at 50, 99 and 99.9 %.
pub(super) struct Ids {
    cost: [&'static str; 3],
    rate: &'static str,
    latency: [&'static str; 3],
}

macro_rules! ids {
    ($work:literal) => {
        Ids {
            cost: [concat!($work, ".cpu"), concat!($work, ".voluntary"), concat!($work, ".involuntary")],
            rate: concat!($work, ".rate"),
            latency: [concat!($work, ".p50"), concat!($work, ".p99"), concat!($work, ".p999")],
        }
    };
}

pub(super) const OVER_64: Ids = ids!("echo64");
pub(super) const OVER_1: Ids = ids!("echo1");
pub(super) const OVER_1000: Ids = ids!("echo1000");
pub(super) const HANDSHAKE: Ids = ids!("handshake");
pub(super) const LOGGED: Ids = ids!("logged");
pub(super) const STREAM: Ids = ids!("stream");
pub(super) const TLS_OVER_64: Ids = ids!("tls-echo64");
pub(super) const TLS_OVER_1: Ids = ids!("tls-echo1");
pub(super) const TLS_STREAM: Ids = ids!("tls-stream");
pub(super) const TLS_HANDSHAKE: Ids = ids!("tls-handshake");
pub(super) const TLS_RESUMED: Ids = ids!("tls-resumed");
const PACED: Ids = ids!("paced");

/// Payload of a small message.
const SMALL: usize = 64;
/// Payload of a large message.
const LARGE: usize = 64 * 1024;
/// Tunnels with large messages: enough to keep two workers busy.
const STREAMS: usize = 8;
/// Handshakes under way at once.
const HANDSHAKES: usize = 32;

pub(super) fn closed(site: &Site, amount: &Amount, tunnels: usize, ids: &Ids, stop: &Stop) -> Result<Figures> {
    measure(site, ids, job(site, amount, Kind::Echo, SMALL, tunnels), 1.0, stop)
}

pub(super) fn paced(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    measure(site, &PACED, job(site, amount, Kind::Paced(amount.rate), SMALL, 64), 1.0, stop)
}

/// Counts in MiB echoed. Each passes the gateway twice.
pub(super) fn stream(site: &Site, amount: &Amount, ids: &Ids, stop: &Stop) -> Result<Figures> {
    let units = LARGE as f64 / f64::from(1 << 20);
    measure(site, ids, job(site, amount, Kind::Echo, LARGE, STREAMS), units, stop)
}

pub(super) fn handshake(site: &Site, amount: &Amount, ids: &Ids, stop: &Stop) -> Result<Figures> {
    measure(site, ids, job(site, amount, Kind::Handshake, SMALL, HANDSHAKES), 1.0, stop)
}

fn job(site: &Site, amount: &Amount, kind: Kind, payload: usize, at_once: usize) -> Job {
    let warm_up = amount.load.mul_f64(0.2).min(Duration::from_millis(500));
    let (window, targets) = (amount.load, site.targets.addresses.clone());
    Job { kind, payload, at_once, warm_up, window, targets, sources: site.sources() }
}

fn measure(site: &Site, ids: &Ids, job: Job, units: f64, stop: &Stop) -> Result<Figures> {
    let (outcome, cost) = match site.remote(&job)? {
        None => here(site, &job, stop)?,
        Some(mut remote) => cost_of(site, stop, || remote.run())?,
    };
    figures(ids, &outcome, cost, units)
}

/// The job, done by this process.
fn here(site: &Site, job: &Job, stop: &Stop) -> Result<(Outcome, Cost)> {
    if job.kind == Kind::Handshake {
        handshakes(&site.targets, job.at_once, job.warm_up, stop)?;
        return cost_of(site, stop, || handshakes(&site.targets, job.at_once, job.window, stop));
    }
    let message = Message::new(job.payload);
    let mut fleet = Fleet::open(&site.targets, job.at_once, stop)?;
    fleet.echo(&message, 1, job.warm_up)?;
    cost_of(site, stop, || match job.kind {
        Kind::Paced(rate) => fleet.paced(&message, rate, job.window),
        _ => fleet.echo(&message, 1, job.window),
    })
}

/// `units`: units of a round trip, by which cost and rate are counted.
fn figures(ids: &Ids, outcome: &Outcome, cost: Cost, units: f64) -> Result<Figures> {
    ensure!(outcome.done > 0, "nothing came back");
    let done = outcome.done as f64 * units;
    let mut figures: Figures = ids.cost.into_iter().zip(cost_each(cost, done)).collect();
    figures.push((ids.rate, done / outcome.elapsed.as_secs_f64()));
    for (id, part) in ids.latency.into_iter().zip([0.5, 0.99, 0.999]) {
        figures.push((id, outcome.latency.quantile(part).as_secs_f64() * 1e6));
    }
    figures.push(("errors", outcome.errors as f64));
    Ok(figures)
}
