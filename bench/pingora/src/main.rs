//! Stock Pingora: its example `load_balancer` over the ring that Longhaul's clients are on, and nothing more.
//!
//! The allocator is that of Pingora's example `server`, and Longhaul's.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, Opt};
use pingora::server::Server;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::Consistent;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keys of ours in Pingora's configuration file, which lets unknown ones pass.
#[derive(Deserialize)]
struct Places {
    listen: SocketAddr,
    backends: Vec<SocketAddr>,
}

struct Stock(LoadBalancer<Consistent>);

#[async_trait]
impl ProxyHttp for Stock {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let client =
            session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip().to_string());
        let backend = self.0.select(client.unwrap_or_default().as_bytes(), 256);
        let backend = backend.ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        Ok(Box::new(HttpPeer::new(backend, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|argument| argument == "--version") {
        // The crate is numbered as the Pingora that it is built on.
        println!("{}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let options = Opt::parse_args();
    let file = options.conf.as_deref().ok_or("usage: stock-pingora -c FILE")?;
    let places: Places = serde_yaml::from_str(&std::fs::read_to_string(file)?)?;
    let backends = LoadBalancer::try_from_iter(places.backends)?;
    let mut server = Server::new(Some(options))?;
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Stock(backends));
    proxy.add_tcp(&places.listen.to_string());
    server.add_service(proxy);
    server.run_forever()
}
