//! Lost peers: the kernel probes silent connections, and gives up those whose peer acknowledges nothing.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Makes the kernel probe every connection that `listener` accepts as [`watch`] with this `timeout` would: options of a
/// listening socket are inherited. The timeout itself is not inherited on purpose: the kernel also counts the time in
/// which a client takes nothing of a long answer, and that is no loss.
///
/// # Errors
/// The socket is not one of TCP.
pub fn probe_accepted(listener: &impl AsFd, timeout: Duration) -> io::Result<()> {
    SockRef::from(listener).set_tcp_keepalive(&probes(timeout))
}

/// Makes the kernel end a tunnel whose one peer has acknowledged nothing for `timeout` (RFC 5482, RFC 9293 §3.8.4), and
/// probe it while it is silent. `None` ends the probes that the client's socket inherited. `inherited` is the timeout
/// that its listener was given, which saves a system call for most tunnels.
///
/// # Errors
/// The sockets are not those of TCP, or are closed.
pub fn watch(
    client: &impl AsFd,
    backend: &impl AsFd,
    timeout: Option<Duration>,
    inherited: Option<Duration>,
) -> io::Result<()> {
    let (client, backend) = (SockRef::from(client), SockRef::from(backend));
    let Some(time) = timeout else { return client.set_keepalive(false) };
    if inherited != timeout {
        client.set_tcp_keepalive(&probes(time))?;
    }
    backend.set_tcp_keepalive(&probes(time))?;
    client.set_tcp_user_timeout(timeout)?;
    backend.set_tcp_user_timeout(timeout)
}

/// The first probe comes after half of the time, three more in the other half. Their number is not set: where there is
/// a timeout, the kernel does not count them (Linux, `tcp_keepalive_timer`).
fn probes(timeout: Duration) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time((timeout / 2).max(Duration::from_secs(1)))
        .with_interval((timeout / 6).max(Duration::from_secs(1)))
}
