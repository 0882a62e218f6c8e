//! Echoes over open tunnels beside many handshakes: latency with and without them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{Amount, Figures};
use crate::load::{Fleet, Outcome, Targets, handshakes};
use crate::peer::Site;
use crate::stop::Stop;
use crate::ws::Message;

/// Open tunnels, and messages a second over all of them.
const TUNNELS: usize = 1_000;
const RATE: f64 = 2_000.0;
/// Handshakes come in groups: so many at once, so long after the group before, 500 a second.
const GROUP: usize = 8;
const APART: Duration = Duration::from_millis(16);
const WARM_UP: Duration = Duration::from_millis(300);

/// The gateway has a core and one worker for itself, and on the other core the echoes come first: a handshake costs its
/// client as much as the gateway, and echoes are to wait for the gateway and not for that.
pub(super) fn measure(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let message = Message::new(64);
    let mut fleet = Fleet::open(&site.targets, TUNNELS, stop)?;
    let _isolated = site.isolate(&["one", "two", "three"])?;
    fleet.paced(&message, RATE, WARM_UP)?;
    let alone = fleet.paced(&message, RATE, amount.load)?;
    let (is_over, targets) = (AtomicBool::new(false), &site.targets);
    let (beside, shaken) = std::thread::scope(|scope| {
        let shaking = scope.spawn(|| shake(targets, &is_over, stop));
        let beside = fleet.paced(&message, RATE, WARM_UP).and_then(|_| fleet.paced(&message, RATE, amount.load));
        is_over.store(true, Ordering::Relaxed);
        let Ok(shaken) = shaking.join() else { bail!("the thread of the handshakes panicked") };
        Ok((beside?, shaken?))
    })?;
    ensure!(alone.done > 0 && beside.done > 0 && shaken.done > 0, "nothing came back");
    let micros = |outcome: &Outcome| outcome.latency.quantile(0.99).as_secs_f64() * 1e6;
    let (quiet, busy) = (micros(&alone), micros(&beside));
    Ok(vec![
        ("tls-beside.alone99", quiet),
        ("tls-beside.beside99", busy),
        ("tls-beside.times99", busy / quiet),
        ("tls-beside.rate", shaken.done as f64 / shaken.elapsed.as_secs_f64()),
        ("errors", (alone.errors + beside.errors + shaken.errors) as f64),
    ])
}

/// Groups of handshakes, until it is over. A group that takes long puts the next one off, and shows in the rate.
fn shake(targets: &Targets, is_over: &AtomicBool, stop: &Stop) -> Result<Outcome> {
    let mut all = Outcome::default();
    let begun = Instant::now();
    let mut due = begun;
    while !is_over.load(Ordering::Relaxed) {
        // A window of nothing: each of the group is one handshake.
        all.add(&handshakes(targets, GROUP, Duration::ZERO, stop)?);
        due += APART;
        Stop::pause(due.saturating_duration_since(Instant::now()));
    }
    all.elapsed = begun.elapsed();
    Ok(all)
}
