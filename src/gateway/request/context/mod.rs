//! The context of one request while it is served.

mod identity;
pub(super) mod tries;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::headers;
use super::hooks::Hooks;
use super::keeping::Keeping;
use crate::admission::RequestCounts;
use crate::affinity;
use crate::client::Client;
use crate::config::{Forwarded, Handshake};
use crate::dial::PassedOn;
use crate::gateway::arrival::Arrival;
use crate::gateway::held::Holds;
use crate::hook::Answer;
use crate::http1::forward::OfOurs;
use crate::http1::framing::Encoded;
use crate::http1::{HeaderFields, RequestRefused};
use crate::metrics::UpstreamRefusal;
use crate::snapshot::{Destination, ListenerPolicy, RoutingInput, Running, Snapshot, Target, Unclear};
use crate::trace::{TRACEPARENT, TraceContext};
use crate::tunnel::UnderWay;
use crate::tunnel::reattach::Asking;
use crate::upstream::{HeldKey, KeyId, PickedBackend, Ring};
pub(super) use identity::{OwnedKey, RequestIdentity};

/// The context of one request. It pins the snapshot that the request began with.
pub struct Ctx {
    pub(in crate::gateway) snapshot: Arc<Snapshot>,
    pub(in crate::gateway) started: Instant,
    /// Known once the request's header has been looked at.
    pub(in crate::gateway) request: Option<RequestIdentity>,
    /// Of a route that has hooks.
    pub(in crate::gateway) hooks: Option<Box<Hooks>>,
    /// State for re-attachment, of a handshake whose route has it.
    pub(in crate::gateway) keeping: Option<Box<Keeping>>,
    /// The backend at work for this request.
    pub(in crate::gateway) pick: Option<PickedBackend>,
    /// When the backend at work was about to be connected to.
    pub(in crate::gateway) connecting: Option<Instant>,
    /// Backends that failed this request, or that hooks vetoed.
    pub(in crate::gateway) tried: Vec<usize>,
    /// Backends of `tried` that were not asked, because they left the configuration while the client waited for them.
    pub(in crate::gateway) passed_over: usize,
    /// Counts the handshake for its key, where the upstream has a limit for that.
    pub(in crate::gateway) held_key: Option<HeldKey>,
    /// The target, where backends are to get another one than Pingora read.
    pub(in crate::gateway) encoded: Option<Box<Encoded>>,
    /// The answer to give instead of a backend's.
    pub(in crate::gateway) answer: Option<Answer>,
    /// The request is refused, because programs could read it in more than one way.
    pub(in crate::gateway) unclear: Option<Unclear>,
    /// Reason for which the request is refused, where no error of Pingora's names it.
    pub(in crate::gateway) refused: Option<RequestRefused>,
    /// Backends that failed after the request was sent to them.
    pub(in crate::gateway) sent: usize,
    /// Reason for which the last backend that was tried failed, or for which none is asked, as logs have it.
    pub(in crate::gateway) failure: Option<String>,
    /// The last failure was a shortage of the gateway's own.
    pub(in crate::gateway) short: bool,
    /// The last failure was that a backend took too long.
    pub(in crate::gateway) timed_out: bool,
    /// Waits for backends that are away, where the upstream has any.
    pub(in crate::gateway) holds: Option<Box<Holds>>,
    /// Counts that the request stands in.
    pub(in crate::gateway) admitted: RequestCounts,
    /// The connection is a tunnel now and logged by its worker; Pingora's session is an empty shell.
    pub(in crate::gateway) taken_over: bool,
    under_way: UnderWay,
}

impl Ctx {
    pub(in crate::gateway) fn new(running: &Running) -> Self {
        Self {
            snapshot: running.snapshot(),
            started: Instant::now(),
            request: None,
            hooks: None,
            keeping: None,
            pick: None,
            connecting: None,
            tried: Vec::new(),
            passed_over: 0,
            held_key: None,
            encoded: None,
            answer: None,
            unclear: None,
            refused: None,
            sent: 0,
            failure: None,
            short: false,
            timed_out: false,
            holds: None,
            admitted: RequestCounts::default(),
            taken_over: false,
            under_way: running.request(),
        }
    }

    /// A context for the next backend of a tunnel that is held, and the upstream that it is to be one of; `None` where
    /// the tunnel's route or upstream is gone. Hooks are not asked.
    pub(in crate::gateway) fn again(running: &Running, asking: &Asking) -> Option<(Self, Arc<Destination>)> {
        let mut ctx = Self::new(running);
        let route = ctx.snapshot.index_of_route(&asking.route)?;
        let to = match &asking.upstream {
            Some(name) => ctx.snapshot.destination(name)?,
            None => &ctx.snapshot.target(route).to,
        };
        let to = Arc::clone(to);
        let key = asking.kept.key.clone().zip(asking.key_source);
        let client = Client { address: asking.client, secure: false, via_trusted: false };
        ctx.request = Some(RequestIdentity {
            id: asking.request_id.to_string(),
            client,
            arrival: Arrival::plain(asking.peer, 0),
            method: Method::GET,
            host: String::new(),
            path: String::new(),
            route: Some(route),
            key: key.map(|(bytes, source)| OwnedKey { bytes, source, set_cookie: None }),
            trace: None,
            writes_forwarded: false,
        });
        Some((ctx, to))
    }

