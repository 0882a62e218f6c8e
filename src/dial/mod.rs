//! Reaching a backend: the connection to it, and one exchange of heads on that connection.
//!
//! Handshakes on workers, handshakes behind Pingora's sessions and health checks all go this way. They differ in how
//! they wait, which is what [`Transport`] hides.

mod error;
mod exchange;
mod layers;
mod secured;
mod step;
mod tcp;
mod transport;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::RawFd;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::net::sockopt::set_tcp_quickack;
use socket2::{Domain, Socket, Type};

use crate::socket::descriptors::Descriptors;

pub use error::{ConnectError, ExchangeError, TryError};
pub use exchange::{Answered, ExchangeLimits, HeadExchange};
pub use layers::{Layers, PassedOn};
pub use secured::{Secured, SecuringError};
pub use tcp::{OnTokio, Tcp};
pub use transport::{Dial, READ_BYTES, Transport, read, write_all};

/// Begins connections to backends: source addresses and options of sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialer {
    /// `client_bind_to_ipv4`
    ipv4: Vec<IpAddr>,
    /// `client_bind_to_ipv6`
    ipv6: Vec<IpAddr>,
    /// Descriptors that connections for clients may have; `None` for a dialer of checks, which may have all.
    descriptors: Option<Descriptors>,
}

impl Dialer {
    /// A dialer that draws the source address of each connection from the list of its family. From an empty list the
    /// system chooses. Texts that are no address are left out: the configuration refuses them.
    pub fn from_addresses(ipv4: &[String], ipv6: &[String]) -> Self {
        let ipv4 = ipv4.iter().filter_map(|text| text.parse().ok()).collect();
        Self { ipv4, ipv6: ipv6.iter().filter_map(|text| text.parse().ok()).collect(), descriptors: None }
    }

    /// A dialer for clients' requests, which leaves the descriptors alone that are kept for control, metrics and
    /// checks.
    #[must_use]
    pub fn within(self, descriptors: Descriptors) -> Self {
        Self { descriptors: Some(descriptors), ..self }
    }

    /// True when a connection that Pingora made for a client's request may keep its descriptor.
    pub fn admits(&self, number: RawFd) -> bool {
        self.descriptors.is_none_or(|descriptors| descriptors.are_for_clients(number))
    }

    /// Begins to connect to a backend, without waiting: the socket is non-blocking, and [`HeadExchange::connect`] tells
    /// the outcome. A source address that has no port left for this backend is passed over for the next one.
    ///
    /// # Errors
    /// The system refuses at once: it has no route, no port or no descriptor left.
    pub fn begin(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let sources = match address {
            SocketAddr::V4(_) => &self.ipv4,
            SocketAddr::V6(_) => &self.ipv6,
        };
        if sources.is_empty() {
            return self.begin_from(None, address);
        }
        let first = rand::random_range(0..sources.len());
        let (before, drawn) = sources.split_at(first);
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for source in drawn.iter().chain(before) {
            match self.begin_from(Some(SocketAddr::from((*source, 0))), address) {
                Err(full) if full.kind() == io::ErrorKind::AddrNotAvailable => last = full,
                done => return done,
            }
        }
        Err(last)
    }

    fn begin_from(&self, source: Option<SocketAddr>, address: SocketAddr) -> io::Result<TcpStream> {
        let mut socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
        if let Some(descriptors) = self.descriptors {
            socket = descriptors.admit(socket)?;
        }
        // A small message must not wait for the acknowledgement of the one before.
        socket.set_tcp_nodelay(true)?;
        // Whoever connects here speaks first. What he says acknowledges the connection as well, so that its third
        // packet need not be one of its own (HAProxy: `tcp-smart-connect`).
        set_tcp_quickack(&socket, false)?;
        if let Some(source) = source {
            // The port is drawn when the destination is known, so that one port serves many destinations (ip(7)).
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&source.into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => Err(error),
            _ => Ok(socket.into()),
        }
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

#[cfg(test)]
mod tests;
