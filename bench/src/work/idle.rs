//! Memory and wake-ups of silent tunnels, and memory that is left when they have closed.

use std::time::Duration;

use anyhow::Result;

use super::{Amount, Figures};
use crate::load::Fleet;
use crate::peer::Site;
use crate::proc::{self, Memory, Switches};
use crate::stop::Stop;
use crate::ws::Message;

/// Ids of user memory and all memory of an idle tunnel, of user memory of one after traffic and of what is left, of the
/// gateway's memory at its start, and of wake-ups.
pub(super) struct Ids([&'static str; 6]);

pub(super) const PLAIN: Ids =
    Ids(["idle.user", "idle.pss", "idle.traffic", "idle.left", "idle.start", "idle.switches"]);
pub(super) const TLS: Ids =
    Ids(["tls-idle.user", "tls-idle.pss", "tls-idle.traffic", "tls-idle.left", "tls-idle.start", "tls-idle.switches"]);

pub(super) fn measure(site: &Site, amount: &Amount, ids: &Ids, stop: &Stop) -> Result<Figures> {
    let tunnels = amount.idle as f64;
    let kib_each = |bytes: u64, start: u64| (bytes as f64 - start as f64) / 1024.0 / tunnels;
    stop.wait(Duration::from_millis(300))?;
    let start = memory(site);

    let mut fleet = Fleet::open(&site.targets, amount.idle, stop)?;
    fleet.watch(Duration::from_secs(1))?;
    let idle = memory(site);

    let processes = site.processes();
    let before = proc::cost(&processes);
    fleet.watch(amount.wait)?;
    let Switches { voluntary, involuntary } = proc::cost(&processes).since(before).switches;

    // Each tunnel carries one small message at a time for a while, then all is quiet again.
    let outcome = fleet.echo(&Message::new(64), 1, Duration::from_secs(1))?;
    fleet.watch(Duration::from_secs(1))?;
    let after_traffic = memory(site);

    let errors = fleet.lost() + outcome.errors;
    drop(fleet);
    // Memory comes back within seconds, or not before it is needed elsewhere.
    let mut end = memory(site);
    stop.wait_until(amount.wait.max(Duration::from_secs(3)), || {
        let now = memory(site);
        if now.anonymous < end.anonymous {
            end = now;
        }
        Ok(end.anonymous <= start.anonymous + start.anonymous / 50)
    })?;

    let Ids([user, pss, traffic, left, begin, switches]) = *ids;
    Ok(vec![
        (user, kib_each(idle.anonymous, start.anonymous)),
        (pss, kib_each(idle.pss, start.pss)),
        (traffic, kib_each(after_traffic.anonymous, start.anonymous)),
        (left, (end.anonymous as f64 - start.anonymous as f64) / f64::from(1 << 20)),
        (begin, start.pss as f64 / f64::from(1 << 20)),
        (switches, (voluntary + involuntary) as f64 / amount.wait.as_secs_f64()),
        ("errors", errors as f64),
    ])
}

fn memory(site: &Site) -> Memory {
    proc::memory(&site.processes())
}
