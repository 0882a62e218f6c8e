//! Listeners: the sockets that connections are accepted on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// A listening socket, non-blocking, and what the configuration says of it.
///
/// Every [`Connection`](super::Connection) of a client knows the listener that accepted it.
#[derive(Debug)]
pub struct Listener {
    /// The socket, which all workers share.
    pub socket: Arc<TcpListener>,
    /// The address that the configuration gives it.
    pub address: SocketAddr,
}
