//! Loads of messages and handshakes.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Amount, Figures, cost_each, cost_of};
use crate::load::{Fleet, Outcome, handshakes};
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
const PACED: Ids = ids!("paced");
const STREAM: Ids = ids!("stream");

/// Payload of a small message.
const SMALL: usize = 64;
/// Payload of a large message.
const LARGE: usize = 64 * 1024;
/// Tunnels with large messages: enough to keep two workers busy.
const STREAMS: usize = 8;
/// Handshakes under way at once.
const HANDSHAKES: usize = 32;

pub(super) fn closed(site: &Site, amount: &Amount, tunnels: usize, ids: &Ids, stop: &Stop) -> Result<Figures> {
    let message = Message::new(SMALL);
    let mut fleet = Fleet::open(&site.targets, tunnels, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cost) = cost_of(site, stop, || fleet.echo(&message, 1, amount.load))?;
    figures(ids, &outcome, cost, 1.0)
}

pub(super) fn paced(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let message = Message::new(SMALL);
    let mut fleet = Fleet::open(&site.targets, 64, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cost) = cost_of(site, stop, || fleet.paced(&message, amount.rate, amount.load))?;
    figures(&PACED, &outcome, cost, 1.0)
}

/// Counts in MiB echoed. Each passes the gateway twice.
pub(super) fn stream(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let message = Message::new(LARGE);
    let mut fleet = Fleet::open(&site.targets, STREAMS, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cost) = cost_of(site, stop, || fleet.echo(&message, 1, amount.load))?;
    figures(&STREAM, &outcome, cost, message.payload as f64 / f64::from(1 << 20))
}

pub(super) fn handshake(site: &Site, amount: &Amount, ids: &Ids, stop: &Stop) -> Result<Figures> {
    handshakes(&site.targets, HANDSHAKES, warm_up(amount), stop)?;
    let (outcome, cost) = cost_of(site, stop, || handshakes(&site.targets, HANDSHAKES, amount.load, stop))?;
    figures(ids, &outcome, cost, 1.0)
}

fn warm_up(amount: &Amount) -> Duration {
    amount.load.mul_f64(0.2).min(Duration::from_millis(500))
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
