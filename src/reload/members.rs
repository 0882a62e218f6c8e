//! Puts members that come, go, move and leave in force. Such a change takes its turn among reloads, and is applied to
//! open tunnels by the same rules.

use std::fmt;
use std::sync::Arc;

use log::info;
use serde::Serialize;

use super::changes::backend_changes;
use super::{BackendChange, ReloadError, judge};
use crate::counted::counted;
use crate::snapshot::{Running, Snapshot};
use crate::tunnel::Judged;
use crate::upstream::MemberLists;

/// Effects of a change of members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MembersChanged {
    /// Differences, by upstream. None of them is empty.
    pub upstreams: Vec<(String, Vec<BackendChange>)>,
    /// Open tunnels that are to be closed: their backend is gone, moved or leaving. Those announced before are among
    /// them.
    pub closing: usize,
    /// Open tunnels that are to be closed, because their key belongs to another backend (`rehome`).
    pub rehoming: usize,
    /// Open tunnels that an earlier change was to close and that stay after all.
    pub called_off: usize,
}

/// Puts members in force. Returns `None` when they are in force already. The generation stays the same, because it
/// counts configurations.
///
/// Waits for its turn among reloads. To be called on the Tokio runtime of the health checks.
///
/// # Errors
/// [`ReloadError::Panicked`] alone.
pub async fn put_members_in_force(
    running: &Arc<Running>,
    members: MemberLists,
) -> Result<Option<MembersChanged>, ReloadError> {
    let mut turn = running.turn().await;
    let before = running.snapshot();
    let compiler = Arc::clone(running);
    // Thousands of members take a while, and no request is to wait for it.
    let compiled = tokio::task::spawn_blocking(move || compiler.with_members(members));
    let Some(snapshot) = compiled.await.map_err(|_| ReloadError::Panicked)? else { return Ok(None) };
    let after = running.put_members_in_force(snapshot, &mut turn);
    let Judged { changed, rehomed, called_off } = judge(running, &before, &after, &turn).await;
    let upstreams = differences(&before, &after);
    let changed = MembersChanged { upstreams, closing: changed, rehoming: rehomed, called_off };
    if changed == MembersChanged::default() {
        // A wait for an absent member that is over is no change of the members.
        return Ok(None);
    }
    info!("{changed}");
    Ok(Some(changed))
}

fn differences(before: &Snapshot, after: &Snapshot) -> Vec<(String, Vec<BackendChange>)> {
    let pairs = before.destinations().iter().zip(after.destinations());
    let differ = pairs.filter(|(before, after)| !Arc::ptr_eq(before, after));
    let differences = differ.map(|(before, after)| {
        let changes = backend_changes(before.upstream.members(), after.upstream.members());
        (after.upstream.config().name.clone(), changes)
    });
    differences.filter(|(_, changes)| !changes.is_empty()).collect()
}

impl fmt::Display for MembersChanged {
    /// One line. Of many changes the first few are named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("members changed")?;
        for (upstream, changes) in &self.upstreams {
            write!(f, "; {upstream}: ")?;
            for (place, change) in changes.iter().take(NAMED).enumerate() {
                write!(f, "{}{change}", if place == 0 { "" } else { ", " })?;
            }
            if changes.len() > NAMED {
                write!(f, " and {} more", changes.len() - NAMED)?;
            }
        }
        for (count, what) in
            [(self.closing, "to be closed"), (self.rehoming, "to be re-homed"), (self.called_off, "called off")]
        {
            if count > 0 {
                write!(f, "; {} {what}", counted(count, "tunnel"))?;
            }
        }
        Ok(())
    }
}

/// Changes of one upstream that a line of the log names.
const NAMED: usize = 8;
