//! The beginning of a connection that is not plain: the TLS handshake, before the first request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use crate::dial::{self, Secured};
use crate::gateway::Gateway;
use crate::gateway::arrival::{Arrival, ArrivalTls};
use crate::snapshot::ListenerPolicy;
use crate::tls::server::Server;
use crate::tls::{Facts, HandshakeFailure, Session};
use crate::tunnel::Connection;

impl Gateway {
    /// Carries out all that comes before HTTP on a connection that `peer` made to a listener of this policy. Bytes
    /// that were read of the first request are left in `read`. `None`: the connection is over, and that was counted
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
        if let Some(server) = &policy.tls {
            match self.shake_tls(client, server, read).await {
                Ok(facts) => {
                    let resumed = facts.resumed;
                    let tls = ArrivalTls::from(facts);
                    self.running.metrics.tls.shaken(tls.version, resumed);
                    arrival.tls = Some(Arc::new(tls));
                }
                Err(failure) => {
                    self.tls_failed(peer, failure);
                    if failure == HandshakeFailure::PlainHttp {
                        refuse_plain_http(client).await;
                    }
                    return None;
                }
            }
        }
        client.raw_mut().set_uninterrupted(false);
        Some(arrival)
    }

    async fn shake_tls(
        &self,
        client: &mut Secured<Connection>,
        server: &Server,
        read: &mut Vec<u8>,
    ) -> Result<Facts, HandshakeFailure> {
        let until = Instant::now() + HANDSHAKE;
        if read.is_empty() {
            match dial::read(client, read, until).await {
                Ok(0) => return Err(HandshakeFailure::Closed),
                Ok(_) => {}
                Err(error) => return Err((&error).into()),
            }
        }
        // Every request begins with a letter, and no record does.
        if read.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(HandshakeFailure::PlainHttp);
        }
        let session = Session::server(server.config()).map_err(|error| HandshakeFailure::from(&error))?;
        let ahead = std::mem::take(read);
        let shaken = client.shake_hands(session, &ahead, read, until).await;
        Ok(shaken.map_err(HandshakeFailure::from)?.facts())
    }

    /// Counts and logs a TLS handshake that failed.
    pub(super) fn tls_failed(&self, peer: SocketAddr, failure: HandshakeFailure) {
        self.running.metrics.tls.failed(failure);
        warn!("a TLS handshake failed: {failure} (client {peer})");
    }
}

/// Tells a client that spoke HTTP to a TLS port so, in the words it understands.
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

/// Longest time from accepting a client to the end of its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for which a client that was refused is listened to, so that it reads why.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of such a client that are read.
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
