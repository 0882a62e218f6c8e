//! A request as hooks see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Uri, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::error::{Error, Result};
use super::injector::Injector;
use super::response;
use crate::config::TunnelLimits;
use crate::http1::fields::reads_as;
use crate::tls::ClientCertificate;

/// A request, upgrades too, before its backend is chosen.
///
/// The rest of the gateway goes by the request as hooks left it: the backend gets its headers and target, and a header
/// or query argument that the route's `affinity` names gives the key as changed. The route stays.
pub struct Request<'r> {
    head: Head<'r>,
    facts: Facts<'r>,
    chosen: Chosen,
}

/// Facts about a request beside its header.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// The request's id, which the backend and the client get as `X-Request-Id`.
    pub id: &'r str,
    /// The client's address, by `trusted_proxies`.
    pub client: IpAddr,
    /// The socket's peer: the client or the proxy before it.
    pub peer: SocketAddr,
    /// The host that was asked for, empty where none was named.
    pub host: &'r str,
    /// The route, as `host path`.
    pub route: &'r str,
    /// The upstream that the route leads to.
    pub upstream: &'r str,
    /// The request is a WebSocket upgrade.
    pub upgrade: bool,
    /// The client came by TLS, by `trusted_proxies`.
    pub secure: bool,
    /// The certificate that the client presented to this gateway.
    pub certificate: Option<&'r ClientCertificate>,
    /// Sends messages into open tunnels.
    pub injector: &'r Injector,
}

enum Head<'r> {
    Session(&'r mut Session),
    Bare(&'r mut RequestHeader),
}

/// Decisions of hooks about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) upstream: Option<String>,
    /// The hook that chose the upstream.
    pub(crate) upstream_by: Option<Arc<str>>,
}

/// Next step of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// Goes on to the next hook, and then to a backend.
    Continue,
    /// Ends here, with this answer.
    Answer(Answer),
}

impl From<Answer> for Next {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl<'r> Request<'r> {
    /// A request of which hooks have `chosen` this much before.
    pub(crate) fn of_session(session: &'r mut Session, facts: Facts<'r>, chosen: Chosen) -> Self {
        Self { head: Head::Session(session), facts, chosen }
    }

    /// A request without a connection: for tests of hooks, by [`testing`](super::testing).
    #[doc(hidden)]
    pub fn bare(header: &'r mut RequestHeader, facts: Facts<'r>) -> Self {
        Self { head: Head::Bare(header), facts, chosen: Chosen::default() }
    }

    fn head(&self) -> &RequestHeader {
        match &self.head {
            Head::Session(session) => session.req_header(),
            Head::Bare(header) => header,
        }
    }

    fn head_mut(&mut self) -> &mut RequestHeader {
        match &mut self.head {
            Head::Session(session) => session.req_header_mut(),
            Head::Bare(header) => header,
        }
    }

    /// The request's id, which the backend and the client get as `X-Request-Id`.
    pub fn id(&self) -> &'r str {
        self.facts.id
    }

    /// The client's address, by `trusted_proxies`.
    pub fn client(&self) -> IpAddr {
        self.facts.client
    }

    /// The socket's peer: the client or the proxy before it.
    pub fn peer(&self) -> SocketAddr {
        self.facts.peer
    }

