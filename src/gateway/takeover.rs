//! Takes a plain TCP connection out of Pingora's hands.
#![allow(unsafe_code, reason = "the one place where a descriptor changes hands: Pingora lends it as a number only")]

use std::io;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as TcpUnderPingora;

/// Duplicates the descriptor under `stream`, drops Pingora's own, and returns a socket that is still non-blocking.
///
/// Pingora's stream must hold no bytes: it was flushed, and its listener reads without a buffer of its own.
///
/// # Errors
/// The stream is not plain TCP, or the process has no descriptor left.
pub(super) fn take_over(stream: Stream) -> io::Result<TcpStream> {
    if !stream.as_any().is::<TcpUnderPingora>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not a plain TCP connection"));
    }
    // SAFETY: `stream` owns this descriptor and is alive until the end of this function, so the number is valid while it
    // is borrowed; `try_clone_to_owned` returns a descriptor of our own.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.id()) };
    let owned = borrowed.try_clone_to_owned()?;
    // Dropped before the new owner registers the socket with its poller: Tokio takes the old registration out here.
    drop(stream);
    Ok(owned.into())
}
