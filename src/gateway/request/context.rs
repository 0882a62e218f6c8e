//! The context of one request while it is served.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::headers;
use super::hooks::Hooks;
use crate::affinity;
use crate::client::Client;
use crate::config::{Forwarded, Handshake};
use crate::dial::{PassedOn, TryError};
use crate::gateway::arrival::Arrival;
use crate::hook::Answer;
use crate::http1::forward::Origin;
use crate::http1::framing::Encoded;
use crate::metrics::LocalFailure;
use crate::snapshot::{Asked, Destination, ListenerPolicy, Running, Snapshot, Target, Unclear};
use crate::socket::address;
use crate::tls::ClientCertificate;
use crate::tunnel::{ClientTls, UnderWay};
use crate::upstream::{Pick, Unavailable};

/// The context of one request. It pins the snapshot that the request began with.
pub struct Ctx {
    pub(in crate::gateway) snapshot: Arc<Snapshot>,
    pub(in crate::gateway) started: Instant,
    /// Known once the request's header has been looked at.
    pub(in crate::gateway) request: Option<Request>,
    /// Of a route that has hooks.
    pub(in crate::gateway) hooks: Option<Box<Hooks>>,
    /// The backend at work for this request.
    pub(in crate::gateway) pick: Option<Pick>,
    /// When the backend at work was about to be connected to.
    pub(in crate::gateway) connecting: Option<Instant>,
    /// Backends that failed this request, or that hooks vetoed.
    pub(in crate::gateway) tried: Vec<usize>,
    /// The target, where backends are to get another one than Pingora read.
    pub(in crate::gateway) encoded: Option<Box<Encoded>>,
    /// The answer to give instead of a backend's.
    pub(in crate::gateway) answer: Option<Answer>,
    /// The request is refused, because programs could read it in more than one way.
    pub(in crate::gateway) unclear: Option<Unclear>,
    /// Backends that failed after the request was sent to them.
    pub(in crate::gateway) sent: usize,
    /// Reason for which the last backend that was tried failed, as logs have it.
    pub(in crate::gateway) failure: Option<String>,
    /// The last failure was a shortage of the gateway's own.
    pub(in crate::gateway) short: bool,
    /// The last failure was that a backend took too long.
    pub(in crate::gateway) timed_out: bool,
    /// The connection is a tunnel now and logged by its worker; Pingora's session is an empty shell.
    pub(in crate::gateway) taken_over: bool,
    under_way: UnderWay,
}

/// A request's identity, and what was decided about it.
pub(in crate::gateway) struct Request {
    pub(in crate::gateway) id: String,
    pub(in crate::gateway) client: Client,
    pub(in crate::gateway) arrival: Arrival,
    pub(in crate::gateway) method: Method,
    pub(in crate::gateway) host: String,
    /// Without the query, which often carries secrets.
    pub(in crate::gateway) path: String,
    pub(in crate::gateway) route: Option<usize>,
    pub(in crate::gateway) key: Option<Key>,
    /// An element for this hop is added to `Forwarded`.
    writes_forwarded: bool,
}

impl Request {
    /// Calls `with` with the gateway's own word to a backend on where the request came from.
    pub(in crate::gateway) fn with_origin<T>(&self, with: impl FnOnce(&Origin<'_>) -> T) -> T {
        let peer = address::text(self.arrival.peer.ip().to_canonical());
        let certificate = self.arrival.certificate().map(ClientCertificate::header_value);
        with(&Origin {
            peer: &peer,
            is_trusted: self.client.via_trusted,
            is_secure: self.client.secure,
            certificate: certificate.as_deref(),
            host: &self.host,
            id: &self.id,
            by_tls: self.arrival.by_tls(),
            writes_forwarded: self.writes_forwarded,
        })
    }

    /// TLS of the client, for the log lines of its tunnel; `None` when the client came without.
    pub(in crate::gateway) fn client_tls(&self) -> Option<Box<ClientTls>> {
        let (secure, tls) = (self.client.secure, self.arrival.tls.as_ref());
        let certificate = self.arrival.certificate();
        (secure || tls.is_some()).then(|| {
            Box::new(ClientTls {
                secure,
                version: tls.map(|tls| tls.version.into()),
                certificate: certificate.map(|certificate| certificate.fingerprint.as_str().into()),
            })
        })
    }
}

/// A ring key, detached from the snapshot.
pub(in crate::gateway) struct Key {
    pub(in crate::gateway) bytes: Vec<u8>,
    pub(in crate::gateway) source: affinity::Source,
    /// The `Set-Cookie` value, where a cookie is to be issued.
    pub(in crate::gateway) set_cookie: Option<String>,
}

impl Key {
    /// The key of a request that came from `client`.
    pub(in crate::gateway) fn of(key: affinity::Key<'_>, client: &Client) -> Self {
        Self { source: key.source, set_cookie: key.set_cookie(client.secure), bytes: key.bytes }
    }

