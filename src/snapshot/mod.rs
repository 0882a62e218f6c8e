//! The snapshot: one compiled configuration, immutable, that a request pins and a reload replaces as a whole.

mod away;
mod destination;
mod listener;
mod phase;
mod readings;
mod routing;
mod running;
mod saved;
mod upstream_layers;
mod usher;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::admission::{self, Admission};
use crate::config::{self, AffinitySource, Compression, Config, Problems, Reattach, Route};
use crate::dial::Dialer;
use crate::hook::{Chain, HookRegistry as Hooks, Injector};
use crate::metrics::Metrics;
use crate::route::Routes;
use crate::tls::certificates::{Certificate, Lapsed};
use crate::tls::server::TlsServer;
use crate::tls::tickets::TicketKeys;
use crate::upstream::{Member, MemberLists, Registry};

pub use destination::Destination;
pub use listener::ListenerPolicy;
pub use phase::{GatewayPhase, Phases};
pub use routing::{RoutedRequest, RoutingInput, Unclear};
pub use running::{Running, SnapshotOrigin, TunnelPolicy, Turn};
pub use saved::SavedHooks;

/// One compiled configuration.
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// Networks of the proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Configuration that the snapshot was compiled from.
    pub config: Arc<Config>,
    /// Members of upstreams that have them from a source of their own.
    pub members: MemberLists,
    routes: Arc<Routes>,
    /// In the order of the configuration's routes.
    targets: Vec<Target>,
    /// Indices of `targets`.
    by_name: Arc<HashMap<Arc<str>, usize>>,
    destinations: Vec<Arc<Destination>>,
    /// In the order of the configuration's listeners.
    listeners: Vec<Arc<ListenerPolicy>>,
    /// The server's side of TLS on the admin listener.
    admin: Option<Arc<TlsServer>>,
}

/// A compiled route.
#[derive(Clone)]
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
    /// Most bytes of a request's body.
    pub body_size: Option<u64>,
    /// The route as admission counts it.
    pub admission: admission::Route,
    /// Re-attachment of its tunnels.
    pub reattach: Option<Reattach>,
}

impl Snapshot {
    /// Compiles a configuration, with the members of upstreams that have them from elsewhere; live state of backends
    /// that `registry` knows is kept.
    pub fn compile(
        config: &Config,
        members: MemberLists,
        generation: u64,
        registry: &Registry,
        metrics: &Metrics,
    ) -> Self {
        Self::compile_with(config, members, generation, |upstream, members| {
            Destination::compile(upstream, members, registry, metrics)
        })
    }

    /// Compiles the configuration that follows this one. Upstreams that mean the same are taken over as they are.
    #[must_use]
    pub fn successor(&self, config: &Config, members: MemberLists, registry: &Registry, metrics: &Metrics) -> Self {
        let before: HashMap<_, _> =
            self.destinations.iter().map(|to| (to.upstream.config().name.as_str(), to)).collect();
        Self::compile_with(config, members, self.generation + 1, |upstream, members| {
            match before.get(upstream.name.as_str()) {
                Some(same) if same.upstream.config() == upstream => same.with_members(members, registry),
                _ => Destination::compile(upstream, members, registry, metrics),
            }
        })
    }

    /// The same configuration with other members, of the same generation; `None` where none differ.
    #[must_use]
    pub fn with_members(&self, members: MemberLists, registry: &Registry) -> Option<Self> {
        let same = |to: &Arc<Destination>| to.with_members(members.of(to.upstream.config()), registry);
        let destinations: Vec<_> = self.destinations.iter().map(same).collect();
        if destinations.iter().zip(&self.destinations).all(|(after, before)| Arc::ptr_eq(after, before)) {
            return None;
        }
        let places: HashMap<_, _> = (0..).zip(&self.destinations).map(|(place, to)| (Arc::as_ptr(to), place)).collect();
        let moved = |target: &Target| Target {
            to: Arc::clone(
                places.get(&Arc::as_ptr(&target.to)).map_or(&target.to, |place: &usize| &destinations[*place]),
            ),
            ..target.clone()
        };
        Some(Self {
            generation: self.generation,
            trusted_proxies: self.trusted_proxies.clone(),
            config: Arc::clone(&self.config),
            members,
            routes: self.routes.clone(),
            targets: self.targets.iter().map(moved).collect(),
            by_name: self.by_name.clone(),
            destinations,
            listeners: self.listeners.clone(),
            admin: self.admin.clone(),
        })
    }

