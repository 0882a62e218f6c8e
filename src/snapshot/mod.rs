//! The snapshot: one compiled configuration, immutable, that a request pins and a reload replaces as a whole.

mod away;
mod listener;
mod phase;
mod running;
mod saved;
mod upstream_layers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use ipnet::IpNet;
use log::{info, warn};

use crate::affinity;
use crate::client::{self, Client};
use crate::config::{self, AffinitySource, Compression, Config, OnDown, Problems, Route, Strangers, Underscores};
use crate::dial::{Dialer, Layers};
use crate::hook::{Chain, Injector, Registry as Hooks};
use crate::http1::Unwanted;
use crate::metrics::{BackendReading, Metrics, UpstreamMetrics};
use crate::route::{Routes, host};
use crate::tls::server::Server;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::{Reason, Scope, Tunnels};
use crate::upstream::{Blame, Change, FailedRequest, FailedTry, FailureKind, Registry, Upstream};

pub use listener::ListenerPolicy;
pub use phase::{Phase, Phases};
pub use running::{Running, TunnelPolicy, Turn};
pub use saved::SavedHooks;

/// One compiled configuration.
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// Networks of the proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Configuration that the snapshot was compiled from.
    pub config: Config,
    routes: Routes,
    /// In the order of the configuration's routes.
    targets: Vec<Target>,
    /// Indices of `targets`.
    by_name: HashMap<Arc<str>, usize>,
    destinations: Vec<Arc<Destination>>,
    /// In the order of the configuration's listeners.
    listeners: Vec<Arc<ListenerPolicy>>,
}

/// A compiled route.
pub struct Target {
    /// The route, as `host path`.
    pub route: Arc<str>,
    /// The route's own affinity, or its upstream's.
    pub affinity: Vec<AffinitySource>,
    /// The upstream.
    pub to: Arc<Destination>,
    /// The route's hooks.
    pub hooks: Arc<Chain>,
    /// Treatment of compression on tunnels whose messages hooks see.
    pub compression: Compression,
    /// Rules that clients' handshakes have to keep.
    pub handshake: config::Handshake,
}

/// A compiled upstream with what is counted for it.
pub struct Destination {
    /// Backends, ring and policy.
    pub upstream: Upstream,
    /// The layers between TCP and HTTP.
    pub layers: Layers,
    /// Counters of the upstream.
    pub metrics: Arc<UpstreamMetrics>,
}

/// The parts of a request that decide where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host, empty where none is named.
    pub host: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
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
    /// RFC 9112 §3.2.
    #[error("the Host header does not name a host")]
    Host,
    /// A backend may read the path as one that hooks guard ([`Routes::may_evade`]).
    #[error("the path can be read in more than one way")]
    Path,
}

/// Route, client and key of a request.
#[derive(Debug)]
pub struct Located<'s> {
    /// Client that sent the request.
    pub client: Client,
    /// The index of the route, if one matches.
    pub route: Option<usize>,
    /// The ring key, if a source of the route's affinity has one.
    pub key: Option<affinity::Key<'s>>,
}

impl<'a> Asked<'a> {
    /// The parts that affinity depends on, for a request of `client`.
    pub fn of(&self, client: &Client) -> affinity::Request<'a> {
        affinity::Request {
            headers: self.headers,
            query: self.query,
            client: client.address,
            certificate: self.certificate,
        }
    }
}

impl Snapshot {
    /// Compiles a configuration; live state of backends that `registry` knows is kept.
    pub fn compile(config: &Config, generation: u64, registry: &Registry, metrics: &Metrics) -> Self {
        Self::compile_with(config, generation, |upstream| Destination::compile(upstream, registry, metrics))
    }

    /// Compiles the configuration that follows this one. Upstreams that mean the same are taken over as they are.
    #[must_use]
    pub fn successor(&self, config: &Config, registry: &Registry, metrics: &Metrics) -> Self {
        let before: HashMap<_, _> =
            self.destinations.iter().map(|to| (to.upstream.config().name.as_str(), to)).collect();
        Self::compile_with(config, self.generation + 1, |upstream| match before.get(upstream.name.as_str()) {
            Some(same) if same.upstream.config() == upstream => Arc::clone(same),
            _ => Destination::compile(upstream, registry, metrics),
        })
    }