    /// The host that was asked for, empty where none was named.
    pub fn host(&self) -> &'r str {
        self.facts.host
    }

    /// The route, as `host path`.
    pub fn route(&self) -> &'r str {
        self.facts.route
    }

    /// The upstream that the request goes to as things stand.
    pub fn upstream(&self) -> &str {
        self.chosen.upstream.as_deref().unwrap_or(self.facts.upstream)
    }

    /// Returns true for a WebSocket upgrade.
    pub fn is_upgrade(&self) -> bool {
        self.facts.upgrade
    }

    /// Returns true for a client that came by TLS: as a trusted proxy says, and where none says anything, as it was
    /// here.
    pub fn is_secure(&self) -> bool {
        self.facts.secure
    }

    /// The certificate that the client presented to this gateway, verified by the listener's `client_auth`.
    pub fn client_certificate(&self) -> Option<&'r ClientCertificate> {
        self.facts.certificate
    }

    /// Sends messages into open tunnels, and ends them. The request's own tunnel is not open yet.
    pub fn injector(&self) -> &'r Injector {
        self.facts.injector
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head().method
    }

    /// The request target.
    pub fn uri(&self) -> &Uri {
        &self.head().uri
    }

    /// The path, not decoded.
    pub fn path(&self) -> &str {
        self.uri().path()
    }

    /// The first value of a query argument, decoded (percent signs and `+`).
    pub fn query_value(&self, name: &str) -> Option<String> {
        let query = self.uri().query()?;
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head().headers
    }

    /// The first value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The value of a cookie, as sent.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers().get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Sets a header, in place of all of its name, and of those that differ from it by `_` in place of `-`: programs
    /// behind CGI, WSGI and PHP take one for the other.
    ///
    /// # Errors
    /// HTTP does not allow the name or the value, or the header frames the body.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = response::header(name, value.as_ref())?;
        self.remove_doubles(&name);
        Ok(self.head_mut().insert_header(name, value)?)
    }

    /// Adds a header beside those of its name.
    ///
    /// # Errors
    /// HTTP does not allow the name or the value, or the header frames the body.
    pub fn append_header(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = response::header(name, value.as_ref())?;
        self.head_mut().append_header(name, value)?;
        Ok(())
    }

    /// Removes every header of a name, and of those that differ from it by `_` in place of `-`, except those that frame
    /// the body.
    pub fn remove_header(&mut self, name: &str) {
        if let Ok(name) = name.parse::<HeaderName>()
            && !response::frames_body(name.as_str())
        {
            self.remove_doubles(&name);
            self.head_mut().remove_header(&name);
        }
    }

    /// Removes headers that a backend may take for one of this name, where `underscores_in_headers` keeps them.
    fn remove_doubles(&mut self, name: &HeaderName) {
        let is_double = |other: &HeaderName| other != name && reads_as(other.as_str(), name.as_str());
        let doubles: Vec<HeaderName> = self.headers().keys().filter(|other| is_double(other)).cloned().collect();
        for double in doubles.iter().filter(|double| !response::frames_body(double.as_str())) {
            self.head_mut().remove_header(double);
        }
    }

    /// Changes the request target: a path beginning with `/`, and optionally a query.
    ///
    /// # Errors
    /// `path_and_query` does not begin with `/`, or is no request target.
    pub fn set_target(&mut self, path_and_query: &str) -> Result<()> {
        if !path_and_query.starts_with('/') {
            return Err(Error::new(format!("the request target {path_and_query:?} does not begin with `/`")));
        }
        let uri: Uri = path_and_query.parse()?;
        self.head_mut().set_uri(uri);
        Ok(())
    }

    /// Gives the affinity key, in place of the one that the route's `affinity` would find. An empty one takes back what
    /// a hook before gave.
    pub fn set_key(&mut self, key: impl Into<Vec<u8>>) {
        self.chosen.key = Some(key.into()).filter(|key| !key.is_empty());
    }

    /// Chooses another upstream of the configuration; one that is not there is answered 500. The key is found by that
    /// upstream's `affinity`, unless the route has its own or a hook gave the key. A tunnel stays there as long as that
    /// upstream and its backend are in the configuration, wherever a reload has the route lead.
    pub fn set_upstream(&mut self, name: impl Into<String>) {
        self.chosen.upstream = Some(name.into());
        self.chosen.upstream_by = None;
    }

    /// Pingora's session, for needs that this type does not cover; `None` in tests without a connection. The gateway
    /// shares its protocol state: reading the body takes it from the backend, and nothing may be written but by an
    /// [`Answer`].
    pub fn session(&mut self) -> Option<&mut Session> {
        match &mut self.head {
            Head::Session(session) => Some(session),
            Head::Bare(_) => None,
        }
    }

    /// Notes the hook that was just called, in case it chose an upstream.
    pub(super) fn called(&mut self, hook: &Arc<str>) {
        let Chosen { upstream, upstream_by, .. } = &mut self.chosen;
        if upstream.is_some() && upstream_by.is_none() {
            *upstream_by = Some(Arc::clone(hook));
        }
    }

    pub(crate) fn into_chosen(self) -> Chosen {
        self.chosen
    }
}

/// A WebSocket upgrade, before its backend is chosen.
#[non_exhaustive]
pub struct Upgrade<'r> {
    /// The request; what is changed here counts as in [`Hook::on_request`](super::Hook::on_request).
    pub request: Request<'r>,
    /// The limits that the tunnel is to live under; those of its upstream, unless a hook changes them.
    ///
    /// A time is a millisecond at least and at most as long as the configuration file may make it (`idle` and
    /// `max_age`: a year, `ping`: a day, `tcp_user_timeout`: an hour); `None` is no limit. Anything else is a failure
    /// of the hook: the upgrade is answered 500.
    pub limits: TunnelLimits,
}

impl Upgrade<'_> {
    /// The subprotocols that the client offers (`Sec-WebSocket-Protocol`), in its order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        let lines = self.request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
    }

    /// The origin of the page that opens the connection, where a browser does.
    pub fn origin(&self) -> Option<&str> {
        self.request.header("origin")
    }
}

/// A backend that was picked for a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Backend<'b> {
    /// The upstream's name.
    pub upstream: &'b str,
    /// The backend's name; its address as text where the configuration gives it none.
    pub name: &'b str,
    /// The backend's address.
    pub address: SocketAddr,
    /// Number of tunnels open to it.
    pub tunnels: usize,
    /// Number of backends tried for this request before, vetoed ones included.
    pub tries: usize,
}

/// Decision about a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The backend is connected to.
    Accept,
    /// Another backend is to be picked; this one's health is not touched.
    Veto,
}
