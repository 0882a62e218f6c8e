//! Frozen tunnels: taken off their worker as they stand, to be put back, or to go on in another process.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use serde::{Deserialize, Serialize};

use super::end::Side;
use super::pair::{Pair, State};
use super::record::Record;
use super::worker::Tunnel;
use crate::metrics::UpstreamMetrics;
use crate::upstream::LoadGuard;

/// A tunnel that nobody touches: bytes that come for it wait in its sockets.
#[must_use = "dropped, it takes its connections along"]
pub struct Frozen(pub(super) Box<Tunnel>);

/// All that is needed to go on with a tunnel, apart from its two sockets.
///
/// Its form is part of the handover's protocol: another release of Longhaul reads it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passport {
    request_id: Box<str>,
    client: IpAddr,
    peer: SocketAddr,
    /// The route, as `host path`.
    pub route: Box<str>,
    /// The upstream's name.
    pub upstream: String,
    /// The backend's address.
    pub backend: SocketAddr,
    key_source: Cow<'static, str>,
    key_digest: Option<Box<str>>,
    key_hash: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_hook: bool,
    age: Duration,
    pair: State,
}

/// What a tunnel of another process is given in this one.
pub struct Place {
    /// [`Passport::route`], shared with the tunnels that have the same.
    pub route: Arc<str>,
    /// Counts the tunnel on its backend.
    pub guard: LoadGuard,
    /// Its upstream's metrics.
    pub metrics: Arc<UpstreamMetrics>,
}

impl Frozen {
    /// What another process needs to go on with the tunnel, as of `now`.
    pub fn passport(&self, now: Instant) -> Passport {
        let Tunnel { pair, record, since, .. } = &*self.0;
        Passport {
            request_id: record.request_id.clone(),
            client: record.client,
            peer: record.peer,
            route: (&*record.route).into(),
            upstream: record.backend().upstream().to_owned(),
            backend: record.backend().address(),
            key_source: Cow::Borrowed(record.key_source),
            key_digest: record.key_digest.clone(),
            key_hash: record.key_hash,
            by_hook: record.by_hook,
            age: now.saturating_duration_since(*since),
            pair: pair.state(now),
        }
    }

    /// The sockets, by [`Side`].
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        Side::ALL.map(|side| self.0.pair.stream(side).as_fd())
    }

    /// A tunnel of another process, to go on in this one with the sockets that came with its passport.
    pub fn adopt(passport: Passport, sockets: [OwnedFd; 2], place: Place, now: Instant) -> Self {
        let Place { route, mut guard, metrics } = place;
        let stream = |socket: OwnedFd| TcpStream::from_std(socket.into());
        let [client, backend] = sockets.map(stream);
        guard.mark_tunnel();
        let record = Record {
            request_id: passport.request_id,
            client: passport.client,
            peer: passport.peer,
            route,
            key_source: known(&passport.key_source),
            key_digest: passport.key_digest,
            key_hash: passport.key_hash,
            by_hook: passport.by_hook,
            guard,
            metrics,
        };
        Self(Box::new(Tunnel {
            pair: Pair::resume(client, backend, passport.pair, now),
            record,
            // A moment before the machine started cannot be told; then it was now.
            since: now.checked_sub(passport.age).unwrap_or(now),
            queued: false,
        }))
    }

    /// Counts the tunnel as one that came from a predecessor for good.
    pub fn count_as_adopted(&self) {
        self.0.record.metrics.adopted.inc();
    }

    /// Closes this process's copies of the sockets of a tunnel that goes on in another. It has not ended: nothing is logged.
    pub fn give_up(self) {
        self.0.record.metrics.handed_over.inc();
    }
}

/// The name of an affinity source, from the list of those there are.
fn known(source: &str) -> &'static str {
    ["cookie", "header", "query", "issue_cookie", "client_ip", "hook"]
        .into_iter()
        .find(|name| *name == source)
        .unwrap_or("none")
}
