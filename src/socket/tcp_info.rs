//! The system's own account of a TCP connection (Linux, `TCP_INFO`).

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::GetSockOpt;
use nix::{getsockopt_impl, libc, sockopt_impl};

sockopt_impl!(
    /// The state of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

/// Bytes that the other side has acknowledged so far; `None` where the system does not tell.
pub(crate) fn acknowledged_bytes(stream: &impl AsFd) -> Option<u64> {
    TcpInfo.get(&stream.as_fd()).ok().map(|info| info.tcpi_bytes_acked)
}

/// Packets that have come, those without data as well.
#[cfg(test)]
pub(crate) fn packets_in(stream: &impl AsFd) -> u32 {
    TcpInfo.get(&stream.as_fd()).unwrap().tcpi_segs_in
}

/// Tells whether the other side of a connection that timed out had acknowledged something not long before.
///
/// A side whose window is closed acknowledges the probes of it, each of which comes after twice the time of the one
/// before (RFC 9293 §3.8.6.1): the last of them came in the second half of the time. A side that is gone acknowledges
/// nothing.
pub(crate) fn acknowledged_lately(stream: &impl AsFd) -> bool {
    let Ok(info) = TcpInfo.get(&stream.as_fd()) else { return false };
    let Ok(limit @ 1..) = rustix::net::sockopt::tcp_user_timeout(stream) else { return false };
    Duration::from_millis(info.tcpi_last_ack_recv.into()) < Duration::from_millis(limit.into()) * 3 / 4
}
