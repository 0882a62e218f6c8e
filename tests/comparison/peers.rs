//! The three proxies before one backend, processes of their own.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::Gateway;
use crate::support::peer::{Peer, free};

/// Longhaul, nginx and HAProxy. They end when dropped.
pub(crate) struct Peers {
    longhaul: Gateway,
    nginx: Peer,
    haproxy: Peer,
}

impl Peers {
    pub(crate) async fn start(backend: SocketAddr) -> Self {
        let yaml = format!(
            "version: 1\nlisteners:\n  - address: 127.0.0.1:0\naccess_log: off\nroutes:\n  - upstream: u\n\
             upstreams:\n  u:\n    backends: [{backend}]\n    health: off\n"
        );
        Self { longhaul: Gateway::start(&yaml).await, nginx: start_nginx(backend), haproxy: start_haproxy(backend) }
    }

    /// Longhaul's, nginx's and HAProxy's.
    pub(crate) fn addresses(&self) -> [SocketAddr; 3] {
        [self.longhaul.address(), self.nginx.address, self.haproxy.address]
    }
}

fn start_nginx(backend: SocketAddr) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let address = free((0..16).map(|run| (Ipv4Addr::new(127, 78, run, 100), 18_082).into()));
    std::fs::write(folder.path().join("nginx.conf"), nginx(address, backend)).unwrap();
    Peer::nginx(address, folder)
}

fn start_haproxy(backend: SocketAddr) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, haproxy(backend)).unwrap();
    Peer::haproxy(&file, folder)
}

/// A proxy for WebSockets as docs/migrating.md has it.
fn nginx(address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr notice;
        events {{ worker_connections 64; }}
        http {{
            access_log off; error_log error.log; client_body_temp_path body; proxy_temp_path proxy;
            fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            upstream u {{ server {backend} max_fails=0; }}
            server {{
                listen {address};
                location / {{
                    proxy_pass http://u; proxy_http_version 1.1; proxy_next_upstream off;
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
                    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
        }}"
    )
}

fn haproxy(backend: SocketAddr) -> String {
    format!(
        "global\n    maxconn 64\ndefaults\n    mode http\n    retries 0\n    timeout connect 10s\n    \
         timeout client 60s\n    timeout server 60s\n    option forwardfor\nfrontend web\n    bind fd@0\n    \
         default_backend u\nbackend u\n    server s {backend}\n"
    )
}
