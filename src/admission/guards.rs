//! Guards: each counts one thing for as long as it lives.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::listeners::{Listening, Open, Process};
use super::routes::{Route, RouteRequest, RouteTunnel};
use super::{Admission, Network, NetworkCount, RefusalReason};
use crate::config::{Limits, PerClient};

/// A connection of a client: one of the process, of its listener, and of the client's network.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct ConnectionGuard {
    open: Open,
    network: Option<Network>,
}

impl ConnectionGuard {
    /// Counts one more connection of the process and of a listener.
    pub(super) fn begin(listening: &Arc<Listening>) -> Self {
        Self { open: Open::begin(listening), network: None }
    }

    /// Counts the connection as one of a client's network, in place of another: a PROXY header may have named the
    /// client.
    ///
    /// # Errors
    /// The network has too many.
    pub fn is_of(&mut self, client: IpAddr, limits: &Limits) -> Result<(), RefusalReason> {
        let (network, clients) = (Network::of(client, &limits.per_client), &self.open.listening.process.clients);
        if !clients.add(network, NetworkCount::Connection, limits.per_client.connections) {
            return Err(RefusalReason::ClientConnections);
        }
        if let Some(before) = self.network.replace(network) {
            clients.remove(before, NetworkCount::Connection);
        }
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.open.listening.process.clients.remove(network, NetworkCount::Connection);
        }
    }
}

/// A connection that was accepted, on its way.
#[derive(Debug)]
pub enum ConnectionVerdict {
    /// Served.
    Admitted(ConnectionGuard),
    /// Refused, and told why.
    Refused(RefusalReason, Answering),
}

impl ConnectionVerdict {
    /// Why the connection is refused, if it is.
    pub fn refused(&self) -> Option<RefusalReason> {
        match self {
            Self::Admitted(_) => None,
            Self::Refused(reason, _) => Some(*reason),
        }
    }
}

/// A request: one of its route where it is no handshake, and a connection of the client's network where a trusted proxy
/// named the client.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct RequestGuard {
    _named: Option<Named>,
    _of_route: Option<RouteRequest>,
}

impl RequestGuard {
    pub(super) fn begin(
        process: &Arc<Process>,
        limits: &Limits,
        named: Option<IpAddr>,
        route: Option<&Route>,
    ) -> Result<Self, RefusalReason> {
        let named = named.map(|client| Named::begin(process, &limits.per_client, client)).transpose()?;
        Ok(Self { _named: named, _of_route: route.map(Route::request).transpose()? })
    }
}

/// A client that a trusted proxy named, counted as a connection of its network.
#[derive(Debug)]
struct Named {
    process: Arc<Process>,
    network: Network,
}

impl Named {
    fn begin(process: &Arc<Process>, limits: &PerClient, client: IpAddr) -> Result<Self, RefusalReason> {
        let network = Network::of(client, limits);
        if !process.clients.add(network, NetworkCount::Connection, limits.connections) {
            return Err(RefusalReason::ClientConnections);
        }
        Ok(Self { process: Arc::clone(process), network })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.process.clients.remove(self.network, NetworkCount::Connection);
    }
}

/// Place that a handshake is asked for.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeScope<'a> {
    /// The listener's place in the configuration.
    pub listener: usize,
    /// The route; `None` where none matches.
    pub route: Option<&'a Route>,
}

/// A handshake, counted as the tunnel that it is to open: those who shake hands at the same moment are not all the last
/// that is let in.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct HandshakeGuard {
    listening: Arc<Listening>,
    network: Option<Network>,
    of_route: Option<RouteTunnel>,
}

impl HandshakeGuard {
    pub(super) fn begin(
        listening: &Arc<Listening>,
        limits: &PerClient,
        client: Option<IpAddr>,
        route: Option<&Route>,
        now: Instant,
    ) -> Result<Self, RefusalReason> {
        // First, so that a refusal takes nothing of the client's rate.
        let of_route = route.map(Route::tunnel).transpose()?;
        let network = client.map(|client| Network::of(client, limits));
        if let Some(network) = network {
            listening.process.clients.shake_hands(network, limits, now)?;
        }
        Ok(Self { listening: Arc::clone(listening), network, of_route })
    }

    /// The tunnel that was opened. Its client's connection is counted as one of the process until then.
    pub fn opened(mut self) -> TunnelGuard {
        TunnelGuard {
            open: Open::begin(&self.listening),
            network: self.network.take(),
            _of_route: self.of_route.take(),
        }
    }
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.listening.process.clients.remove(network, NetworkCount::Tunnel);
        }
    }
}

/// The counts of one request.
#[derive(Debug, Default)]
pub struct RequestCounts {
    /// Counts the request.
    pub request: Option<RequestGuard>,
    /// Counts a handshake as the tunnel that it is to open.
    pub handshake: Option<HandshakeGuard>,
    /// Reason for which the request is refused, if it is.
    pub refused: Option<RefusalReason>,
}

/// A tunnel: one of the connections of the process and of its listener, and one of the tunnels of its route and of the
/// client's network.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct TunnelGuard {
    open: Open,
    network: Option<Network>,
    _of_route: Option<RouteTunnel>,
}

impl TunnelGuard {
    pub(super) fn adopt(listening: &Arc<Listening>, limits: &PerClient, client: Option<IpAddr>, route: &Route) -> Self {
        let network = client.map(|client| Network::of(client, limits));
        if let Some(network) = network {
            listening.process.clients.add(network, NetworkCount::Tunnel, None);
        }
        Self { open: Open::begin(listening), network, _of_route: Some(route.adopt()) }
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.open.listening.process.clients.remove(network, NetworkCount::Tunnel);
        }
    }
}

/// The answer to a connection that is refused, for as long as it takes.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct Answering {
    admission: Arc<Admission>,
}

impl Answering {
    pub(super) fn begin(admission: &Arc<Admission>, now: Instant) -> Option<Self> {
        admission.answers.begin(now).then(|| Self { admission: Arc::clone(admission) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.admission.answers.end();
    }
}
