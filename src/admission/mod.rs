//! Admission: the decision to take one more connection, request, handshake or tunnel, asked before that costs anything.
//!
//! One object has the counts of the process, for every path: workers that accept, requests for Pingora, the engine of
//! handshakes, tunnels that a predecessor hands over. Limits are values of the snapshot in force and come with
//! each question, so a reload changes them for what comes from then on, and what is open stays counted. What is counted
//! is counted by a guard, for as long as that lives.

mod answers;
mod clients;
mod guards;
mod kept;
mod listeners;
mod network;
mod networks;
mod reason;
mod routes;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use prometheus::IntGauge;

use crate::config::{Limits, RouteLimits};
use crate::socket::descriptors::Descriptors;
use answers::RefusalAnswers;
use clients::NetworkCount;
pub use guards::{
    Answering, ConnectionGuard, ConnectionVerdict, HandshakeGuard, HandshakeScope, RequestCounts, RequestGuard,
    TunnelGuard,
};
pub use kept::KeptBytes;
use listeners::Listeners;
use network::Network;
pub use networks::{NetworkRule, Networks};
pub use reason::RefusalReason;
use routes::CountsByRoute;
pub use routes::Route;

/// The counts that admission is decided by.
#[derive(Debug)]
pub struct Admission {
    listeners: Listeners,
    routes: CountsByRoute,
    answers: RefusalAnswers,
    descriptors: Descriptors,
    /// Bytes that are kept for clients.
    kept: IntGauge,
}

/// A listener, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct AtListener {
    /// Its place in the configuration.
    pub number: usize,
    /// `limits.connections` of it.
    pub most: Option<NonZeroU32>,
}

impl Admission {
    /// Nothing is open yet. `listeners` is their number; `kept` are the bytes that are kept for clients, those of open
    /// tunnels among them.
    pub fn new(descriptors: Descriptors, kept: IntGauge, listeners: usize, now: Instant) -> Arc<Self> {
        let answers = RefusalAnswers::new(descriptors.for_refusals(), now);
        let (listeners, routes) = (Listeners::new(listeners, now), CountsByRoute::default());
        Arc::new(Self { listeners, routes, answers, descriptors, kept })
    }

    /// Notes the addresses that the listeners' sockets are bound to, in the order of the configuration: so it is known
    /// by which of them a tunnel came that a predecessor hands over.
    pub fn bound_to(&self, addresses: impl Iterator<Item = SocketAddr>) {
        self.listeners.bound_to(addresses.collect());
    }

    /// The route of this name, with these limits. It has all that is open on the route of that name, whatever snapshot
    /// that began with.
    pub fn route(&self, name: &str, limits: RouteLimits) -> Route {
        self.routes.named(name, limits)
    }

    /// Asks for a connection that was just accepted as `descriptor`. `client` is the peer; `None` where that is a
    /// trusted proxy, whose connections are not those of one client.
    ///
    /// # Errors
    /// The process, the listener or the client's network has too many, hardly a descriptor is left, or too much is
    /// kept.
    pub fn connection(
        &self,
        limits: &Limits,
        at: AtListener,
        client: Option<IpAddr>,
        descriptor: RawFd,
    ) -> Result<ConnectionGuard, RefusalReason> {
        if self.descriptors.is_scarce(descriptor) {
            return Err(RefusalReason::Descriptors);
        }
        self.memory(limits)?;
        let listening = self.listeners.number(at.number);
        let mut connection = ConnectionGuard::begin(listening);
        // Counted first, so that two who ask at the same moment are not both the last that is let in.
        if limits.connections.is_some_and(|most| self.open() > most.get() as usize) {
            return Err(RefusalReason::Connections);
        }
        if at.most.is_some_and(|most| listening.open() > most.get() as usize) {
            return Err(RefusalReason::ListenerConnections);
        }
        if let Some(client) = client {
            connection.is_of(client, limits)?;
        }
        Ok(connection)
    }

    /// Asks for a request. `named` is the client where a trusted proxy named one, on a connection that is the proxy's;
    /// `route` is that of a request which is no handshake.
    ///
    /// # Errors
    /// That client's network has too many connections and requests, the route has too many requests, or too much is
    /// kept.
    pub fn request(
        &self,
        limits: &Limits,
        named: Option<IpAddr>,
        route: Option<&Route>,
    ) -> Result<RequestGuard, RefusalReason> {
        self.memory(limits)?;
        RequestGuard::begin(&self.listeners.process, limits, named, route)
    }

    fn memory(&self, limits: &Limits) -> Result<(), RefusalReason> {
        let is_short = limits.memory.is_some_and(|most| self.kept.get() > i64::try_from(most).unwrap_or(i64::MAX));
        if is_short { Err(RefusalReason::Memory) } else { Ok(()) }
    }

    /// Counts the bytes that are kept for a client which is no tunnel.
    pub fn keep(&self) -> KeptBytes {
        KeptBytes::nothing(&self.kept)
    }

    /// Asks for a handshake at a place, and the tunnel that it is to open, of `client`; `None` where that is a trusted
    /// proxy itself.
    ///
    /// # Errors
    /// The route or the client's network has too many tunnels, or the client shakes hands too fast.
    pub fn handshake(
        &self,
        limits: &Limits,
        client: Option<IpAddr>,
        at: HandshakeScope<'_>,
        now: Instant,
    ) -> Result<HandshakeGuard, RefusalReason> {
        HandshakeGuard::begin(self.listeners.number(at.listener), &limits.per_client, client, at.route, now)
    }

    /// Counts a tunnel that is open already: a predecessor hands it over. It is never refused. `local` is the address
    /// that its client connected to.
    pub fn adopt(
        &self,
        limits: &Limits,
        client: Option<IpAddr>,
        local: Option<SocketAddr>,
        route: &str,
    ) -> TunnelGuard {
        let route = self.route(route, RouteLimits::default());
        TunnelGuard::adopt(self.listeners.of(local), &limits.per_client, client, &route)
    }

    /// Asks to answer a connection that is refused. Without, it is closed.
    pub fn answer(self: &Arc<Self>, now: Instant) -> Option<Answering> {
        Answering::begin(self, now)
    }

    /// Number of clients' connections, tunnels among them.
    pub fn open(&self) -> usize {
        self.listeners.process.open()
    }

    /// Number of entries in the table of clients' networks.
    pub fn networks(&self) -> usize {
        self.listeners.process.clients.len()
    }
}

#[cfg(test)]
mod tests;