    /// Looks at a request's header: who asks, for which route, and with which key if the route has no hooks.
    pub(in crate::gateway) fn describe(&mut self, session: &Session, arrival: &Arrival) {
        let header = session.req_header();
        let host = headers::host(header).map(text).unwrap_or_default();
        let asked = arrival.asked(&host, header.uri.path(), header.uri.query(), &header.headers);
        self.describe_as(&asked, arrival, header.method.clone());
    }

    /// Looks at what is asked for, as [`describe`](Self::describe) does.
    pub(in crate::gateway) fn describe_as(
        &mut self,
        asked: &RoutingInput<'_, impl HeaderFields + ?Sized>,
        arrival: &Arrival,
        method: Method,
    ) {
        let (client, route) = self.snapshot.receive(asked);
        self.unclear = self.snapshot.unclear(asked);
        self.hooks = route.and_then(|route| Hooks::of(&self.snapshot.target(route).hooks));
        let source = asked.of(&client);
        let key = route.filter(|_| self.hooks.is_none());
        let key = key.and_then(|route| self.snapshot.key(route, None, &source, affinity::mint));
        let key = key.map(|key| OwnedKey::of(key, &client));
        let id = headers::request_id(asked.headers);
        let (host, path) = (asked.host.to_owned(), asked.path.to_owned());
        let writes_forwarded = self.snapshot.config.forwarding.forwarded == Forwarded::Write;
        let tracing = self.snapshot.config.tracing.as_ref();
        let came = || asked.headers.values_of(&TRACEPARENT);
        let trace = tracing.map(|tracing| TraceContext::of(came(), client.via_trusted, tracing.sample));
        let arrival = arrival.clone();
        self.request =
            Some(RequestIdentity { id, client, arrival, method, host, path, route, key, trace, writes_forwarded });
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

    /// The gateway's own fields of the client's 101, with this `set_cookie`.
    pub(in crate::gateway) fn of_ours<'a>(&'a self, set_cookie: Option<&'a str>) -> OfOurs<'a> {
        OfOurs { set_cookie, hsts: self.hsts(), id: self.id() }
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
        let sent = || self.hooks.as_ref().and_then(|hooks| hooks.to());
        let renewed = self.holds.as_ref().and_then(|holds| holds.renewed.as_ref());
        renewed.or_else(sent).or_else(|| self.target().map(|target| &target.to))
    }

    /// Tells if neither the route names an upstream nor a hook chose one.
    pub(in crate::gateway) fn leads_nowhere(&self) -> bool {
        self.to().is_some_and(|to| to.upstream.config().is_nowhere())
    }

    /// The upstream of [`to`](Self::to), to keep while the context changes.
    pub(in crate::gateway) fn destination(&self) -> Option<Arc<Destination>> {
        self.to().cloned()
    }

    /// Tells if clients of the request's route may break rules of the handshake.
    pub(in crate::gateway) fn is_lenient(&self) -> bool {
        self.target().is_some_and(|target| target.handshake == Handshake::Lenient)
    }

    /// Source of the key; `None` where there is none.
    pub(in crate::gateway) fn key_source(&self) -> Option<affinity::KeySource> {
        Some(self.request.as_ref()?.key.as_ref()?.source)
    }

    /// The ring key, if the request has one.
    pub(in crate::gateway) fn key(&self) -> Option<&[u8]> {
        self.request.as_ref().and_then(|request| request.key.as_ref()).map(|key| key.bytes.as_slice())
    }

    /// Counts the handshake for its key, where the upstream limits the tunnels of one; the error is the answer to give
    /// where the key has as many as it may.
    pub(in crate::gateway) fn hold_key(&mut self, to: &Destination) -> Result<(), Answer> {
        let key = self.request.as_ref().and_then(|request| request.key.as_ref());
        let (Some(most), Some(key)) = (to.upstream.config().limits.per_key, key) else { return Ok(()) };
        let id = KeyId::new(Ring::hash(&key.bytes), &key.digest().to_string());
        self.held_key = HeldKey::within(to.upstream.admission(), id, most);
        if self.held_key.is_none() {
            self.not_admitted(to, UpstreamRefusal::PerKey);
            return Err(Answer::key_is_full());
        }
        Ok(())
    }

    /// Notes the answer to give, and makes the error that has Pingora end the request.
    pub(in crate::gateway) fn fail_with(&mut self, answer: Answer) -> Box<Error> {
        let error = Error::new(ErrorType::HTTPStatus(answer.status().as_u16()));
        self.answer = Some(answer);
        error
    }
}

/// Borrows valid UTF-8 and replaces invalid bytes. The common case is valid, and checking it is cheaper than replacing.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
