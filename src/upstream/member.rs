//! Members: the backends of an upstream as their source names them.

use std::net::SocketAddr;

use crate::config;

/// A backend as its source names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name within the upstream; the address as text for a backend of the configuration.
    pub name: Box<str>,
    /// Address that connections go to.
    pub address: SocketAddr,
    /// Share of the ring; 0 takes the backend off it.
    pub weight: u16,
    /// The source is about to take the backend away. Backends of the configuration never leave in this way.
    pub leaving: bool,
}

impl Member {
    /// The members that a configuration lists, in its order.
    pub fn of(upstream: &config::Upstream) -> Vec<Self> {
        upstream.backends.iter().map(Self::from).collect()
    }
}

impl From<&config::Backend> for Member {
    fn from(backend: &config::Backend) -> Self {
        let config::Backend { address, weight } = *backend;
        Self { name: address.to_string().into(), address, weight, leaving: false }
    }
}
