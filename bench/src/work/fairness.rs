//! Small messages beside bulk tunnels on one worker: latency with and without them, and their throughput.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{Amount, Figures};
use crate::load::{self, Fleet, Outcome};
use crate::peer::Site;
use crate::stop::Stop;
use crate::ws::Message;

/// Tunnels that always have large messages under way, and how many each.
const BULK: usize = 4;
const DEPTH: usize = 16;
/// Payload of a bulk message.
const LARGE: usize = 64 * 1024;
/// Tunnels with small messages, and messages a second over all of them.
const SMALL: usize = 16;
const RATE: f64 = 1_000.0;
/// Clients asked for at most until enough of them have the right backend.
const ASKED: usize = 1_000;

/// Bulk and small messages come from threads of their own and go to backends of their own. The gateway has a core for
/// itself, and on the other one small messages come first, so that they wait for the gateway and not for a core.
pub(super) fn measure(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    let (bulk, small) = clients(site, stop)?;
    let (large, little) = (Message::new(LARGE), Message::new(64));
    let mut small = Fleet::open_as(&site.targets, small, stop)?;
    let mut bulk = Fleet::open_as(&site.targets, bulk, stop)?;
    let _isolated = site.isolate(&["one", "two"])?;
    small.paced(&little, RATE, WARM_UP)?;
    let alone = small.paced(&little, RATE, amount.load)?;
    // The bulk tunnels begin before the small messages are timed, and end after them.
    let length = WARM_UP + amount.load + WARM_UP;
    let (beside, bulk) = std::thread::scope(|scope| {
        let bulk = scope.spawn(|| bulk.echo(&large, DEPTH, length));
        let beside = small.paced(&little, RATE, WARM_UP).and_then(|_| small.paced(&little, RATE, amount.load));
        let Ok(bulk) = bulk.join() else { bail!("the thread of the bulk tunnels panicked") };
        Ok((beside?, bulk?))
    })?;
    ensure!(alone.done > 0 && beside.done > 0 && bulk.done > 0, "nothing came back");
    let mut figures = Figures::new();
    for (part, ids) in [(0.5, &HALF), (0.99, &MOST)] {
        let micros = |outcome: &Outcome| outcome.latency.quantile(part).as_secs_f64() * 1e6;
        let (alone, beside) = (micros(&alone), micros(&beside));
        figures.extend([(ids[0], alone), (ids[1], beside), (ids[2], beside / alone)]);
    }
    let mebibytes = bulk.done as f64 * LARGE as f64 / f64::from(1 << 20);
    figures.push(("fairness.bulk", mebibytes / bulk.elapsed.as_secs_f64()));
    figures.push(("errors", (alone.errors + beside.errors + bulk.errors) as f64));
    Ok(figures)
}

/// Ids of latency alone, beside bulk tunnels, and their ratio.
const HALF: [&str; 3] = ["fairness.alone50", "fairness.beside50", "fairness.times50"];
const MOST: [&str; 3] = ["fairness.alone99", "fairness.beside99", "fairness.times99"];
const WARM_UP: Duration = Duration::from_millis(300);

/// Clients for bulk messages, all of the third backend, and clients of the others for small ones.
fn clients(site: &Site, stop: &Stop) -> Result<(Vec<usize>, Vec<usize>)> {
    let (mut bulk, mut small) = (Vec::new(), Vec::new());
    for client in 0..ASKED {
        stop.check()?;
        match load::home(client, &site.targets)?.as_str() {
            "three" if bulk.len() < BULK => bulk.push(client),
            "one" | "two" if small.len() < SMALL => small.push(client),
            _ if bulk.len() == BULK && small.len() == SMALL => return Ok((bulk, small)),
            _ => {}
        }
    }
    bail!("of {ASKED} clients too few have the third backend, or too many")
}
