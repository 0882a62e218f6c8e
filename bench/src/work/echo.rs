//! Loads of messages and handshakes.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Amount, Figures, cpu_of};
use crate::load::{Fleet, Outcome, handshakes};
use crate::peer::Site;
use crate::stop::Stop;
use crate::ws::Message;

/// Ids of a load's figures: CPU µs per round trip, round trips a second, latency at 50, 99 and 99.9 %.
pub(super) type Ids = [&'static str; 5];

pub(super) const OVER_64: Ids = ["echo64.cpu", "echo64.rate", "echo64.p50", "echo64.p99", "echo64.p999"];
pub(super) const OVER_1: Ids = ["echo1.cpu", "echo1.rate", "echo1.p50", "echo1.p99", "echo1.p999"];
pub(super) const OVER_1000: Ids = ["echo1000.cpu", "echo1000.rate", "echo1000.p50", "echo1000.p99", "echo1000.p999"];
const PACED: Ids = ["paced.cpu", "paced.rate", "paced.p50", "paced.p99", "paced.p999"];
const STREAM: Ids = ["stream.cpu", "stream.rate", "stream.p50", "stream.p99", "stream.p999"];
const HANDSHAKE: Ids = ["handshake.cpu", "handshake.rate", "handshake.p50", "handshake.p99", "handshake.p999"];

/// Payload of a small message.
const SMALL: usize = 64;
/// Payload of a large one.
const LARGE: usize = 64 * 1024;
/// Tunnels with large messages: enough to keep two workers busy.
const STREAMS: usize = 8;
/// Handshakes under way at once.
const HANDSHAKES: usize = 32;

pub(super) fn closed(site: &Site, amount: &Amount, tunnels: usize, ids: &Ids, stop: &Stop) -> Result<Figures> {
    let message = Message::new(SMALL);
    let mut fleet = Fleet::open(&site.targets, tunnels, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cpu) = cpu_of(site, stop, || fleet.echo(&message, 1, amount.load))?;
    figures(ids, &outcome, cpu, 1.0)
}

pub(super) fn paced(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let message = Message::new(SMALL);
    let mut fleet = Fleet::open(&site.targets, 64, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cpu) = cpu_of(site, stop, || fleet.paced(&message, amount.rate, amount.load))?;
    figures(&PACED, &outcome, cpu, 1.0)
}

/// In MiB echoed, each of which passes the gateway twice: a message of 64 KiB is a sixteenth of one.
pub(super) fn stream(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let message = Message::new(LARGE);
    let mut fleet = Fleet::open(&site.targets, STREAMS, stop)?;
    fleet.echo(&message, 1, warm_up(amount))?;
    let (outcome, cpu) = cpu_of(site, stop, || fleet.echo(&message, 1, amount.load))?;
    figures(&STREAM, &outcome, cpu, message.payload as f64 / f64::from(1 << 20))
}

pub(super) fn handshake(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    handshakes(&site.targets, HANDSHAKES, warm_up(amount), stop)?;
    let (outcome, cpu) = cpu_of(site, stop, || handshakes(&site.targets, HANDSHAKES, amount.load, stop))?;
    figures(&HANDSHAKE, &outcome, cpu, 1.0)
}

fn warm_up(amount: &Amount) -> Duration {
    amount.load.mul_f64(0.2).min(Duration::from_millis(500))
}

/// `units`: how much of what is counted a round trip is.
fn figures(ids: &Ids, outcome: &Outcome, cpu: Duration, units: f64) -> Result<Figures> {
    ensure!(outcome.done > 0, "nothing came back");
    let done = outcome.done as f64 * units;
    let micros = |part| outcome.latency.quantile(part).as_secs_f64() * 1e6;
    Ok(vec![
        (ids[0], cpu.as_secs_f64() * 1e6 / done),
        (ids[1], done / outcome.elapsed.as_secs_f64()),
        (ids[2], micros(0.5)),
        (ids[3], micros(0.99)),
        (ids[4], micros(0.999)),
        ("errors", outcome.errors as f64),
    ])
}
