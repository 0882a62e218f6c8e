//! Reads the PROXY header and carries out the TLS handshake of a client's connection, before its first request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, log};

use crate::client::is_trusted;
use crate::config::ProxyProtocol;
use crate::dial::{self, Secured};
use crate::gateway::Gateway;
use crate::gateway::arrival::{Arrival, ArrivalTls};
use crate::gateway::head_reader::TO_BE_REFUSED;
use crate::proxy_protocol::{self, HeaderRead, ProxyHeaderError};
use crate::snapshot::ListenerPolicy;
use crate::tls::server::TlsServer;
use crate::tls::{HandshakeFacts, HandshakeFailure};
use crate::tunnel::Connection;

impl Gateway {
    /// Carries out all that comes before HTTP on a connection that `peer` made to a listener of this policy. Bytes that
    /// were read of the first request are left in `read`. Returns `None` when the connection is over; that was counted
    /// and logged.
    pub(super) async fn arrive(
        &self,
        client: &mut Secured<Connection>,
        peer: SocketAddr,
        policy: &ListenerPolicy,
        read: &mut Vec<u8>,
    ) -> Option<Arrival> {
        // A process that gives way to a successor ends when it has no request left; a handshake is the beginning of
        // one.
        let _under_way = self.running.request();
        client.raw_mut().set_uninterrupted(true);
        let mut arrival = Arrival::plain(peer, client.raw().listener().number);
        if policy.config.proxy_protocol != ProxyProtocol::Off {
            let is_required = policy.config.proxy_protocol == ProxyProtocol::Required;
            match self.read_proxy_header(client, peer, is_required, read).await {
                Ok(header) => arrival.believe(header.as_ref()),
                Err(failure) => {
                    self.proxy_header_failed(peer, failure);
                    return None;
                }
            }
            // Only the header of a trusted proxy is believed.
            let is_proxy = is_trusted(peer.ip(), &self.running.snapshot_now().trusted_proxies);
            if is_proxy && !self.admit_named(client.raw_mut(), arrival.peer.ip(), policy) {
                return None;
            }
        }
        if let Some(server) = &policy.tls {
            let expects_header = policy.config.proxy_protocol != ProxyProtocol::Off;
            let tls = self.secure(client, arrival.peer, server, expects_header, read).await?;
            arrival.tls = Some(Arc::new(tls));
        }
        client.raw_mut().set_uninterrupted(false);
        Some(arrival)
    }

    /// Reads the PROXY header that a connection begins with, within [`PROXY_HEADER`]. Returns `None` when there is no
    /// header and none is required. A client that is silent for that time has none. Bytes behind the header are left in
    /// `read`.
    async fn read_proxy_header(
        &self,
        client: &mut Secured<Connection>,
        peer: SocketAddr,
        is_required: bool,
        read: &mut Vec<u8>,
    ) -> Result<Option<proxy_protocol::ReceivedHeader>, ProxyFailure> {
        let until = Instant::now() + PROXY_HEADER;
        let is_trusted = is_trusted(peer.ip(), &self.running.snapshot().trusted_proxies);
        if is_required && !is_trusted {
            return Err(ProxyFailure::Untrusted);
        }
        loop {
            match proxy_protocol::read(read)? {
                HeaderRead::Header(..) if !is_trusted => return Err(ProxyFailure::Untrusted),
                HeaderRead::Header(length, header) => {
                    read.drain(..length);
                    return Ok(Some(*header));
                }
                HeaderRead::NotProxy if is_required => return Err(ProxyFailure::Missing),
                HeaderRead::NotProxy => return Ok(None),
                HeaderRead::NeedsMore => {}
            }
            match dial::read(client, read, until).await {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !is_required && read.is_empty() => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(ProxyFailure::Timeout),
                Ok(0) | Err(_) if read.is_empty() => return Err(ProxyFailure::Unused),
                Ok(0) | Err(_) => return Err(ProxyFailure::Closed),
            }
        }
    }

