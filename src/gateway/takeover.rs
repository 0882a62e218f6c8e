//! Takes a plain TCP connection out of Pingora's hands.
#![allow(unsafe_code, reason = "the one place where a descriptor changes hands: Pingora lends it as a number only")]

use std::io;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as TcpUnderPingora;

use super::accepted::Accepted;

/// Takes the socket out from under `stream`, still non-blocking, and the bytes that were read of it and that Pingora has not
/// asked for. Where Pingora made the stream itself, its descriptor is duplicated and Pingora's own dropped.
///
/// Pingora's stream must hold no bytes: it was flushed, and its listener reads without a buffer of its own.
///
/// # Errors
/// The stream is not plain TCP, or the process has no descriptor left.
pub(super) fn take_over(stream: Stream) -> io::Result<(TcpStream, Vec<u8>)> {
    if stream.as_any().is::<Accepted>() {
        let accepted = stream.into_any().downcast::<Accepted>().expect("it was looked at a moment ago");
        return accepted.into_socket();
    }
    if !stream.as_any().is::<TcpUnderPingora>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not a plain TCP connection"));
    }
    // SAFETY: `stream` owns this descriptor and is alive until the end of this function, so the number is valid while it
    // is borrowed; `try_clone_to_owned` returns a descriptor of our own.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.id()) };
    let owned = borrowed.try_clone_to_owned()?;
    // Dropped before the new owner registers the socket with its poller: Tokio takes the old registration out here.
    drop(stream);
    Ok((owned.into(), Vec::new()))
}
