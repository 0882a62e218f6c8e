//! Asks `admission` on every path of the gateway, and answers or closes the connections and requests that are refused.

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use super::Gateway;
use super::request::Ctx;
use crate::admission::{AtListener, ConnectionVerdict, HandshakeScope, RefusalReason};
use crate::client::is_trusted;
use crate::config::ProxyProtocol;
use crate::hook::Answer;
use crate::snapshot::ListenerPolicy;
use crate::tunnel::{Connection, Listener};

impl Gateway {
    /// Decides on a connection that a worker accepted just now as `descriptor`; see
    /// [`Host::admit`](crate::tunnel::Host::admit).
    pub(super) fn admit(&self, listener: &Listener, peer: IpAddr, descriptor: RawFd) -> Option<ConnectionVerdict> {
        let snapshot = self.running.snapshot_now();
        let policy = snapshot.listeners().get(listener.number)?;
        let is_proxy = is_trusted(peer, &snapshot.trusted_proxies);
        // Where the header of a proxy names a client, that is the one who is looked up.
        let speaks_for_another = is_proxy && policy.config.proxy_protocol != ProxyProtocol::Off;
        if !speaks_for_another && !policy.lets_in(peer) {
            return self.turn_away(listener, peer, RefusalReason::Address);
        }
        let client = (!is_proxy).then_some(peer);
        let at = AtListener { number: listener.number, most: policy.config.connections };
        match self.running.admission.connection(&snapshot.config.limits, at, client, descriptor) {
            Ok(connection) => Some(ConnectionVerdict::Admitted(connection)),
            Err(reason) => self.turn_away(listener, peer, reason),
        }
    }

    /// Decides anew on the connection of a trusted proxy whose PROXY header named `client`. Returns false for a
    /// connection that is to be closed; that was counted and logged.
    pub(super) fn admit_named(&self, connection: &mut Connection, client: IpAddr, policy: &ListenerPolicy) -> bool {
        let snapshot = self.running.snapshot_now();
        if is_trusted(client, &snapshot.trusted_proxies) {
            return true;
        }
        let listener = Arc::clone(connection.listener());
        let Some(entry) = connection.entry_mut() else { return true };
        let decided = match entry {
            _ if !policy.lets_in(client) => Err(RefusalReason::Address),
            ConnectionVerdict::Admitted(counted) => counted.is_of(client, &snapshot.config.limits),
            ConnectionVerdict::Refused(..) => Ok(()),
        };
        let Err(reason) = decided else { return true };
        let refused = self.turn_away(&listener, client, reason);
        refused.is_some_and(|refused| {
            *entry = refused;
            true
        })
    }

    /// Counts a connection that is refused. Where it may be answered, it is kept for as long as the answer takes.
    fn turn_away(&self, listener: &Listener, client: IpAddr, reason: RefusalReason) -> Option<ConnectionVerdict> {
        listener.metrics.refused(reason.as_str());
        let answering = reason.status().and_then(|_| self.running.admission.answer(Instant::now()));
        if answering.is_none() {
            let name = reason.as_str();
            warn!("a connection to {} is closed ({name}): {reason} (client {client})", listener.address);
        }
        Some(ConnectionVerdict::Refused(reason, answering?))
    }

    /// Decides on a plain request whose client and route are known.
    ///
    /// # Errors
    /// The answer to give.
    pub(super) fn admit_request(&self, ctx: &mut Ctx) -> Result<(), Answer> {
        let route = ctx.target().map(|target| &target.admission);
        let admitted = self.running.admission.request(&ctx.snapshot.config.limits, named(ctx), route);
        ctx.admitted.request = Some(admitted.map_err(|reason| ctx.refuse(reason))?);
        Ok(())
    }

    /// Decides on a handshake whose client and route are known. A second call for a handshake that was admitted changes
    /// nothing.
    ///
    /// # Errors
    /// The answer to give.
    pub(super) fn admit_handshake(&self, ctx: &mut Ctx) -> Result<(), Answer> {
        let Some(request) = ctx.request.as_ref().filter(|_| ctx.admitted.handshake.is_none()) else { return Ok(()) };
        let (admission, limits) = (&self.running.admission, &ctx.snapshot.config.limits);
        let client = Some(request.client.address).filter(|client| !is_trusted(*client, &ctx.snapshot.trusted_proxies));
        let route = ctx.target().map(|target| &target.admission);
        let at = HandshakeScope { listener: request.arrival.listener, route };
        let admitted = admission.request(limits, named(ctx), None).and_then(|request| {
            let handshake = admission.handshake(limits, client, at, Instant::now())?;
            Ok((request, handshake))
        });
        let (request, handshake) = admitted.map_err(|reason| ctx.refuse(reason))?;
        (ctx.admitted.request, ctx.admitted.handshake) = (Some(request), Some(handshake));
        Ok(())
    }
}

/// Client that a trusted proxy named; `None` where that is a trusted proxy itself.
fn named(ctx: &Ctx) -> Option<IpAddr> {
    let client = &ctx.request.as_ref()?.client;
    let is_named = client.via_trusted && !is_trusted(client.address, &ctx.snapshot.trusted_proxies);
    is_named.then_some(client.address)
}

impl Ctx {
    /// Notes why the request is refused; returns the answer to give.
    fn refuse(&mut self, reason: RefusalReason) -> Answer {
        self.failure = Some(reason.as_str().to_owned());
        self.admitted.refused = Some(reason);
        Answer::not_admitted(reason)
    }
}
