//! The listening sockets: bound early, so that a wrong address is a clear error, and handed to Pingora.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;

use pingora::server::ListenFds;
use socket2::{Domain, Socket, Type};

/// A socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(.error))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// A socket that is bound and does not accept yet.
pub struct Bound {
    /// The address it is bound to; where port 0 was asked for, with the port it got.
    pub address: SocketAddr,
    /// `None` where the socket is to come from the process that runs now.
    socket: Option<Socket>,
}

impl Bound {
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
            let address = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok(Self { address, socket: Some(socket) })
        };
        bound().map_err(|error| BindError { address, error })
    }

    /// An address whose socket the running process hands over.
    pub fn inherited(address: SocketAddr) -> Self {
        Self { address, socket: None }
    }

    /// Begins to listen, and puts the socket where Pingora looks before it binds one itself; Pingora then owns it.
    ///
    /// # Errors
    /// The system refuses to listen: another socket began to since this one was bound.
    pub fn hand_to(&mut self, descriptors: &ListenFds) -> Result<(), BindError> {
        if let Some(socket) = self.socket.take() {
            socket.listen(BACKLOG).map_err(|error| BindError { address: self.address, error })?;
            descriptors.lock().add(self.address.to_string(), socket.into_raw_fd());
        }
        Ok(())
    }
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
        let bound = Bound::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        assert_ne!(bound.address.port(), 0);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Bound::bind(address).err().unwrap().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert!(error.contains("another process listens there"), "{error}");
    }
}
