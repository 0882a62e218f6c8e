//! Ports for programs that are told where to listen, and that may be away for a moment.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// Ports that nobody is given by chance until this is dropped. Whoever asks for one by its number, as gateways and
/// backends do, can listen there.
#[derive(Default)]
pub(super) struct Ports {
    kept: Vec<Socket>,
}

impl Ports {
    /// Takes a free port of an address, and does not listen there.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn free(&mut self, ip: Ipv4Addr) -> Result<SocketAddr> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((ip, 0)).into()).context("no free port")?;
        let address = socket.local_addr()?.as_socket().context("no address of IPv4")?;
        self.kept.push(socket);
        Ok(address)
    }
}