    /// Digest of the key for logs. Made when a line is written, because it takes a hash.
    pub(in crate::gateway) fn digest(&self) -> String {
        affinity::digest(&self.bytes)
    }
}

impl Ctx {
    pub(in crate::gateway) fn new(running: &Running) -> Self {
        Self {
            snapshot: running.snapshot(),
            started: Instant::now(),
            request: None,
            hooks: None,
            pick: None,
            connecting: None,
            tried: Vec::new(),
            encoded: None,
            answer: None,
            unclear: None,
            sent: 0,
            failure: None,
            short: false,
            timed_out: false,
            taken_over: false,
            under_way: running.request(),
        }
    }

    /// Looks at a request's header: who asks, for which route, and with which key if the route has no hooks.
    pub(in crate::gateway) fn describe(&mut self, session: &Session, arrival: &Arrival) {
        let header = session.req_header();
        let host = headers::host(header).map(text).unwrap_or_default();
        let asked = arrival.asked(&host, header.uri.path(), header.uri.query(), &header.headers);
        self.describe_as(&asked, arrival, header.method.clone());
    }

    /// Looks at what is asked for, as [`describe`](Self::describe) does.
    pub(in crate::gateway) fn describe_as(&mut self, asked: &Asked<'_>, arrival: &Arrival, method: Method) {
        let (client, route) = self.snapshot.receive(asked);
        self.unclear = self.snapshot.unclear(asked);
        self.hooks = route.and_then(|route| Hooks::of(&self.snapshot.target(route).hooks));
        let source = asked.of(&client);
        let key = route.filter(|_| self.hooks.is_none());
        let key = key.and_then(|route| self.snapshot.key(route, None, &source, affinity::mint));
        let key = key.map(|key| Key::of(key, &client));
        let id = headers::request_id(asked.headers);
        let (host, path) = (asked.host.to_owned(), asked.path.to_owned());
        let writes_forwarded = self.snapshot.config.forwarding.forwarded == Forwarded::Write;
        let arrival = arrival.clone();
        self.request = Some(Request { id, client, arrival, method, host, path, route, key, writes_forwarded });
    }

    /// The listener that the client came to.
    fn listener(&self) -> Option<&ListenerPolicy> {
        let number = self.request.as_ref()?.arrival.listener;
        self.snapshot.listeners().get(number).map(|listener| &**listener)
    }

    /// Port of the `https` address that the client is to be sent to, if it is.
    pub(in crate::gateway) fn redirect(&self) -> Option<u16> {
        let is_secure = self.request.as_ref()?.client.secure;
        self.listener()?.config.redirect.filter(|_| !is_secure)
    }

    /// `Strict-Transport-Security` for the client, where the listener has it.
    pub(in crate::gateway) fn hsts(&self) -> Option<&HeaderValue> {
        let is_secure = self.request.as_ref()?.client.secure;
        self.listener()?.hsts.as_ref().filter(|_| is_secure)
    }

    /// The client's connection, for backends of `to` that are sent a PROXY header; `None` for others. `local` is the
    /// address that the client connected to.
    ///
    /// Where a proxy before the gateway names the client, nobody knows the client's port: it is 0.
    pub(in crate::gateway) fn passed_on(
        &self,
        to: &Destination,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<PassedOn> {
        to.layers.proxy_protocol?;
        let request = self.request.as_ref()?;
        let (client, peer) = (request.client.address, request.arrival.peer);
        let port = if peer.ip().to_canonical() == client { peer.port() } else { 0 };
        let unknown = || SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Some(PassedOn { source: (client, port).into(), destination: local().unwrap_or_else(unknown) })
    }

    /// Lets go of all but what counts the request as under way.
    pub(in crate::gateway) fn into_under_way(self) -> UnderWay {
        self.under_way
    }

    /// The request's id; empty before the header was looked at.
    pub(in crate::gateway) fn id(&self) -> &str {
        self.request.as_ref().map_or("", |request| &request.id)
    }

    /// Address of the client; unspecified before the header was looked at.
    pub(in crate::gateway) fn client_address(&self) -> IpAddr {
        self.request.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |request| request.client.address)
    }

    pub(in crate::gateway) fn target(&self) -> Option<&Target> {
        Some(self.snapshot.target(self.request.as_ref()?.route?))
    }

    /// The request's upstream: the one that a hook chose, or that of its route.
    pub(in crate::gateway) fn to(&self) -> Option<&Arc<Destination>> {
        let sent = self.hooks.as_ref().and_then(|hooks| hooks.to());
        sent.or_else(|| self.target().map(|target| &target.to))
    }

    /// The same, to keep while the context changes.
    pub(in crate::gateway) fn destination(&self) -> Option<Arc<Destination>> {
        self.to().cloned()
    }

