//! One side of a tunnel: a stream that is read and written without waiting.

use std::io::{self, Read, Write};
use std::net::Shutdown;

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
