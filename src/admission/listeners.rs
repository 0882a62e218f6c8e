//! Counts of the connections of the process, and of each of its listeners.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::clients::Clients;

/// Counts of the process.
#[derive(Debug)]
pub(super) struct Process {
    /// Clients' connections, tunnels among them.
    open: AtomicUsize,
    pub(super) clients: Clients,
}

impl Process {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Counts of one listener.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) process: Arc<Process>,
    /// Its connections, tunnels among them.
    open: AtomicUsize,
}

impl Listening {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// One of the connections of a listener and of the process.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) listening: Arc<Listening>,
}

impl Open {
    pub(super) fn begin(listening: &Arc<Listening>) -> Self {
        listening.process.open.fetch_add(1, Ordering::Relaxed);
        listening.open.fetch_add(1, Ordering::Relaxed);
        Self { listening: Arc::clone(listening) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listening.process.open.fetch_sub(1, Ordering::Relaxed);
        self.listening.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The listeners of the process. Their number and order are those of its start; a reload does not change them.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) process: Arc<Process>,
    counts: Box<[Arc<Listening>]>,
    /// Counts what came by a listener that this process does not have.
    elsewhere: Arc<Listening>,
    /// Addresses of the sockets, once these are bound.
    addresses: OnceLock<Box<[SocketAddr]>>,
}

impl Listeners {
    pub(super) fn new(number: usize, now: Instant) -> Self {
        let process = Arc::new(Process { open: AtomicUsize::new(0), clients: Clients::new(now) });
        let listening = || Arc::new(Listening { process: Arc::clone(&process), open: AtomicUsize::new(0) });
        let (counts, elsewhere) = ((0..number).map(|_| listening()).collect(), listening());
        Self { process, counts, elsewhere, addresses: OnceLock::new() }
    }

    /// Notes the addresses of the sockets, in the order of the configuration.
    pub(super) fn bound_to(&self, addresses: Box<[SocketAddr]>) {
        // They do not change while the process lives.
        let _ = self.addresses.set(addresses);
    }

    /// The listener with this place in the configuration.
    pub(super) fn number(&self, number: usize) -> &Arc<Listening> {
        self.counts.get(number).unwrap_or(&self.elsewhere)
    }

    /// The listener that a connection with this local address came by: the one with that address, else one with all
    /// addresses of its port, those of the same family before `[::]`.
    pub(super) fn of(&self, local: Option<SocketAddr>) -> &Arc<Listening> {
        let addresses = self.addresses.get().map_or(&[][..], |addresses| addresses);
        let number = local.and_then(|local| {
            let (ip, port) = (local.ip().to_canonical(), local.port());
            let all_v4 = IpAddr::from([0, 0, 0, 0]);
            let all = IpAddr::from(Ipv6Addr::UNSPECIFIED);
            let takers = [Some(ip), ip.is_ipv4().then_some(all_v4), Some(all)];
            takers.into_iter().flatten().find_map(|taker| {
                addresses.iter().position(|bound| bound.port() == port && bound.ip().to_canonical() == taker)
            })
        });
        number.map_or(&self.elsewhere, |number| self.number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_came_by_the_listener_that_takes_its_local_address() {
        let listeners = Listeners::new(4, Instant::now());
        let bound = ["127.0.0.1:80", "0.0.0.0:80", "[::]:443", "[2001:db8::1]:443"];
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(Arc::ptr_eq(listeners.of(at("127.0.0.1:80")), &listeners.elsewhere), "nothing is bound yet");
        listeners.bound_to(bound.iter().map(|address| address.parse().unwrap()).collect());
        for (local, number) in [
            ("127.0.0.1:80", 0),
            ("192.0.2.7:80", 1),
            ("192.0.2.7:443", 2),
            ("[::ffff:192.0.2.7]:443", 2),
            ("[2001:db8::1]:443", 3),
            ("[2001:db8::2]:443", 2),
        ] {
            assert!(Arc::ptr_eq(listeners.of(at(local)), listeners.number(number)), "{local}");
        }
        for local in [at("127.0.0.1:81"), at("[2001:db8::1]:80"), None] {
            assert!(Arc::ptr_eq(listeners.of(local), &listeners.elsewhere), "{local:?}");
        }
    }
}
