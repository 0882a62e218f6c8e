//! The load generator: epoll, many source addresses.

pub mod crowd;
mod fleet;
mod handshake;
mod http;
mod job;
mod opening;
mod pace;
mod remote;
mod stream;
mod tunnel;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use mio::net::TcpStream;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::histogram::Histogram;
pub use fleet::Fleet;
pub use handshake::handshakes;
pub use http::{Answer, ask, home};
pub use job::{Job, Kind, source_from};
pub use pace::Pace;
pub use remote::{READY, Remote};
pub use stream::Targets;

/// Outcome of a load.
#[derive(Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Round trips done: messages echoed, or handshakes with echo and close.
    pub done: u64,
    /// Failures: no connection, no 101, a lost tunnel, a wrong or missing answer.
    pub errors: u64,
    /// Latency of every round trip.
    pub latency: Histogram,
    /// From the first send to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Adds the round trips and errors of another load of the same time.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.errors += other.errors;
        self.latency.add(&other.latency);
    }
}

/// The source address of client `number`: 127.1.0.1 and up, 250 to a subnet, none twice in 15 million.
pub fn source(number: usize) -> Ipv4Addr {
    let (subnet, host) = (number / 250, number % 250);
    Ipv4Addr::new(127, 1 + (subnet / 250 % 240) as u8, (subnet % 250) as u8, 1 + host as u8)
}

/// A connection under way from the source address of client `number`.
fn connect(number: usize, target: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).context("no socket")?;
    socket.set_tcp_nodelay(true)?;
    // The port is then chosen when the whole 4-tuple is known, which many connections from one address need.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(source(number), 0)).into()).context("no source port")?;
    if let Err(error) = socket.connect(&target.into()) {
        let is_under_way = error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
        anyhow::ensure!(is_under_way, "{target} cannot be connected to: {error}");
    }
    Ok(TcpStream::from_std(socket.into()))
}
