//! The route, key and backend that a request would get, by a configuration alone or by a running gateway.

use std::net::IpAddr;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::affinity::{Digest, Key};
use crate::snapshot::{self, GatewayPhase, RoutingInput, Snapshot};
use crate::upstream::{KeyId, Ring, Upstream};

/// A request to be located.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateAsked {
    /// Address that the connection comes from.
    pub ip: IpAddr,
    /// Host that is asked for; empty for none.
    #[serde(default)]
    pub host: String,
    /// Path that is asked for, with its query if it has one.
    #[serde(default = "root")]
    pub path: String,
    /// Header fields, each a name and a value.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client comes by TLS.
    #[serde(default)]
    pub tls: bool,
    /// SHA-256 of the certificate that the client presents, in hexadecimal digits.
    #[serde(default)]
    pub certificate: Option<String>,
}

/// Fault of a request to be located.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The path is none.
    #[error("`{0}` is no path: a path begins with /")]
    Path(String),
    /// A header field that no request can have.
    #[error("no request has a header field `{0}` with this value")]
    Header(String),
}

/// The way of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The client's address, as far as it is believed.
    pub client: Option<IpAddr>,
    /// Reason for which the request is answered 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The route, as `host path`; `null` where none matches, and the answer is 404.
    pub route: Option<String>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// The affinity key.
    pub key: Option<String>,
    /// Source of the key, or `none`.
    pub key_source: Option<String>,
    /// The backend, by its name, with its address where that is another text: by a running gateway the one that the
    /// request would get now, by a configuration the first on the ring.
    pub backend: Option<String>,
    /// The other backends in the order in which the key tries them.
    pub then: Option<Vec<String>>,
    /// Names of the route's hooks, which may change the rest of the answer.
    pub hooks: Option<Vec<String>>,
    /// Reason for which there is no key.
    pub note: Option<String>,
    /// State of the backends, by a running gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// Answer of a running gateway's live state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Number of the configuration in force.
    pub generation: u64,
    /// Rule that chose the backend, or `drawn` where chance will; `null` where there is none to choose, and the answer
    /// is 503.
    pub picked: Option<String>,
    /// Reason for which a WebSocket handshake does not get the backend at once, while a plain request does:
    /// `key_full` (answered 429), `full` (answered 503) or `waits` (in the admission queue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// The backend that a request waits for at first, because it is away (`absent`); `null` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Phase of the gateway where it drains: `grace` (it still accepts) or `closing` (it does not).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<String>,
    /// The backends, in the order of the ring for a key, else in that of the configuration.
    pub backends: Vec<LiveBackend>,
}

/// State of a backend, for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveBackend {
    /// Its name, with its address where that is another text.
    pub backend: String,
    /// Reason for which a request does not get it now: `no_weight`, `absent`, `down`, `draining`, `leaving`,
    /// `ejected` or `full`.
    pub hindrance: Option<String>,
    /// Its open tunnels.
    pub tunnels: usize,
}

impl LocateAsked {
    /// Locates the request by a configuration: as if every backend were up and free.
    ///
    /// # Errors
    /// [`LocateError`]
    pub fn by_configuration(&self, snapshot: &Snapshot) -> Result<Located, LocateError> {
        self.located(snapshot, |_, _| None)
    }

    /// Locates the request by the live state of a running gateway, and counts nothing.
    ///
    /// # Errors
    /// [`LocateError`]
    pub fn now(&self, snapshot: &Snapshot, phase: GatewayPhase) -> Result<Located, LocateError> {
        let draining = match phase {
            GatewayPhase::Serving => None,
            GatewayPhase::Grace => Some("grace".to_owned()),
            GatewayPhase::Closing => Some("closing".to_owned()),
        };
        self.located(snapshot, |upstream, key| {
            let (backend, live) = live(snapshot.generation, upstream, key);
            Some((backend, Live { draining: draining.clone(), ..live }))
        })
    }

