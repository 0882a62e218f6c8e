//! PROXY headers to backends: first on each connection, before TLS, and of one client only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use longhaul::proxy_protocol::{self, HeaderRead, ProxiedConnection, ProxyVersion};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio_tungstenite::connect_async;

use crate::lab::{Lab, TLS};
use crate::support::{Backend, Echo, Gateway, Named, Wire, within};

/// A backend behind PROXY headers: reads one from each connection, and passes the rest on to `inner`.
struct Behind {
    backend: Backend,
    heard: Arc<Mutex<Vec<(ProxyVersion, ProxiedConnection)>>>,
}

impl Behind {
    async fn start(inner: SocketAddr) -> Self {
        let heard: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&heard);
        let backend = Backend::start(move |stream| {
            let kept = Arc::clone(&kept);
            async move {
                let mut wire = Wire::new(stream);
                let mut bytes = Vec::new();
                let header = loop {
                    let more = wire.stream.fill_buf().await.unwrap().to_vec();
                    if more.is_empty() {
                        return;
                    }
                    bytes.extend_from_slice(&more);
                    wire.stream.consume(more.len());
                    match proxy_protocol::read(&bytes).unwrap() {
                        HeaderRead::NeedsMore => {}
                        HeaderRead::Header(length, header) => {
                            bytes.drain(..length);
                            break header;
                        }
                        HeaderRead::NotProxy => panic!("{bytes:?}"),
                    }
                };
                kept.lock().unwrap().push((header.version, header.origin));
                let mut plain = tokio::net::TcpStream::connect(inner).await.unwrap();
                let _ = plain.write_all(&bytes).await;
                let _ = tokio::io::copy_bidirectional(&mut wire.stream, &mut plain).await;
            }
        })
        .await;
        Self { backend, heard }
    }

    fn heard(&self) -> Vec<(ProxyVersion, ProxiedConnection)> {
        self.heard.lock().unwrap().clone()
    }
}

const VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

#[tokio::test]
async fn requests_and_tunnels_name_their_client_and_no_connection_serves_two() {
    let lab = Lab::new();
    let (named, echo) = (Named::start().await, Echo::start().await);
    for (word, version) in VERSIONS {
        for tls in ["", TLS] {
            let inner = async |plain| {
                if tls.is_empty() {
                    (plain, None)
                } else {
                    let front = lab.front(plain).await;
                    (front.address(), Some(front))
                }
            };
            let (http, _http_front) = inner(named.address()).await;
            let behind = Behind::start(http).await;
            let keys = format!("{tls}    proxy_protocol: {word}\n");
            let gateway = lab.gateway(&[behind.backend.address], &keys).await;
            let mut sent = Vec::new();
            let mut clients = Vec::new();
            for number in [1, 2] {
                let mut client = Wire::connect_from(Ipv4Addr::new(127, 0, 7, number), gateway.address()).await;
                let source = client.stream.get_ref().local_addr().unwrap();
                for _ in 0..2 {
                    assert_eq!(client.get("/", "").await.address(), named.address());
                    sent.push((version, ProxiedConnection::Proxied { source, destination: gateway.address() }));
                }
                clients.push(client);
            }
            assert_eq!(behind.heard(), sent);

            let (sockets, _socket_front) = inner(echo.address()).await;
            let behind = Behind::start(sockets).await;
            let gateway = lab.gateway(&[behind.backend.address], &keys).await;
            let (socket, _) = within("a tunnel", connect_async(format!("ws://{}/", gateway.address()))).await.unwrap();
            let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.get_ref() else { panic!() };
            let source = stream.local_addr().unwrap();
            assert_eq!(
                behind.heard(),
                [(version, ProxiedConnection::Proxied { source, destination: gateway.address() })]
            );
        }
    }
}

#[tokio::test]
async fn the_client_that_a_trusted_proxy_names_is_passed_on_without_a_port() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let behind = Behind::start(named.address()).await;
    let dir = lab.folder(&[behind.backend.address], "    health: off\n    proxy_protocol: v2\n");
    let file = dir.path().join("longhaul.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{yaml}trusted_proxies: [127.0.0.0/8]\n")).unwrap();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    Wire::connect(gateway.address()).await.get("/", "X-Forwarded-For: 203.0.113.7\r\n").await;
    let source = "203.0.113.7:0".parse().unwrap();
    assert_eq!(
        behind.heard(),
        [(ProxyVersion::V2, ProxiedConnection::Proxied { source, destination: gateway.address() })]
    );
}

#[tokio::test]
async fn checks_say_that_they_are_the_gateways_own() {
    let lab = Lab::new();
    let (named, echo) = (Named::start().await, Echo::start().await);
    for (word, version) in VERSIONS {
        for check in ["tcp", "http", "websocket"] {
            let inner = if check == "websocket" { echo.address() } else { named.address() };
            let behind = Behind::start(inner).await;
            let keys = format!("    proxy_protocol: {word}\n    health: {{ check: {check} }}\n");
            let gateway = Gateway::begin(lab.folder(&[behind.backend.address], &keys), &[], &[]).listening().await;
            let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", behind.backend.address);
            gateway.metric_becomes(&up, 1.0).await;
            // Text has no word for it.
            let own = if version == ProxyVersion::V1 { ProxiedConnection::Unknown } else { ProxiedConnection::Local };
            let heard = async {
                while behind.heard().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            within("a header", heard).await;
            assert_eq!(behind.heard()[0], (version, own), "{check}");
        }
    }
}
