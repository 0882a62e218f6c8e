//! Crowds: more tunnels of one worker than there are descriptors.

use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::hook::TunnelId;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::tunnel::{Addresses, KeyMark, NewTunnel, Record};
use crate::upstream::{BackendState, Registry as Backends};

/// One connection: an end that tunnels share. What it is sent is read and dropped until the last of them has gone.
fn shared() -> Arc<mio::net::TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    std::thread::spawn(move || while far.read(&mut [0; 64 * 1024]).is_ok_and(|count| count > 0) {});
    Arc::new(mio::net::TcpStream::from_std(near))
}

/// Tunnels of one worker, as they are elsewhere but for their sockets: all clients are one connection, and all backends
/// another.
pub(super) struct Crowd {
    pub(super) bench: Bench,
    ends: [Arc<mio::net::TcpStream>; 2],
    pub(super) backend: Arc<BackendState>,
    metrics: Arc<UpstreamMetrics>,
    pub(super) route: Arc<str>,
}

impl Crowd {
    /// So many tunnels with Pings every 30 s, which open one after the other within this time.
    pub(super) fn opened(count: usize, within: Duration) -> Self {
        let mut crowd = Self {
            bench: Bench::start(),
            ends: [shared(), shared()],
            backend: Backends::default().backend("u", "b", (Ipv4Addr::LOCALHOST, 1).into()),
            metrics: Metrics::new().upstream("u"),
            route: "* /".into(),
        };
        let start = crowd.bench.now;
        for number in 0..count {
            crowd.bench.now = start + within.mul_f64(number as f64 / count as f64);
            crowd.open(number);
        }
        crowd.bench.now = start + within;
        crowd
    }

    /// Opens one more, of this number.
    pub(super) fn open(&mut self, number: usize) {
        let new = Box::new(self.new_tunnel(number));
        self.bench.tunnels.open(new, self.bench.now);
    }

    fn new_tunnel(&self, number: usize) -> NewTunnel {
        let record = Record {
            id: TunnelId::random(),
            generation: 1,
            request_id: "b59dec5f45a89037e17f804c2677afe9".into(),
            addresses: Addresses::new(Ipv4Addr::LOCALHOST.into(), (Ipv4Addr::LOCALHOST, 1).into()),
            rare: None,
            route: Arc::clone(&self.route),
            key_source: None,
            by_hook: false,
            key: KeyMark::new(None, Some(number as u32)),
            guard: self.backend.occupy(),
            admitted: None,
            metrics: Arc::clone(&self.metrics),
        };
        let [client, backend] = self.ends.each_ref().map(|end| Arc::clone(end).into());
        let limits = TunnelLimits { ping: Some(PING), ..TunnelLimits::default() };
        NewTunnel { client, backend, early: Default::default(), limits, record, kept: None, hooks: None }
    }
}

/// Silence after which a tunnel of a crowd sends Pings.
pub(super) const PING: Duration = Duration::from_secs(30);
