//! The other end of a connection.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Tells if the peer has closed its side of a connection, or the connection is broken, whatever bytes are unread
/// (`POLLRDHUP`).
pub fn has_closed(socket: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().intersects(closed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_end_is_seen_behind_bytes_that_nobody_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        assert!(!has_closed(&server));
        client.shutdown(Shutdown::Write).unwrap();
        while !has_closed(&server) {
            std::thread::yield_now();
        }
    }
}