    fn located(
        &self,
        snapshot: &Snapshot,
        look: impl Fn(&Upstream, Option<&[u8]>) -> Option<(Option<String>, Live)>,
    ) -> Result<Located, LocateError> {
        let headers = self.header_map()?;
        if !self.path.starts_with('/') {
            return Err(LocateError::Path(self.path.clone()));
        }
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let certificate = self.certificate.as_deref();
        let (by_tls, host) = (self.tls || certificate.is_some(), &*self.host);
        let asked = RoutingInput { host, path, query, headers: &headers, peer: self.ip, by_tls, certificate };
        // The value of a minted cookie is random, so that its backend is not known beforehand.
        let found = snapshot.locate(&asked, String::new);
        let client = Some(found.client.address);
        if let Some(unclear) = snapshot.unclear(&asked) {
            return Ok(Located { client, refused: Some(unclear.to_string()), ..Located::default() });
        }
        let none = Located { client, ..Located::default() };
        Ok(found.route.map_or(none, |route| way(snapshot, route, &found, look)))
    }

    fn header_map(&self) -> Result<HeaderMap, LocateError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || LocateError::Header(name.clone());
            let field = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
            headers.append(field, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
        }
        Ok(headers)
    }
}

/// Locates a request on the route with this index. `look` tells the live state of an upstream for a key.
fn way(
    snapshot: &Snapshot,
    route: usize,
    found: &snapshot::RoutedRequest<'_>,
    look: impl Fn(&Upstream, Option<&[u8]>) -> Option<(Option<String>, Live)>,
) -> Located {
    let target = snapshot.target(route);
    let upstream = &target.to.upstream;
    let (key, note) = known(found.key.as_ref());
    let bytes = found.key.as_ref().filter(|_| key.is_some()).map(|key| &*key.bytes);
    let order = bytes.map_or_else(Vec::new, |key| upstream.order(key)).into_iter();
    let mut then: Vec<_> = order.map(|index| upstream.members()[index].to_string()).collect();
    let (backend, live) = match look(upstream, bytes) {
        None => (then.first().cloned(), None),
        // A key that is drawn leads anywhere.
        Some((_, live)) if found.key.is_some() && key.is_none() => {
            (None, Some(Live { picked: live.picked.map(|_| "drawn".to_owned()), ..live }))
        }
        Some((backend, live)) => (backend, Some(live)),
    };
    then.retain(|other| Some(other) != backend.as_ref());
    Located {
        client: Some(found.client.address),
        refused: None,
        route: Some((*target.route).to_owned()),
        upstream: Some(upstream.config().name.clone()),
        key,
        key_source: Some(found.key.as_ref().map_or("none", |key| key.source.as_str()).to_owned()),
        backend,
        then: Some(then),
        hooks: Some(snapshot.config.routes[route].hooks.iter().map(|entry| entry.name.clone()).collect()),
        note: note.map(str::to_owned),
        live,
    }
}

/// The key as text, or the reason for which it is not known beforehand.
fn known(key: Option<&Key<'_>>) -> (Option<String>, Option<&'static str>) {
    match key {
        None => (None, Some(LEAST_LOADED)),
        Some(key) if key.issued.is_some() => (None, Some(MINTED)),
        // An empty text stands for one that is drawn; no source gives one.
        Some(key) if key.bytes.is_empty() => (None, Some(DRAWN)),
        Some(key) => (Some(String::from_utf8_lossy(&key.bytes).into_owned()), None),
    }
}

fn live(generation: u64, upstream: &Upstream, key: Option<&[u8]>) -> (Option<String>, Live) {
    let order = key.map_or_else(|| (0..upstream.members().len()).collect(), |key| upstream.order(key));
    let backend = |index: usize| LiveBackend {
        backend: upstream.members()[index].to_string(),
        hindrance: upstream.hindrance(index).map(|why| why.as_str().to_owned()),
        tunnels: upstream.states()[index].tunnels(),
    };
    let pick = upstream.preview(key);
    let id = key.map(|key| KeyId::new(Ring::hash(key), &Digest::of(key).to_string()));
    let live = Live {
        generation,
        picked: pick.map(|(_, how)| how.as_str().to_owned()),
        handshake: upstream.obstacle(key, id).map(|why| why.as_str().to_owned()),
        waits_for: upstream.awaited(key, &[], Instant::now()).map(|index| upstream.members()[index].to_string()),
        draining: None,
        backends: order.into_iter().map(backend).collect(),
    };
    (pick.map(|(index, _)| upstream.members()[index].to_string()), live)
}

fn root() -> String {
    "/".to_owned()
}

const LEAST_LOADED: &str = "no source has a value; the backend with the fewest open tunnels and requests is taken";
const DRAWN: &str = "no source has a value; a key is drawn, and goes before the session that the backend begins";
const MINTED: &str = "the client has no cookie yet; a new one is issued, and its random value decides";
