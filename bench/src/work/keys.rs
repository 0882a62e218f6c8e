//! Clients that are sent elsewhere when one of three backends leaves.

use anyhow::{Result, ensure};

use super::Figures;
use crate::load;
use crate::peer::Site;
use crate::stop::Stop;

/// Clients asked for.
const CLIENTS: usize = 1_500;

pub(super) fn measure(site: &mut Site, stop: &Stop) -> Result<Figures> {
    let before = homes(site, stop)?;
    site.configure(2)?;
    site.restart()?;
    let after = homes(site, stop)?;
    let share = |count: usize| count as f64 * 100.0 / CLIENTS as f64;
    let pairs = || before.iter().zip(&after);
    let moved = pairs().filter(|(before, after)| before != after).count();
    let needed = before.iter().filter(|before| *before == "three").count();
    ensure!(needed > 0 && !after.iter().any(|after| after == "three"), "the third backend has not left");
    Ok(vec![("keys.moved", share(moved)), ("keys.needless", share(moved - needed))])
}

/// The backend of each client.
fn homes(site: &Site, stop: &Stop) -> Result<Vec<String>> {
    (0..CLIENTS)
        .map(|client| {
            stop.check()?;
            load::home(client, &site.targets)
        })
        .collect()
}
