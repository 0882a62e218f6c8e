//! Reload: another configuration is put in force in the same process, all of it at once. Only the tunnels that it
//! changes something for are touched.

mod changes;
mod impact;
mod members;
mod plan;
mod tls_files;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use log::{error, info, warn};
use serde::Serialize;

use crate::config::{self, Config, LoadError};
use crate::counted::counted;
use crate::discovery::Sources;
use crate::metrics::ReloadOutcome;
use crate::snapshot::{Running, Snapshot, TunnelPolicy, Turn};
use crate::tunnel::Judged;
use crate::upstream::MemberLists;
pub use changes::{BackendChange, Changes, RouteChange, UpstreamChange};
use impact::Impact;
pub use impact::ImpactCause;
pub use members::{MembersChanged, put_members_in_force};
pub use plan::{Fate, KeysMoved, Plan, TunnelsPlanned, plan, plan_running};
pub use tls_files::{TlsFiles, renew};
pub use watch::Watch;

/// Outcome of a reload that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The generation of the snapshot that is now in force.
    pub generation: u64,
    /// Differences from the configuration before. The keys in `needs_upgrade` kept their running values.
    pub changes: Changes,
    /// Open tunnels that are to be closed, because their route or backend is gone (`on_change: close`). Those announced
    /// by an earlier reload are among them.
    pub closing: usize,
    /// Open tunnels that are to be closed, because their key belongs to another backend (`rehome`).
    pub rehoming: usize,
    /// Open tunnels that an earlier reload was to close and that stay after all.
    pub called_off: usize,
}

/// Reason for which a reload did not happen. The configuration before stays in force, untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The gateway was not started from a file.
    #[error("the configuration did not come from a file: there is nothing to read again")]
    NoFile,
    /// The file cannot be read, or has errors. Errors that hooks find in their settings are among them.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A bug: compiling the configuration panicked.
    #[error("the configuration could not be compiled; this is a bug in Longhaul")]
    Panicked,
}

/// Reads the file again that the gateway was started from, and puts it in force. New sources of members are asked
/// first; their answers are waited for as long as the file says.
///
/// Success and failure are logged and counted.
///
/// # Errors
/// [`ReloadError`], with every problem of the file in its text.
pub async fn from_file(running: &Arc<Running>, sources: &Sources) -> Result<Reloaded, ReloadError> {
    let outcome = match read(running).await {
        Ok(config) => {
            sources.begin(&config, &running.snapshot().members);
            sources.first_answers(&config).await;
            let members = sources.known(&config).await;
            reload_with(running, config, members).await
        }
        Err(error) => Err(error),
    };
    sources.keep_only(&running.snapshot().config);
    if let Err(error) = &outcome {
        running.metrics.reloaded(ReloadOutcome::Failed, SystemTime::now());
        error!("the reload is refused, nothing has changed: {error}");
    }
    outcome
}

async fn read(running: &Running) -> Result<Config, ReloadError> {
    let snapshot = running.snapshot();
    let file = snapshot.config.source.clone().ok_or(ReloadError::NoFile)?.path;
    let name = file.to_string_lossy().into_owned();
    let hooks = Arc::clone(running.hooks());
    let loaded = tokio::task::spawn_blocking(move || config::load_by(&file, &*hooks, &snapshot.lapsed())).await;
    let loaded = loaded.map_err(|_| ReloadError::Panicked)??;
    for warning in &loaded.warnings {
        warn!("{}", warning.in_file(&name));
    }
    Ok(loaded.config)
}

/// Puts a configuration in force: everything is compiled first, then swapped by one store.
///
/// Requests under way finish on the snapshot they began with. Live state of backends (health, loads) stays with those
/// whose upstream and address stay. What a process takes at its start only keeps its value and is named in
/// [`Changes::needs_upgrade`]. Reloads wait for each other. To be called on the Tokio runtime of the health checks.
///
/// # Errors
/// [`ReloadError::Load`] where a hook finds fault with its settings; [`ReloadError::Panicked`].
pub async fn reload(running: &Arc<Running>, config: Config) -> Result<Reloaded, ReloadError> {
    let members = running.snapshot().members.clone();
    reload_with(running, config, members).await
}

/// Does what [`reload`] does, with the given members of upstreams that have a source of members.
async fn reload_with(running: &Arc<Running>, config: Config, members: MemberLists) -> Result<Reloaded, ReloadError> {
    let mut turn = running.turn().await;
    let before = running.snapshot();
    let compiler = Arc::clone(running);
    // Thousands of backends take a while, and no request is to wait for it.
    let compiled = tokio::task::spawn_blocking(move || {
        let changes = Changes::between(&compiler.snapshot().config, &config);
        (changes, compiler.compile(config, members))
    });
    let (changes, snapshot) = compiled.await.map_err(|_| ReloadError::Panicked)?;
    let snapshot = snapshot.map_err(|problems| {
        let path = before.config.source.as_ref().map_or_else(|| "configuration".into(), |source| source.path.clone());
        LoadError::Refused { path, problems }
    })?;
    note_former_policies(&before, &snapshot, &mut turn.former_policies);
    let after = running.put_in_force(snapshot, &mut turn);
    let Judged { changed, rehomed, called_off } = judge(running, &before, &after, &turn).await;

    let generation = after.generation;
    let reloaded = Reloaded { generation, changes, closing: changed, rehoming: rehomed, called_off };
    let whole = reloaded.changes.needs_upgrade.is_empty();
    let outcome = if whole { ReloadOutcome::Done } else { ReloadOutcome::Partly };
    running.metrics.reloaded(outcome, SystemTime::now());
    info!("reloaded: {reloaded}");
    Ok(reloaded)
}

/// Applies the configuration in force to every open tunnel, as a reload does. It is meant for tunnels that were taken
/// over from a predecessor. No tunnel is re-homed by it.
pub async fn enforce(running: &Running) -> Judged {
    let turn = running.turn().await;
    let snapshot = running.snapshot();
    judge(running, &snapshot, &snapshot, &turn).await
}

/// Applies a snapshot that followed another to every open tunnel.
async fn judge(running: &Running, before: &Snapshot, after: &Arc<Snapshot>, turn: &Turn) -> Judged {
    let impact = Impact::new(before, Arc::clone(after), turn.former_policies.clone(), SystemTime::now());
    running.tunnels.judge(Arc::new(move |who| impact.verdict(who))).await
}

/// Keeps the policies of upstreams that leave, and forgets those of upstreams that are back.
fn note_former_policies(before: &Snapshot, after: &Snapshot, former: &mut HashMap<String, TunnelPolicy>) {
    for to in before.destinations() {
        let config = to.upstream.config();
        former.insert(config.name.clone(), TunnelPolicy::of(config));
    }
    for to in after.destinations() {
        former.remove(&to.upstream.config().name);
    }
}

impl fmt::Display for Reloaded {
    /// One line, without the generation's details.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, {}", self.generation, self.changes.summary())?;
        for (count, what) in
            [(self.closing, "to be closed"), (self.rehoming, "to be re-homed"), (self.called_off, "called off")]
        {
            if count > 0 {
                write!(f, "; {} {what}", counted(count, "tunnel"))?;
            }
        }
        match self.changes.needs_upgrade.as_slice() {
            [] => Ok(()),
            keys => write!(f, "; kept as they were until an upgrade: {}", keys.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