    /// Carries out the TLS handshake of a client, whose PROXY header was read before if the listener
    /// `expects_header`. Returns `None` when the handshake failed; that was counted and logged.
    async fn secure(
        &self,
        client: &mut Secured<Connection>,
        peer: SocketAddr,
        server: &TlsServer,
        expects_header: bool,
        read: &mut Vec<u8>,
    ) -> Option<ArrivalTls> {
        let begun = Instant::now();
        // A client that is refused whatever it asks for has as long for this as for its request.
        let longest = if client.raw().refused().is_some() { TO_BE_REFUSED } else { HANDSHAKE };
        let until = begun + longest;
        if read.is_empty()
            && let Err(failure) = first_bytes(client, read, until).await
        {
            // Load balancers check a port in this way every few seconds, and nothing is wrong then.
            let level = if failure == HandshakeFailure::Closed { Level::Debug } else { Level::Warn };
            self.tls_failed(peer, failure, level);
            return None;
        }
        if !expects_header && proxy_protocol::is_header(read) {
            self.tls_failed(peer, HandshakeFailure::ProxyHeader, Level::Warn);
            return None;
        }
        match shake_tls(client, server, read, until).await {
            Ok(facts) => {
                let resumed = facts.resumed;
                let tls = ArrivalTls::from(facts);
                self.running.metrics.tls.shaken(tls.version, resumed, begun.elapsed());
                Some(tls)
            }
            Err(failure) => {
                self.tls_failed(peer, failure, Level::Warn);
                if failure == HandshakeFailure::PlainHttp {
                    refuse_plain_http(client).await;
                }
                None
            }
        }
    }

    /// Counts and logs a TLS handshake that failed. The reason stands before the colon, so that each has a budget of
    /// lines of its own.
    pub(in crate::gateway) fn tls_failed(&self, peer: SocketAddr, failure: HandshakeFailure, level: Level) {
        self.running.metrics.tls.failed(failure);
        log!(level, "a TLS handshake failed ({}): {failure} (client {peer})", failure.as_str());
    }

    /// Counts and logs a connection that is closed for its PROXY header.
    fn proxy_header_failed(&self, peer: SocketAddr, failure: ProxyFailure) {
        let (level, reason) = (failure.level(), failure.as_str());
        self.running.metrics.proxy_header_failed(reason);
        log!(level, "a connection is closed for its PROXY header ({reason}): {failure} (peer {peer})");
    }
}

/// Waits for the first bytes of a client.
async fn first_bytes(
    client: &mut Secured<Connection>,
    read: &mut Vec<u8>,
    until: Instant,
) -> Result<(), HandshakeFailure> {
    match dial::read(client, read, until).await {
        Ok(0) => Err(HandshakeFailure::Closed),
        Ok(_) => Ok(()),
        Err(error) => Err((&error).into()),
    }
}

/// Carries out the TLS handshake of a client of which `read` came first. Bytes behind the handshake are left there.
async fn shake_tls(
    client: &mut Secured<Connection>,
    server: &TlsServer,
    read: &mut Vec<u8>,
    until: Instant,
) -> Result<HandshakeFacts, HandshakeFailure> {
    // Every request begins with a letter, and no record does.
    if read.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(HandshakeFailure::PlainHttp);
    }
    let session = server.session().map_err(|error| HandshakeFailure::from(&error))?;
    let ahead = std::mem::take(read);
    let shaken = client.shake_hands(session, &ahead, read, until).await;
    Ok(shaken.map_err(HandshakeFailure::from)?.facts())
}

/// Why a connection was closed for its PROXY header, or for want of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ProxyFailure {
    /// The peer is none of `trusted_proxies`: a stranger would name any address as its own.
    #[error("the peer is not one of the trusted proxies")]
    Untrusted,
    #[error("there is none")]
    Missing,
    #[error("it took too long")]
    Timeout,
    #[error("the peer left before its end")]
    Closed,
    /// The peer connected and left, as load balancers do to check a port.
    #[error("the peer left before its first byte")]
    Unused,
    #[error(transparent)]
    Malformed(#[from] ProxyHeaderError),
}

impl ProxyFailure {
    /// The `failure` label.
    fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Missing => "missing",
            Self::Timeout => "timeout",
            Self::Closed | Self::Unused => "closed",
            Self::Malformed(_) => "malformed",
        }
    }

    fn level(self) -> Level {
        if self == Self::Unused { Level::Debug } else { Level::Warn }
    }
}

/// Answers a client that speaks HTTP on a TLS port, in plain HTTP.
async fn refuse_plain_http(client: &mut Secured<Connection>) {
    let until = Instant::now() + FAREWELL;
    if dial::write_all(client, PLAIN_HTTP, until).await.is_err() {
        return;
    }
    // A connection that is closed with bytes unread is reset, and the answer may be lost with it (RFC 9112 §9.6).
    let mut unwanted = Vec::new();
    while let Ok(1..) = dial::read(client, &mut unwanted, until).await
        && unwanted.len() < MOST_UNWANTED
    {}
}

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 57\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
    400 this port speaks TLS: use https:// or wss:// instead\n";

/// Longest time from accepting a connection to the end of its PROXY header: proxies send it at once.
const PROXY_HEADER: Duration = Duration::from_secs(5);
/// Longest time from accepting a client to the end of its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for which the bytes of a refused client are read, so that the answer reaches it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most bytes of a refused client that are read.
const MOST_UNWANTED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::PLAIN_HTTP;

    #[test]
    fn the_length_of_the_refusal_is_that_of_its_body() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
