//! Searches for the next backends of tunnels that are held.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use super::kept::KeptRequest;
use super::outcome::ReattachOutcome;
use crate::affinity::KeySource;
use crate::hook::Loss;
use crate::metrics::UpstreamMetrics;
use crate::tunnel::accept::{Redial, Socket};
use crate::upstream::LoadGuard;

/// Asks backends for tunnels that are held.
pub trait Asker: Send + Sync {
    /// Asks for the next backend of a tunnel. The answer comes by [`Asking::until`].
    fn ask(self: Arc<Self>, asking: Asking, dial: Redial) -> Search;
}

/// A search for the next backend. It stays on its worker's thread and must not block it; it is polled as a
/// [`Handshake`](crate::tunnel::Handshake) is.
pub type Search = Pin<Box<dyn Future<Output = SearchOutcome>>>;

/// A tunnel whose next backend is to be found.
pub struct Asking {
    /// State with which backends are asked.
    pub kept: Arc<KeptRequest>,
    /// Reason why the backend before was lost.
    pub loss: Loss,
    /// Number of this re-attachment, from 1.
    pub number: u32,
    /// No backend is asked before this moment.
    pub not_before: Instant,
    /// End of the search.
    pub until: Instant,
    /// Id of the request that opened the tunnel.
    pub request_id: Box<str>,
    /// The client's address, as far as it is believed.
    pub client: IpAddr,
    /// Peer of the client's socket.
    pub peer: SocketAddr,
    /// The route, as `host path`.
    pub route: Arc<str>,
    /// Upstream that a hook chose for the tunnel.
    pub upstream: Option<Box<str>>,
    /// Source of the affinity key.
    pub key_source: Option<KeySource>,
    /// Headers that hooks set, each in place of all of its name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Outcome of a search.
pub enum SearchOutcome {
    /// A backend goes on.
    Attached(Box<Attached>),
    /// No backend goes on with it.
    Failed(ReattachOutcome),
}

/// A backend that goes on with a tunnel.
pub struct Attached {
    /// Connection to it.
    pub backend: Socket,
    /// Bytes that came behind its answer.
    pub early: Vec<u8>,
    /// Counts the tunnel on it.
    pub guard: LoadGuard,
    /// Metrics of its upstream.
    pub metrics: Arc<UpstreamMetrics>,
    /// Number of the configuration that it was chosen under.
    pub generation: u32,
}