    fn compile_with(config: &Config, generation: u64, compile: impl Fn(&config::Upstream) -> Arc<Destination>) -> Self {
        let destinations: Vec<_> = config.upstreams.iter().map(compile).collect();
        let by_name: HashMap<_, _> = destinations.iter().map(|to| (to.upstream.config().name.as_str(), to)).collect();
        let no_hooks = Arc::new(Chain::empty());
        let target = |route: &Route| {
            let to = Arc::clone(by_name.get(route.upstream.as_str()).expect("the configuration's names are resolved"));
            let affinity = route.affinity.clone().unwrap_or_else(|| to.upstream.config().affinity.clone());
            Target {
                route: route.name().into(),
                affinity,
                to,
                hooks: Arc::clone(&no_hooks),
                compression: route.compression,
                handshake: route.handshake,
            }
        };
        let targets: Vec<_> = config.routes.iter().map(target).collect();
        Self {
            generation,
            trusted_proxies: config.trusted_proxies.clone(),
            config: config.clone(),
            routes: Routes::compile(&config.routes),
            by_name: targets.iter().enumerate().map(|(index, target)| (Arc::clone(&target.route), index)).collect(),
            targets,
            destinations,
            listeners: Vec::new(),
        }
    }

    /// Makes the hooks that the routes name; a snapshot has none before. Each is given the hook of the same name that
    /// the same route had in `before`.
    ///
    /// # Errors
    /// Every problem that the hooks found with their settings.
    pub fn make_hooks(&mut self, hooks: &Hooks, before: Option<&Self>, metrics: &Metrics) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (target, route) in self.targets.iter_mut().zip(&self.config.routes) {
            let previous = before.and_then(|before| before.route_named(&target.route)).map(|target| &*target.hooks);
            match Chain::build(&route.hooks, &target.route, hooks, previous, |name| metrics.hook(name)) {
                Ok(chain) if chain.is_empty() => {}
                Ok(chain) => target.hooks = Arc::new(chain),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// Makes the listeners, with the files that they name; a snapshot has none before. A listener that means the same
    /// in `before` is taken over as it is. `keys` seal the tickets of listeners without a file of keys.
    ///
    /// # Errors
    /// Every problem with the files.
    pub fn make_listeners(&mut self, before: Option<&Self>, keys: &Arc<TicketKeys>) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (number, config) in self.config.listeners.iter().enumerate() {
            let same = before.and_then(|before| before.listener(number)).filter(|same| same.config == *config);
            match same.map_or_else(|| ListenerPolicy::compile(config, number, keys).map(Arc::new), Ok) {
                Ok(listener) => self.listeners.push(listener),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// The listener with this place in the configuration.
    pub fn listener(&self, number: usize) -> Option<Arc<ListenerPolicy>> {
        self.listeners.get(number).cloned()
    }

    /// The name and the end of every certificate in use, the end in seconds since 1970.
    pub fn certificates(&self) -> impl Iterator<Item = (String, u64)> {
        let all = self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(Server::certificates);
        all.map(|certificate| {
            let end = certificate.not_after.duration_since(SystemTime::UNIX_EPOCH);
            (certificate.label(), end.map_or(0, |end| end.as_secs()))
        })
    }

    /// Every listener.
    pub fn listeners(&self) -> &[Arc<ListenerPolicy>] {
        &self.listeners
    }

    /// Tells the hooks that they are in force.
    pub fn start_hooks(&self, injector: &Injector) {
        self.targets.iter().for_each(|target| target.hooks.start(injector));
    }

    /// Finds the client, the route and the ring key of a request on a route without hooks. `mint` makes the value of an
    /// issued cookie.
    pub fn locate(&self, asked: &Asked<'_>, mint: impl FnOnce() -> String) -> Located<'_> {
        let (client, route) = self.receive(asked);
        let request = asked.of(&client);
        let key = route.and_then(|route| self.key(route, None, &request, mint));
        Located { client, route, key }
    }

    /// Finds the client, and the index of the route that matches, if one does.
    pub fn receive(&self, asked: &Asked<'_>) -> (Client, Option<usize>) {
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
    pub fn unclear(&self, asked: &Asked<'_>) -> Option<Unclear> {
        if !host::is_valid(asked.host) {
            return Some(Unclear::Host);
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
        request: &affinity::Request<'_>,
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

    /// The route with this index.
    ///
    /// # Panics
    /// [`locate`](Self::locate) of another snapshot gave the index.
    pub fn target(&self, route: usize) -> &Target {
        &self.targets[route]
    }

    /// The route with this name (`host path`), if there is one.
    pub fn route_named(&self, name: &str) -> Option<&Target> {
        self.by_name.get(name).map(|&index| &self.targets[index])
    }

    /// The upstream with this name, if there is one.
    pub fn destination(&self, name: &str) -> Option<&Arc<Destination>> {
        self.destinations.iter().find(|to| to.upstream.config().name == name)
    }

    /// Begins connections to backends as the configuration asks for.
    pub fn dialer(&self) -> Dialer {
        let pingora = &self.config.pingora;
        Dialer::from_addresses(&pingora.client_bind_to_ipv4, &pingora.client_bind_to_ipv6)
    }

    /// Every upstream.
    pub fn destinations(&self) -> &[Arc<Destination>] {
        &self.destinations
    }

    /// State of every backend now, for a scrape.
    pub fn readings(&self) -> impl Iterator<Item = BackendReading<'_>> {
        self.destinations.iter().flat_map(|to| {
            to.upstream.states().iter().enumerate().map(|(index, state)| BackendReading {
                upstream: state.upstream(),
                backend: state.address().to_string(),
                up: to.upstream.is_up(index),
                draining: state.is_draining(),
                ejected: state.is_ejected(),
                tunnels: state.tunnels() as u64,
                load: state.load() as u64,
            })
        })
    }
}

impl Destination {
    fn compile(upstream: &config::Upstream, registry: &Registry, metrics: &Metrics) -> Arc<Self> {
        let (layers, metrics) = (upstream_layers::of(upstream), metrics.upstream(&upstream.name));
        Arc::new(Self { upstream: Upstream::compile(upstream, registry), layers, metrics })
    }

    /// Charges a failed try at the backend with this index to the party it is blamed on. A backend that is charged is
    /// checked before its next check is due.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn try_failed(&self, index: usize, failed: &FailedTry<'_>) {
        let kind = match failed.blame {
            Blame::Backend(kind) => kind,
            Blame::Gateway(failure) => return self.metrics.local_failure(failure),
            Blame::Client => return,
        };
        self.metrics.backend_failure(kind.as_str());
        let reason = format!("{} of real traffic failed: {}", kind.as_str(), failed.reason);
        let change = match kind {
            FailureKind::Connect => self.upstream.connect_failed(index, &reason),
            FailureKind::Handshake | FailureKind::Request => {
                let request = FailedRequest { network: failed.client.into(), on_trial: failed.on_trial };
                self.upstream.request_failed(index, request, &reason, Instant::now())
            }
        };
        self.upstream.states()[index].check_wanted().notify_one();
        self.log_change(index, change.as_ref());
    }

    /// Notes that the backend with this index answered a request of `client` as it should.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn try_succeeded(&self, index: usize, client: IpAddr) {
        let change = self.upstream.traffic_succeeded(index, client.into(), Instant::now);
        self.log_change(index, change.as_ref());
    }

    /// Notes the outcome of an active check, which alone decides about open tunnels: with `on_down: close` they are
    /// ended when checks take the backend down, and those that have not been told yet are spared when checks bring it
    /// back.
    pub fn checked(&self, index: usize, outcome: Result<(), String>, tunnels: &Tunnels) {
        let config = self.upstream.config();
        let Some(health) = &config.health else { return };
        let state = &self.upstream.states()[index];
        let change = match outcome {
            Ok(()) => state.check_passed(health.into(), "checks pass", Instant::now()),
            Err(reason) => state.check_failed(health.into(), &format!("check failed: {reason}")),
        };
        self.log_change(index, change.as_ref());
        if health.on_down != OnDown::Close {
            return;
        }
        let scope = Scope::Backend(Arc::clone(state));
        match change {
            Some(Change::Down { .. } | Change::Confirmed { .. }) => {
                tunnels.end(&scope, Reason::BackendDown, config.drain_window);
            }
            Some(Change::Up { .. }) => tunnels.spare(&scope, Reason::BackendDown),
            Some(Change::Ejected { .. } | Change::Returned) | None => {}
        }
    }

    /// Logs and counts a turn of a backend's health.
    fn log_change(&self, index: usize, change: Option<&Change>) {
        let Some(change) = change else { return };
        let state = &self.upstream.states()[index];
        let backend = format_args!("{}/{}", state.upstream(), state.address());
        match change {
            Change::Up { reason } => {
                info!("backend {backend} is up: {reason}");
                self.metrics.health_change(true);
            }
            Change::Down { reason, .. } => {
                warn!("backend {backend} is down: {reason}");
                self.metrics.health_change(false);
            }
            Change::Confirmed { reason } => info!("backend {backend} is down by checks too: {reason}"),
            Change::Ejected { reason, length } => {
                let length = humantime::format_duration(*length);
                warn!("backend {backend} is ejected for {length}: {reason}");
                self.metrics.ejections.inc();
            }
            Change::Returned => info!("backend {backend} is no longer ejected: a request on trial succeeded"),
        }
    }

    /// Time after which a client that found no backend up may try again: checks notice a backend that returns within
    /// one interval.
    pub fn retry_after(&self) -> Duration {
        self.upstream.config().health.as_ref().map_or(Duration::from_secs(1), |health| health.interval)
    }
}
