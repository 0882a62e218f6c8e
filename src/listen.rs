//! The listening sockets: bound early, so that a wrong address is a clear error, and lent to Pingora while it accepts.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;

use listenfd::ListenFd;
use log::warn;
use pingora::server::ListenFds;
use socket2::{Domain, Socket, Type};

use crate::config::TunnelLimits;
use crate::socket::keepalive::probe_accepted;

/// A socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(.error))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Error of the system.
    pub error: io::Error,
}

/// Sockets that cannot be bound: at least one.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BindErrors(Vec<BindError>);

impl BindErrors {
    /// Makes one error of those of all sockets.
    ///
    /// # Errors
    /// There is at least one.
    pub fn check(errors: Vec<BindError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }
}

/// A socket that is bound, and listens once it was [lent](Self::lend_to).
pub struct BoundSocket {
    /// The address it is bound to; where port 0 was asked for, with the port it got.
    pub address: SocketAddr,
    /// The address that the configuration names.
    configured: SocketAddr,
    socket: Socket,
}

impl BoundSocket {
    /// Binds an address. `[::]` takes IPv4 clients too, whatever `net.ipv6.bindv6only` says.
    ///
    /// # Errors
    /// The system refuses: the address is in use, is not this machine's, or its port is privileged.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            // Connections of a gateway that has ended do not keep its successor from the address.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            Self::of(socket, address)
        };
        bound().map_err(|error| BindError { address, error })
    }

    /// A socket that another process bound, for the address that the configuration names.
    ///
    /// # Errors
    /// The descriptor is not a socket that is bound to an address.
    pub fn of(socket: Socket, configured: SocketAddr) -> io::Result<Self> {
        let address = bound_to(&socket)?;
        Ok(Self { address, configured, socket })
    }

    /// Begins to listen, and puts a copy of the socket where Pingora looks before it binds one itself. Pingora owns the
    /// copy; this one stays ours, so that connections wait in the backlog while nobody accepts.
    ///
    /// # Errors
    /// The system refuses to listen: another socket began to since this one was bound.
    pub fn lend_to(&self, descriptors: &ListenFds) -> Result<(), BindError> {
        let copy = self.listening()?;
        descriptors.lock().add(self.address.to_string(), copy.into_raw_fd());
        Ok(())
    }

    /// Begins to listen; what it returns accepts on the same socket.
    ///
    /// # Errors
    /// The system refuses to listen: another socket began to since this one was bound.
    pub fn listen(&self) -> Result<Arc<TcpListener>, BindError> {
        Ok(Arc::new(self.listening()?.into()))
    }

    fn listening(&self) -> Result<Socket, BindError> {
        // What is accepted inherits both. A small message must not wait for the acknowledgement of the one before.
        let inherited = self.socket.set_tcp_nodelay(true).and_then(|()| {
            let timeout = TunnelLimits::default().tcp_user_timeout;
            timeout.map_or(Ok(()), |timeout| probe_accepted(&self.socket, timeout))
        });
        let listening = inherited.and_then(|()| self.socket.listen(BACKLOG));
        let copy = listening.and_then(|()| self.socket.try_clone());
        copy.map_err(|error| BindError { address: self.address, error })
    }

    /// A copy of the socket, to be handed to another process, with the address that the configuration names for it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn copy(&self) -> io::Result<(SocketAddr, Socket)> {
        Ok((self.configured, self.socket.try_clone()?))
    }
}

/// Sockets that this process did not bind: passed by whoever started it (systemd's socket activation,
/// sd_listen_fds(3)), or handed over by a predecessor.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<BoundSocket>,
}

impl Inherited {
    /// Takes them, once, as long as no other thread runs: the environment that announces them is cleared.
    ///
    /// A descriptor that is no TCP socket is left alone, with a warning.
    pub fn take() -> Self {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let bound = passed.take_tcp_listener(index).and_then(|listener| {
                let socket = Socket::from(listener.ok_or(io::ErrorKind::NotFound)?);
                socket.set_nonblocking(true)?;
                let address = bound_to(&socket)?;
                BoundSocket::of(socket, address)
            });
            match bound {
                Ok(bound) => sockets.push(bound),
                Err(error) => warn!("socket {index} that was passed to this process cannot be used: {error}"),
            }
        }
        Self { sockets }
    }

    /// The sockets of a predecessor, each with the address that the predecessor's configuration names for it.
    ///
    /// # Errors
    /// One is no socket that is bound to an address.
    pub fn of(sockets: Vec<(SocketAddr, OwnedFd)>) -> io::Result<Self> {
        let bound = |(configured, socket): (SocketAddr, OwnedFd)| BoundSocket::of(socket.into(), configured);
        Ok(Self { sockets: sockets.into_iter().map(bound).collect::<io::Result<_>>()? })
    }

    /// The one for this address of the configuration, if there is one.
    pub fn find(&mut self, address: SocketAddr) -> Option<BoundSocket> {
        let index = self.sockets.iter().position(|bound| bound.configured == address)?;
        Some(self.sockets.remove(index))
    }

    /// The one for this address of the configuration, or else a new one.
    ///
    /// # Errors
    /// The system refuses to bind a new one.
    pub fn find_or_bind(&mut self, address: SocketAddr) -> Result<BoundSocket, BindError> {
        self.find(address).map_or_else(|| BoundSocket::bind(address), Ok)
    }

    /// The addresses of those that were not found yet.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|bound| bound.address)
    }
}

fn bound_to(socket: &Socket) -> io::Result<SocketAddr> {
    Ok(socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Pingora's own; the kernel takes `net.core.somaxconn` where that is less.
const BACKLOG: i32 = 65_535;

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: `ss -ltnp` names it)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need root or CAP_NET_BIND_SERVICE: `setcap cap_net_bind_service=+ep` on the binary)"
        }
        io::ErrorKind::AddrNotAvailable => " (the address is not one of this machine's: `ip address` lists those)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_becomes_the_port_that_was_taken() {
        let bound = BoundSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        assert_ne!(bound.address.port(), 0);
    }

    #[test]
    fn what_is_accepted_is_sent_at_once_and_probed() {
        let listener = BoundSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().listen().unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap().as_secs(), 30);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap().as_secs(), 10);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = BoundSocket::bind(address).err().unwrap().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert!(error.contains("another process listens there"), "{error}");
    }
}
