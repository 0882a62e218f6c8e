//! Peers that are lost without a word: the kernel is told to notice.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use log::debug;
use socket2::{SockRef, TcpKeepalive};

use crate::config::TunnelLimits;

/// Has the kernel end a tunnel's connection whose peer has acknowledged nothing for `timeout` (RFC 5482, RFC 9293 §3.8.4).
pub(super) fn watch_for_loss(client: &impl AsFd, backend: &impl AsFd, timeout: Option<Duration>) {
    let (client, backend) = (SockRef::from(client), SockRef::from(backend));
    let told = match timeout {
        // What it was accepted with.
        None => client.set_keepalive(false),
        Some(timeout) => {
            let inherited = TunnelLimits::default().tcp_user_timeout == Some(timeout);
            let client_probed = if inherited { Ok(()) } else { client.set_tcp_keepalive(&probes(timeout)) };
            client_probed
                .and_then(|()| backend.set_tcp_keepalive(&probes(timeout)))
                .and_then(|()| client.set_tcp_user_timeout(Some(timeout)))
                .and_then(|()| backend.set_tcp_user_timeout(Some(timeout)))
        }
    };
    if let Err(error) = told {
        debug!("a tunnel's sockets cannot be watched for a lost peer: {error}");
    }
}

/// Has what a listener accepts probed as a tunnel with the default `tcp_user_timeout` is: it inherits that, and nothing is left
/// to be said for most tunnels. The timeout itself is for tunnels alone, since the kernel also counts the time in which a
/// client takes nothing of a long answer.
///
/// # Errors
/// The socket is not one of TCP.
pub fn probe_accepted(listener: &impl AsFd) -> io::Result<()> {
    match default_probes() {
        Some(probes) => SockRef::from(listener).set_tcp_keepalive(&probes),
        None => Ok(()),
    }
}

/// The first probe after half of the time, three more in the other half. Their number is not set: where there is a timeout, the
/// kernel does not count them (Linux, `tcp_keepalive_timer`).
fn probes(timeout: Duration) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time((timeout / 2).max(Duration::from_secs(1)))
        .with_interval((timeout / 6).max(Duration::from_secs(1)))
}

fn default_probes() -> Option<TcpKeepalive> {
    TunnelLimits::default().tcp_user_timeout.map(probes)
}
