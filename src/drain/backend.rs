//! The drain of one backend: nothing new goes to it, and its tunnels are closed over a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;
use serde::{Deserialize, Serialize};

use super::Progress;
use super::process::millis;
use crate::snapshot::{GatewayPhase, Running};
use crate::tunnel::{Reason, Scope};
use crate::upstream::BackendState;

/// No backend of the running configuration is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownBackend {
    /// There is no such upstream.
    #[error("there is no upstream `{0}`")]
    Upstream(String),
    /// The upstream has no such backend.
    #[error("upstream `{upstream}` has no backend {backend}")]
    Backend {
        /// The upstream.
        upstream: String,
        /// Name or address that was asked for.
        backend: String,
    },
}

/// A drain of a backend that has begun. Dropping it changes nothing.
pub struct BackendDrain {
    backend: Arc<BackendState>,
    /// When the last of its tunnels gets its Close frame.
    by: Instant,
    /// The gateway, where the source of the members says that the backend leaves; else the drain is this gateway's own.
    told_by_source: Option<Arc<Running>>,
}

impl BackendDrain {
    /// Gives the backend with this name or address nothing new from now on, and ends its tunnels (Close 1012) spread
    /// over the time `over`, or over the upstream's `drain_window`. A drain that is under way begins anew with its new
    /// time.
    ///
    /// # Errors
    /// [`UnknownBackend`]
    pub fn begin(
        running: &Running,
        upstream: &str,
        backend: &str,
        over: Option<Duration>,
        now: Instant,
    ) -> Result<Self, UnknownBackend> {
        let (backend, window) = find(running, upstream, backend)?;
        let over = over.unwrap_or(window);
        let scope = Scope::Backend(Arc::clone(&backend));
        // First the flag: a tunnel that opens from now on, its handshake having been under way, sees it.
        backend.set_draining(true);
        running.tunnels.spare(&scope, Reason::BackendDrained);
        running.tunnels.end(&scope, Reason::BackendDrained, over);
        Ok(Self { backend, by: now + over, told_by_source: None })
    }

    /// Follows a drain that another process began, of which the time `left` is left.
    ///
    /// # Errors
    /// [`UnknownBackend`]
    pub fn under_way(
        running: &Running,
        upstream: &str,
        backend: &str,
        left: Duration,
        now: Instant,
    ) -> Result<Self, UnknownBackend> {
        let (backend, _) = find(running, upstream, backend)?;
        Ok(Self { backend, by: now + left, told_by_source: None })
    }

    /// Follows a drain that the source of the members told of, of which the time `left` is left.
    ///
    /// # Errors
    /// [`UnknownBackend`]
    pub fn by_source(
        running: &Arc<Running>,
        upstream: &str,
        backend: &str,
        left: Duration,
        now: Instant,
    ) -> Result<Self, UnknownBackend> {
        let (backend, _) = find(running, upstream, backend)?;
        Ok(Self { backend, by: now + left, told_by_source: Some(Arc::clone(running)) })
    }

    /// Gives the backend its share again, and spares the tunnels that have not got their Close frame. Says whether it
    /// was drained at all.
    ///
    /// # Errors
    /// [`UnknownBackend`]
    pub fn undo(running: &Running, upstream: &str, backend: &str) -> Result<bool, UnknownBackend> {
        let (backend, _) = find(running, upstream, backend)?;
        let was = backend.is_draining();
        backend.set_draining(false);
        running.tunnels.spare(&Scope::Backend(backend), Reason::BackendDrained);
        Ok(was)
    }

    /// The backend, as `UPSTREAM/NAME`, with its address where that is another text.
    pub fn name(&self) -> String {
        self.backend.to_string()
    }

    /// Tells whether the drain was undone. A backend that its source names no more has left.
    pub fn is_undone(&self) -> bool {
        match &self.told_by_source {
            None => !self.backend.is_draining(),
            Some(running) => {
                let snapshot = running.snapshot();
                let upstream = snapshot.destination(self.backend.upstream()).map(|to| &to.upstream);
                let member = upstream.and_then(|to| Some(&to.members()[to.index_of(self.backend.name())?]));
                member.is_some_and(|member| !member.leaving)
            }
        }
    }

    /// Tells whether every tunnel must have ended by now: its Close frame was sent, and the answer awaited.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.by + LAST_ANSWER
    }

    /// Time until the last of its tunnels gets its Close frame.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.by.saturating_duration_since(now)
    }

    /// Progress of the drain.
    pub fn progress(&self, now: Instant) -> Progress {
        let tunnels = self.backend.tunnels();
        Progress {
            phase: GatewayPhase::Serving,
            tunnels,
            // Two counters, read one after the other: a tunnel may open or end in between.
            requests: self.backend.load().saturating_sub(tunnels),
            grace_ms: 0,
            remaining_ms: millis((self.by + LAST_ANSWER).saturating_duration_since(now)),
        }
    }
}

/// A backend that the operator drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedBackend {
    /// Name of its upstream.
    pub upstream: String,
    /// Its address.
    pub address: SocketAddr,
    /// Its name, where it is not just its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Every backend of the running configuration that the operator drains.
pub fn drained_backends(running: &Running) -> Vec<DrainedBackend> {
    let snapshot = running.snapshot();
    let states = snapshot.destinations().iter().flat_map(|to| to.upstream.states());
    let drained = states.filter(|state| state.is_draining());
    let drained = drained.map(|state| DrainedBackend {
        upstream: state.upstream().to_owned(),
        address: state.address(),
        name: state.own_name().map(str::to_owned),
    });
    drained.collect()
}

/// Drains the backends that another process drained, as far as the running configuration has them. Ends no tunnel:
/// those that the other process was about to end bring that along.
pub fn restore_drained(running: &Running, drained: &[DrainedBackend]) {
    for DrainedBackend { upstream, address, name } in drained {
        match find(running, upstream, &name.clone().unwrap_or_else(|| address.to_string())) {
            Ok((backend, _)) => {
                info!("backend {backend} is drained, as it was in the predecessor");
                backend.set_draining(true);
            }
            Err(unknown) => info!("a backend that was drained is not drained here: {unknown}"),
        }
    }
}

/// The name of the backend with this name or address, and its upstream's `drain_window`.
///
/// # Errors
/// [`UnknownBackend`]
pub fn name_of(running: &Running, upstream: &str, backend: &str) -> Result<(String, Duration), UnknownBackend> {
    let (backend, window) = find(running, upstream, backend)?;
    Ok((backend.name().to_owned(), window))
}

/// The backend with this name; else the first with this address.
fn find(running: &Running, upstream: &str, backend: &str) -> Result<(Arc<BackendState>, Duration), UnknownBackend> {
    let snapshot = running.snapshot();
    let to = snapshot.destinations().iter().find(|to| to.upstream.config().name == upstream);
    let to = to.ok_or_else(|| UnknownBackend::Upstream(upstream.to_owned()))?;
    let states = to.upstream.states();
    let by_address = || states.iter().find(|state| backend.parse() == Ok(state.address()));
    let state = to.upstream.index_of(backend).map(|index| &states[index]).or_else(by_address);
    let unknown = || UnknownBackend::Backend { upstream: upstream.to_owned(), backend: backend.to_owned() };
    let state = state.ok_or_else(unknown)?;
    Ok((Arc::clone(state), to.upstream.config().drain_window))
}

/// Longest time for the answer to the last Close frame and the end of its connection.
const LAST_ANSWER: Duration = Duration::from_secs(10);