    fn compile_with(
        config: &Config,
        members: MemberLists,
        generation: u64,
        compile: impl Fn(&config::Upstream, Arc<[Member]>) -> Arc<Destination>,
    ) -> Self {
        let destinations: Vec<_> =
            config.upstreams.iter().map(|upstream| compile(upstream, members.of(upstream))).collect();
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
                body_size: route.body_size.unwrap_or(config.limits.body.size),
                admission: admission::Route::alone(route.limits),
                reattach: route.reattach,
            }
        };
        let targets: Vec<_> = config.routes.iter().map(target).collect();
        let by_name = targets.iter().enumerate().map(|(index, target)| (Arc::clone(&target.route), index)).collect();
        Self {
            generation,
            trusted_proxies: config.trusted_proxies.clone(),
            config: Arc::new(config.clone()),
            members,
            routes: Arc::new(Routes::compile(&config.routes)),
            by_name: Arc::new(by_name),
            targets,
            destinations,
            listeners: Vec::new(),
            admin: None,
        }
    }

    /// Counts what is open on routes together with what is open on the same routes of other snapshots; a snapshot
    /// counts alone before.
    pub fn count_routes_by(&mut self, admission: &Admission) {
        for target in &mut self.targets {
            target.admission = admission.route(&target.route, target.admission.limits());
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
    pub fn make_listeners(
        &mut self,
        before: Option<&Self>,
        keys: &Arc<TicketKeys>,
        lapsed: &Lapsed,
    ) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (number, config) in self.config.listeners.iter().enumerate() {
            let same = before.and_then(|before| before.listener(number)).filter(|same| same.config == *config);
            match same.map_or_else(|| ListenerPolicy::compile(config, number, keys, lapsed).map(Arc::new), Ok) {
                Ok(listener) => self.listeners.push(listener),
                Err(found) => problems.extend(found),
            }
        }
        let admin = self.config.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        // Its keys are those that the process began with.
        self.admin = before.and_then(|before| before.admin.clone());
        if let (Some(tls), None) = (admin, &self.admin) {
            match listener::server(tls, "admin.tls", keys, lapsed) {
                Ok(server) => self.admin = Some(Arc::new(server)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// The server's side of TLS on the admin listener; `None` where that is plain.
    pub fn admin_tls(&self) -> Option<&Arc<TlsServer>> {
        self.admin.as_ref()
    }

    /// The server's side of TLS on every listener that has it, the admin listener included.
    pub fn tls_servers(&self) -> impl Iterator<Item = &TlsServer> {
        self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).chain(self.admin.as_deref())
    }

    /// The listener with this place in the configuration.
    pub fn listener(&self, number: usize) -> Option<Arc<ListenerPolicy>> {
        self.listeners.get(number).cloned()
    }

    /// Every certificate in use: those of listeners, and those that backends are shown.
    pub fn certificates_in_use(&self) -> Vec<Certificate> {
        let clients = self.destinations.iter().filter_map(|to| to.layers.tls.as_ref());
        self.tls_servers()
            .flat_map(TlsServer::certificates)
            .chain(clients.filter_map(|tls| tls.certificate()))
            .collect()
    }

    /// Rule for certificates of the snapshot that follows: those that have expired in use are used on.
    pub fn lapsed(&self) -> Lapsed {
        Lapsed::kept_of(&self.certificates_in_use())
    }

    /// The name and the end of every certificate in use, the end in seconds since 1970.
    pub fn certificates(&self) -> impl Iterator<Item = (String, u64)> {
        self.tls_servers().flat_map(TlsServer::certificates).map(|certificate| {
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
}
