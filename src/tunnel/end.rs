//! One side of a tunnel: a stream that is read and written without waiting.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use serde::{Deserialize, Serialize};

use crate::metrics::Direction;

/// The two sides of a tunnel; as an index, 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who asked for the tunnel.
    Client,
    /// Whom the tunnel was opened to.
    Backend,
}

impl Side {
    /// Both, in the order of their indices.
    pub const ALL: [Self; 2] = [Self::Client, Self::Backend];

    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The way that bytes read from this side take.
    pub(super) fn way(self) -> Direction {
        match self {
            Self::Client => Direction::ToBackend,
            Self::Backend => Direction::ToClient,
        }
    }

    /// The side's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

/// A non-blocking stream, as a pair needs it.
pub(super) trait End {
    /// As [`Read::read`]: 0 is the end of the stream, `WouldBlock` means nothing is there.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Write::write`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Tells the other side that nothing more comes (a TCP FIN).
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl End for mio::net::TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
