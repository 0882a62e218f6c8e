//! A request as a snapshot sees it: who its client is, which route it takes, and what its key is.

use std::net::IpAddr;

use http::HeaderMap;

use super::Snapshot;
use crate::affinity;
use crate::client::{self, Client};
use crate::config::{AffinitySource, Strangers, Underscores};
use crate::http1::target::has_nul;
use crate::http1::{HeaderFields, Unwanted, host};

/// The parts of a request that decide where it goes.
#[derive(Debug)]
pub struct RoutingInput<'a, F: ?Sized = HeaderMap> {
    /// The host, empty where none is named.
    pub host: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a F,
    /// The socket's peer.
    pub peer: IpAddr,
    /// The connection came by TLS.
    pub by_tls: bool,
    /// Fingerprint of the certificate that the client presented.
    pub certificate: Option<&'a str>,
}

/// A request that programs could read in more than one way; it is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unclear {
    /// RFC 9112 §3.2. Requests of clients are refused for it by their heads.
    #[error("the Host header does not name a host")]
    Host,
    /// A backend may take the path to end at a zero byte. Requests of clients are refused for it by their heads.
    #[error("the path has a zero byte in it")]
    Nul,
    /// A backend may read the path as one that hooks guard (`Routes::may_evade`).
    #[error("the path can be read in more than one way")]
    Path,
}

impl Unclear {
    /// The reason's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Nul => "target_nul",
            Self::Path => "target_unclear",
        }
    }
}

/// Route, client and key of a request.
#[derive(Debug)]
pub struct RoutedRequest<'s> {
    /// Client that sent the request.
    pub client: Client,
    /// The index of the route, if one matches.
    pub route: Option<usize>,
    /// The ring key, if a source of the route's affinity has one.
    pub key: Option<affinity::Key<'s>>,
}

impl<'a, F: ?Sized> RoutingInput<'a, F> {
    /// The parts that affinity depends on, for a request of `client`.
    pub fn of(&self, client: &Client) -> affinity::AffinityInput<'a, F> {
        affinity::AffinityInput {
            headers: self.headers,
            query: self.query,
            client: client.address,
            certificate: self.certificate,
        }
    }
}

impl Snapshot {
    /// Finds the client, the route and the ring key of a request on a route without hooks. `mint` makes the value of an
    /// issued cookie.
    pub fn locate(
        &self,
        asked: &RoutingInput<'_, impl HeaderFields + ?Sized>,
        mint: impl FnOnce() -> String,
    ) -> RoutedRequest<'_> {
        let (client, route) = self.receive(asked);
        let request = asked.of(&client);
        let key = route.and_then(|route| self.key(route, None, &request, mint));
        RoutedRequest { client, route, key }
    }

    /// Finds the client, and the index of the route that matches, if one does.
    pub fn receive(&self, asked: &RoutingInput<'_, impl HeaderFields + ?Sized>) -> (Client, Option<usize>) {
        let client = Client::of(asked.peer, asked.by_tls, asked.headers, &self.trusted_proxies);
        (client, self.routes.find((!asked.host.is_empty()).then_some(asked.host), asked.path))
    }

    /// The header fields of a request from this peer that backends do not get.
    pub fn unwanted(&self, peer: IpAddr) -> Unwanted {
        let is_stranger = || !client::is_trusted(peer, &self.trusted_proxies);
        Unwanted {
            underscores: self.config.underscores_in_headers == Underscores::Drop,
            origins: self.config.forwarding.strangers == Strangers::Drop && is_stranger(),
        }
    }

    /// The reason to refuse a request whose meaning depends on who reads it; `None` for the others.
    pub fn unclear(&self, asked: &RoutingInput<'_, impl ?Sized>) -> Option<Unclear> {
        if !host::is_valid(asked.host) {
            return Some(Unclear::Host);
        }
        if has_nul(asked.path) {
            return Some(Unclear::Nul);
        }
        let host = (!asked.host.is_empty()).then_some(asked.host);
        let is_guarded = |route: usize| !self.config.routes[route].hooks.is_empty();
        self.routes.may_evade(host, asked.path, is_guarded).then_some(Unclear::Path)
    }

    /// The ring key of a request on the route with this index. Where a hook `chose` another upstream, that one's
    /// affinity counts, unless the route has its own.
    ///
    /// # Panics
    /// [`receive`](Self::receive) of another snapshot gave the index.
    pub fn key(
        &self,
        route: usize,
        chose: Option<&str>,
        request: &affinity::AffinityInput<'_, impl HeaderFields + ?Sized>,
        mint: impl FnOnce() -> String,
    ) -> Option<affinity::Key<'_>> {
        affinity::key(self.sources(route, chose), request, mint)
    }

    /// The affinity sources of a request on the route with this index: the route's own, or those of its upstream or the
    /// one that a hook `chose`.
    ///
    /// # Panics
    /// [`receive`](Self::receive) of another snapshot gave the index.
    pub fn sources(&self, route: usize, chose: Option<&str>) -> &[AffinitySource] {
        let chose = chose.filter(|_| self.config.routes[route].affinity.is_none());
        match chose.and_then(|name| self.destination(name)) {
            Some(to) => &to.upstream.config().affinity,
            None => &self.targets[route].affinity,
        }
    }
}
