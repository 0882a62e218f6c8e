//! Idle tunnels in this process: two descriptors each, so that many fit.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use longhaul::config::TunnelLimits;
use longhaul::metrics::{Metrics, UpstreamMetrics};
use longhaul::tunnel::{RequestId, Tunnels};
use longhaul::upstream::{BackendState, Registry};

use super::lane::{Lane, connected};

/// Tunnels of one upstream whose ends are copies of one connection, on which nothing comes before its end.
pub struct Crowd {
    far: TcpStream,
    near: TcpStream,
}

/// Parts that tunnels of one upstream and route have in common.
pub struct Common {
    backend: Arc<BackendState>,
    metrics: Arc<UpstreamMetrics>,
    route: Arc<str>,
}

impl Common {
    pub fn new() -> Self {
        let backend = Registry::default().backend("crowd", "127.0.0.1:1", ([127, 0, 0, 1], 1).into());
        Self { backend, metrics: Metrics::new().upstream("crowd"), route: "* /".into() }
    }
}

impl Crowd {
    /// Opens `count` tunnels.
    pub fn open(tunnels: &Tunnels, common: &Common, count: usize) -> Self {
        let (far, near) = connected();
        let address = far.local_addr().unwrap();
        for number in 0..count {
            let ends = [(); 2].map(|()| near.try_clone().unwrap().into());
            let mut tunnel = Lane::new_tunnel(ends, [address; 2], TunnelLimits::default());
            tunnel.record.guard = common.backend.occupy();
            tunnel.record.metrics = Arc::clone(&common.metrics);
            tunnel.record.route = Arc::clone(&common.route);
            tunnel.record.request_id = RequestId::from(format!("{number:032x}").as_str());
            tunnels.open(tunnel);
        }
        Self { far, near }
    }

    /// Ends the connection, and with it every tunnel.
    pub fn leave(self) {
        self.far.shutdown(Shutdown::Both).unwrap();
        drop(self.near);
    }
}