    /// Tells if clients of the request's route may break rules of the handshake.
    pub(in crate::gateway) fn is_lenient(&self) -> bool {
        self.target().is_some_and(|target| target.handshake == Handshake::Lenient)
    }

    /// Source of the key; `None` where there is none.
    pub(in crate::gateway) fn key_source(&self) -> Option<affinity::Source> {
        Some(self.request.as_ref()?.key.as_ref()?.source)
    }

    /// Chooses a backend that was not tried yet and that no hook vetoes; the error is the answer to give. Hooks are
    /// asked until the moment `until` at the latest.
    pub(in crate::gateway) async fn choose(
        &mut self,
        to: &Destination,
        until: Option<Instant>,
    ) -> Result<SocketAddr, Answer> {
        let mut pick = self.next_pick(to)?;
        // While hooks are asked no backend is at work: what time they take is not held against it.
        while let Some(hooks) = &mut self.hooks
            && !hooks.accept_until(&pick, self.tried.len(), until).await?
        {
            self.tried.push(pick.index);
            pick = self.next_pick(to)?;
        }
        Ok(self.pick.insert(pick).state.address())
    }

    fn next_pick(&self, to: &Destination) -> Result<Pick, Answer> {
        let vetoes = self.vetoes();
        match to.upstream.pick(self.key(), &self.tried) {
            Ok(pick) => {
                if self.tried.is_empty() {
                    to.metrics.pick(affinity::Source::name_of(self.key_source()));
                } else if self.tried.len() > vetoes {
                    to.metrics.failovers.inc();
                }
                Ok(pick)
            }
            Err(Unavailable::AllTried) if self.tried.len() == vetoes => Err(Answer::nobody_healthy(to.retry_after())),
            Err(Unavailable::AllDown) => Err(Answer::nobody_healthy(to.retry_after())),
            Err(_) => Err(self.answer_of_the_last_try()),
        }
    }

    /// Tells the client why the last try failed.
    fn answer_of_the_last_try(&self) -> Answer {
        match (self.short, self.timed_out) {
            (true, _) => Answer::gateway_is_short(),
            (false, true) => Answer::too_slow(),
            (false, false) => Answer::backend_failed(),
        }
    }

    /// The answer to give after a try that failed with this error; `None` where the next backend is to be asked.
    pub(in crate::gateway) fn answer_instead_of_a_try(&self, to: &Destination, error: &TryError) -> Option<Answer> {
        let is_over = match error {
            TryError::Exchange(_) => self.sent >= to.upstream.config().tries,
            TryError::Connect(_) => false,
            TryError::Local(shortage, _) => !is_of_one_backend(*shortage),
        };
        is_over.then(|| self.answer_of_the_last_try())
    }

    /// Tells if the request may be sent to another backend after the one at work.
    pub(in crate::gateway) fn may_try_another(&self, to: &Destination) -> bool {
        self.sent + 1 < to.upstream.config().tries
    }

    /// Tells if another backend could be asked after the one at work. Picks none.
    pub(in crate::gateway) fn has_another(&self, to: &Destination) -> bool {
        let (upstream, at_work) = (&to.upstream, self.pick.as_ref().map(|pick| pick.index));
        upstream.members().iter().enumerate().any(|(index, member)| {
            member.weight > 0
                && Some(index) != at_work
                && !self.tried.contains(&index)
                && upstream.is_up(index)
                && !upstream.states()[index].is_draining()
        })
    }

    /// The ring key, if the request has one.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.request.as_ref().and_then(|request| request.key.as_ref()).map(|key| key.bytes.as_slice())
    }

    /// Number of backends tried that were not asked, because hooks vetoed them.
    pub(in crate::gateway) fn vetoes(&self) -> usize {
        self.hooks.as_ref().map_or(0, |hooks| hooks.vetoes())
    }

    /// Notes the answer to give, and makes the error that has Pingora end the request.
    pub(in crate::gateway) fn fail_with(&mut self, answer: Answer) -> Box<Error> {
        let error = Error::new(ErrorType::HTTPStatus(answer.status().as_u16()));
        self.answer = Some(answer);
        error
    }

    /// Lets go of the backend at work, and does not come back to it for this request.
    pub(in crate::gateway) fn give_up_on_pick(&mut self) -> Option<usize> {
        let pick = self.pick.take()?;
        self.tried.push(pick.index);
        Some(pick.index)
    }
}

/// Tells if a shortage concerns a single backend, so that another one may be reached all the same.
pub(in crate::gateway) fn is_of_one_backend(shortage: LocalFailure) -> bool {
    shortage == LocalFailure::SourcePorts
}

/// Borrows valid UTF-8 and replaces invalid bytes. The common case is valid, and checking it is cheaper than replacing.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
