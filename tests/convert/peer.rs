//! A real nginx or HAProxy, the gateway with its converted configuration, and backends that tell their names.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::support::peer::{Peer, free};
use crate::support::{Backend, Gateway, Wire};
use crate::{longhaul, text};

/// Address of the listener in every source; both sides get one of their own in its place.
const LISTEN: &str = "127.0.0.1:8080";

/// A second listener of a source.
const OTHER: &str = "127.0.0.1:8099";

/// A program and the gateway side by side, before the same backends.
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    pub(crate) gateway: Gateway,
    pub(crate) backends: Vec<Backend>,
    /// Summary of the conversion.
    pub(crate) summary: String,
}

impl Pair {
    /// nginx with `http` as the inside of its `http` block, in which `{0}`, `{1}`, … stand for the backends.
    pub(crate) async fn nginx(lab: u8, http: &str, backends: usize) -> Self {
        let backends = servers(backends).await;
        let (address, other) = (free_address(lab), free_address(lab + 50));
        let source = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr notice;\n\
             events {{ worker_connections 256; }}\nhttp {{\n    error_log error.log;\n    client_body_temp_path body; \
             proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n    \
             map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n    proxy_http_version 1.1;\n    \
             proxy_set_header Upgrade $http_upgrade;\n    proxy_set_header Connection $connection_upgrade;\n    \
             proxy_set_header Host $host;\n    access_log off;\n{}\n}}\n",
            filled(http, &backends).replace(LISTEN, &address.to_string()).replace(OTHER, &other.to_string())
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, source).unwrap();
        let (yaml, summary) = converted(&file);
        let gateway = Gateway::start(&unbound(&unbound(&yaml, address), other)).await;
        Self { peer: Peer::nginx(address, folder), gateway, backends, summary }
    }

    /// HAProxy with `source` behind defaults of `mode http`.
    pub(crate) async fn haproxy(source: &str, backends: usize) -> Self {
        let backends = servers(backends).await;
        let source = format!(
            "global\n    maxconn 256\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    \
             timeout server 60s\n    timeout tunnel 1h\n{}",
            filled(source, &backends)
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, &source).unwrap();
        let (yaml, summary) = converted(&file);
        std::fs::write(&file, source.replace(LISTEN, "fd@0")).unwrap();
        let gateway = Gateway::start(&yaml.replace(LISTEN, "127.0.0.1:0")).await;
        Self { peer: Peer::haproxy(&file, folder), gateway, backends, summary }
    }
}

/// A file with a free port in place of an address.
fn unbound(yaml: &str, address: SocketAddr) -> String {
    yaml.replace(&format!("address: {address}\n"), "address: 127.0.0.1:0\n")
}

fn filled(source: &str, backends: &[Backend]) -> String {
    let fill = |text: String, (index, backend): (usize, &Backend)| {
        text.replace(&format!("{{{index}}}"), &backend.address.to_string())
    };
    backends.iter().enumerate().fold(source.to_owned(), fill)
}

/// The Longhaul file and the summary of a source.
fn converted(file: &Path) -> (String, String) {
    let output = longhaul(&["convert", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// Backends that answer with their address in `X-Backend`: 101 to an upgrade, 200 to anything else.
async fn servers(count: usize) -> Vec<Backend> {
    let mut backends = Vec::new();
    for _ in 0..count {
        let serve = |stream: tokio::net::TcpStream| async move {
            let name = stream.local_addr().unwrap();
            let mut wire = Wire::new(stream);
            while let Some(request) = wire.request().await {
                let key = request.head.get("sec-websocket-key");
                let answer = match key.filter(|_| request.head.get("upgrade").is_some()) {
                    Some(key) => format!(
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: {}\r\nX-Backend: {name}\r\n\r\n",
                        derive_accept_key(key.as_bytes())
                    ),
                    None => format!("HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nContent-Length: 0\r\n\r\n"),
                };
                if wire.stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        };
        backends.push(Backend::start(serve).await);
    }
    backends
}

/// An address for a lab's listener.
fn free_address(lab: u8) -> SocketAddr {
    free((0..16).map(|run| (Ipv4Addr::new(127, 79, run, 100 + lab), 18_083).into()))
}
