//! PROXY protocol at the listeners: by hand, cut anywhere, and from HAProxy and nginx.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use longhaul::proxy_protocol::{ProxyVersion, write, write_local};
use tokio::net::TcpSocket;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::{Named, PATIENCE, Wire};

const CLIENT: &str = "198.51.100.7:4711";

/// A gateway that believes 127.0.0.2: a TLS listener and a plain one with this `proxy_protocol`.
async fn lab(backend: &Named, expectation: &str) -> Lab {
    let key = format!("  - address: 127.0.0.1:0\n    proxy_protocol: {expectation}\n");
    let text =
        yaml(&[backend.address()], "", "    affinity: [client_ip]\n").replace("  - address: 127.0.0.1:0\n", &key);
    Lab::start_yaml(&text.replace("version: 1\n", "version: 1\ntrusted_proxies: [127.0.0.2]\n")).await
}

fn header(version: ProxyVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(version, CLIENT.parse().unwrap(), "203.0.113.1:443".parse().unwrap(), &mut bytes);
    bytes
}

async fn connect(from: u8, to: SocketAddr) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Waits until so many headers have failed in this way.
async fn failed(lab: &Lab, failure: &str, times: usize) {
    let name = format!("longhaul_proxy_header_failures_total{{failure=\"{failure}\"}}");
    lab.gateway.metric_becomes(&name, times as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_the_header_is_the_clients_wherever_the_header_is_cut() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = header(version);
        for cut in 0..=header.len() {
            let mut wire = Wire::new(connect(2, lab.gateway.addresses[1]).await);
            wire.send(&header[..cut]).await;
            tokio::task::yield_now().await;
            wire.send(&header[cut..]).await;
            wire.send(REQUEST).await;
            assert_eq!(wire.answer().await.status(), 200, "{version:?} cut at {cut}");
            assert_eq!(backend.last().head.get("x-forwarded-for").unwrap(), "198.51.100.7");
        }
    }
    let line = lab.gateway.access.find(&["request", "client=198.51.100.7", "peer=198.51.100.7:4711"]).await;
    assert!(line.contains("key_source=client_ip"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_stands_before_tls() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let stream = connect(2, lab.address()).await.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (&stream).write_all(&header(version)).unwrap();
        let mut client = Client::over(stream, "a.test", &config(&lab.authority.pem, &VERSIONS, None)).unwrap();
        client.get("/", "");
        let head = backend.last().head;
        assert_eq!(head.get("x-forwarded-for").unwrap(), "198.51.100.7");
        assert_eq!(head.get("x-forwarded-proto").unwrap(), "https");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_believed() {
    let backend = Named::start().await;
    for expectation in ["required", "optional"] {
        let lab = lab(&backend, expectation).await;
        let mut wire = Wire::new(connect(3, lab.gateway.addresses[1]).await);
        // The gateway may have closed by now.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &header(ProxyVersion::V2)).await;
        assert!(wire.rest().await.is_empty());
        failed(&lab, "untrusted", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_header_may_be_left_out_by_anybody_and_a_required_one_by_nobody() {
    let backend = Named::start().await;
    let optional = lab(&backend, "optional").await;
    for from in [2, 3] {
        let mut wire = Wire::new(connect(from, optional.gateway.addresses[1]).await);
        wire.send(REQUEST).await;
        assert_eq!(wire.answer().await.status(), 200);
        assert_eq!(backend.last().head.get("x-forwarded-for").unwrap(), format!("127.0.0.{from}"));
    }
    // Requests whose beginning may be that of a header.
    let mut wire = Wire::new(connect(2, optional.gateway.addresses[1]).await);
    wire.send("PROPFIND / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.answer().await.status(), 200);
    let required = lab(&backend, "required").await;
    let mut wire = Wire::new(connect(2, required.gateway.addresses[1]).await);
    wire.send(REQUEST).await;
    assert!(wire.rest().await.is_empty());
    failed(&required, "missing", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_own_connection_comes_from_the_proxy() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut header = Vec::new();
        write_local(version, &mut header);
        let mut wire = Wire::new(connect(2, lab.gateway.addresses[1]).await);
        wire.send(&header).await;
        wire.send(REQUEST).await;
        assert_eq!(wire.answer().await.status(), 200);
        assert_eq!(backend.last().head.get("x-forwarded-for").unwrap(), "127.0.0.2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_header_closes_the_connection_and_a_proxy_may_leave() {
    let backend = Named::start().await;
    let lab = lab(&backend, "optional").await;
    for bytes in [&b"PROXY TCP4 nobody 1 2 3\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        let mut wire = Wire::new(connect(2, lab.gateway.addresses[1]).await);
        wire.send(bytes).await;
        assert!(wire.rest().await.is_empty());
    }
    failed(&lab, "malformed", 2).await;
    let mut stream = connect(2, lab.gateway.addresses[1]).await.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(b"PROXY TC").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    failed(&lab, "closed", 1).await;
    lab.gateway.log.find(&["WARN", "for its PROXY header (closed): the peer left before its end"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_only_connects_is_counted_and_not_warned_of() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    for listener in 0..2 {
        drop(connect(2, lab.gateway.addresses[listener]).await);
    }
    failed(&lab, "closed", 2).await;
    // One that says whose check it is, and nothing else, has come as far as TLS.
    let mut check = Vec::new();
    write_local(ProxyVersion::V2, &mut check);
    Wire::new(connect(2, lab.address()).await).send(&check).await;
    lab.gateway.metric_becomes("longhaul_tls_handshake_failures_total{failure=\"closed\"}", 1.0).await;
    // What comes after it stands in the log.
    Wire::new(connect(3, lab.address()).await).rest().await;
    lab.gateway.log.find(&["WARN", "for its PROXY header (untrusted)"]).await;
    assert_eq!(lab.gateway.log.count(&["(closed)"]), 0);
}

/// An address that nobody listens on, on a loopback address of the test's own: no other test is given it.
fn free(last: u8) -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::new(127, 97, 0, last), 0)).unwrap().local_addr().unwrap()
}

/// A program that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens.
async fn connected(to: SocketAddr) -> tokio::net::TcpStream {
    let connect = async {
        loop {
            match tokio::net::TcpStream::connect(to).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    crate::support::within("a listener", connect).await
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_sends_headers_that_are_understood() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    for word in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn proxy-v2-options unique-id,authority,crc32c"] {
        let address = free(1);
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 10s\n  timeout server 10s\n\
             listen l\n  bind {address}\n  unique-id-format %ID\n  server s {} source 127.0.0.2 {word}\n",
            lab.gateway.addresses[1]
        );
        let path = lab.file("haproxy.cfg");
        std::fs::write(&path, text).unwrap();
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-db").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let _haproxy = Running(haproxy.spawn().unwrap());
        let mut wire = Wire::new(connected(address).await);
        wire.send(REQUEST).await;
        assert_eq!(wire.answer().await.status(), 200, "{word}");
        assert_eq!(backend.last().head.get("x-forwarded-for").unwrap(), "127.0.0.1", "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_sends_headers_that_are_understood() {
    let backend = Named::start().await;
    let lab = lab(&backend, "required").await;
    let address = free(2);
    let modules = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(modules).exists() { format!("load_module {modules};\n") } else { String::new() };
    let text = format!(
        "{load}daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\n\
         events {{}}\nstream {{\n  server {{\n    \
         listen {address};\n    proxy_pass {};\n    proxy_bind 127.0.0.2;\n    proxy_protocol on;\n  }}\n}}\n",
        lab.gateway.addresses[1],
        dir = lab.dir.path().display(),
    );
    let path = lab.file("nginx.conf");
    std::fs::write(&path, text).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&path).arg("-p").arg(lab.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut nginx = Running(nginx.spawn().unwrap());
    if let Ok(Some(status)) = nginx.0.try_wait() {
        panic!("nginx ended: {status}");
    }
    let mut wire = Wire::new(connected(address).await);
    wire.send(REQUEST).await;
    assert_eq!(wire.answer().await.status(), 200);
    assert_eq!(backend.last().head.get("x-forwarded-for").unwrap(), "127.0.0.1");
}
