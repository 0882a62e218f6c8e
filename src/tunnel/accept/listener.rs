//! Listeners: the sockets that connections are accepted on, and what the configuration says of them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::metrics::ListenerMetrics;

/// A listener, as the configuration describes it. Every [`Connection`](super::Connection) of a client knows the
/// listener that accepted it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address that the configuration gives it.
    pub address: SocketAddr,
    /// Place in the configuration's list, from 0.
    pub number: usize,
    /// Counters of its connections.
    pub metrics: ListenerMetrics,
}

/// The socket of a listener.
///
/// Connections keep the listener and not its socket: a socket that is to close must not wait for handshakes.
#[derive(Clone, Debug)]
pub struct ListeningSocket {
    /// The socket, non-blocking, which all workers share.
    pub socket: Arc<TcpListener>,
    /// Its listener.
    pub listener: Arc<Listener>,
}
