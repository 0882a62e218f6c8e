//! TCP sockets: reads and writes, options, descriptors, and addresses as text.

pub(crate) mod address;
pub mod descriptors;
pub mod keepalive;
pub mod peer;
pub(crate) mod tcp_info;

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags};

/// Reads from a connection, as [`std::io::Read::read`].
///
/// A call of the system and nothing else: the C library's is a cancellation point of its threads, for which it changes
/// the thread's state twice, with an atomic operation each. A message takes two calls.
pub(crate) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(socket, buffer, RecvFlags::empty())?;
    Ok(count)
}

/// Writes to a connection, as [`std::io::Write::write`], by a call of the system like [`receive`].
pub(crate) fn send(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// Does the same for bytes behind which others come soon, or the end of the stream: what does not fill a packet waits
/// for them, for a fifth of a second at the most, and leaves with them (`MSG_MORE`, tcp(7)).
pub(crate) fn send_more(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)?)
}
