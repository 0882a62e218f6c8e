//! What is kept of one request while it is served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pingora_proxy::Session;

use super::answer::Answer;
use super::forward;
use crate::affinity;
use crate::client::Client;
use crate::snapshot::{Asked, Destination, Located, Running, Snapshot, Target, UnderWay};
use crate::upstream::{Pick, Unavailable};

/// The context of one request. It pins the snapshot that the request began with.
pub struct Ctx {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) started: Instant,
    /// Known once the request's header has been looked at.
    pub(super) request: Option<Request>,
    /// The backend at work for this request.
    pub(super) pick: Option<Pick>,
    /// When the backend at work was about to be connected to.
    pub(super) connecting: Option<Instant>,
    /// Backends that failed this request.
    pub(super) tried: Vec<usize>,
    /// The answer to give instead of a backend's.
    pub(super) answer: Option<Answer>,
    /// The last failure was that a backend took too long.
    pub(super) timed_out: bool,
    /// The connection is a tunnel now and logged by its worker; Pingora's session is an empty shell.
    pub(super) taken_over: bool,
    _under_way: UnderWay,
}

/// A request's identity, and what was decided about it.
pub(super) struct Request {
    pub(super) id: String,
    pub(super) client: Client,
    pub(super) peer: SocketAddr,
    pub(super) method: String,
    pub(super) host: String,
    /// Without the query, which often carries secrets.
    pub(super) path: String,
    pub(super) route: Option<usize>,
    pub(super) key: Option<Key>,
}

/// A ring key, detached from the snapshot.
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) source: &'static str,
    pub(super) digest: String,
    /// The `Set-Cookie` value, where a cookie is to be issued.
    pub(super) set_cookie: Option<String>,
}

impl Ctx {
    pub(super) fn new(running: &Running) -> Self {
        Self {
            snapshot: running.snapshot(),
            started: Instant::now(),
            request: None,
            pick: None,
            connecting: None,
            tried: Vec::new(),
            answer: None,
            timed_out: false,
            taken_over: false,
            _under_way: running.request(),
        }
    }

    /// Looks at a request's header: who asks, for which route, with which key.
    pub(super) fn describe(&mut self, session: &Session) {
        let header = session.req_header();
        let peer = session.client_addr().and_then(|address| address.as_inet().copied());
        // Every listener is an IP socket; a peer that is gone already has no address any more.
        let peer = peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let host = forward::host(header).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let path = header.uri.path().to_owned();
        let asked =
            Asked { host: &host, path: &path, query: header.uri.query(), headers: &header.headers, peer: peer.ip() };
        let Located { client, route, key } = self.snapshot.locate(&asked, affinity::mint);
        let key = key.map(|key| Key {
            source: key.source.as_str(),
            digest: key.digest(),
            set_cookie: key.set_cookie(client.secure),
            bytes: key.bytes,
        });
        let id = forward::request_id(&header.headers);
        self.request = Some(Request { id, client, peer, method: header.method.to_string(), host, path, route, key });
    }

    /// The request's id; empty before the header was looked at.
    pub(super) fn id(&self) -> &str {
        self.request.as_ref().map_or("", |request| &request.id)
    }

    pub(super) fn target(&self) -> Option<&Target> {
        Some(self.snapshot.target(self.request.as_ref()?.route?))
    }

    pub(super) fn destination(&self) -> Option<Arc<Destination>> {
        self.target().map(|target| Arc::clone(&target.to))
    }

    pub(super) fn set_cookie(&self) -> Option<&str> {
        self.request.as_ref()?.key.as_ref()?.set_cookie.as_deref()
    }

    /// Where the key came from, or `none`.
    pub(super) fn key_source(&self) -> &'static str {
        self.request.as_ref().and_then(|request| request.key.as_ref()).map_or("none", |key| key.source)
    }

    /// Chooses a backend that was not tried yet; on failure the answer to give is noted.
    pub(super) fn choose(&mut self, to: &Destination) -> Result<&Pick, Answer> {
        let key = self.request.as_ref().and_then(|request| request.key.as_ref()).map(|key| key.bytes.as_slice());
        match to.upstream.pick(key, &self.tried) {
            Ok(pick) => {
                if self.tried.is_empty() {
                    to.metrics.pick(self.key_source());
                } else {
                    to.metrics.failovers.inc();
                }
                Ok(self.pick.insert(pick))
            }
            Err(Unavailable::AllDown) => Err(Answer::nobody_healthy(to.retry_after())),
            Err(_) if self.timed_out => Err(Answer::too_slow()),
            Err(_) => Err(Answer::backend_failed()),
        }
    }

    /// Lets go of the backend at work, and does not come back to it for this request.
    pub(super) fn give_up_on_pick(&mut self) -> Option<usize> {
        let pick = self.pick.take()?;
        self.tried.push(pick.index);
        Some(pick.index)
    }
}
