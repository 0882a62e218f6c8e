//! nginx and HAProxy as backends: they end TLS, ask for a certificate, and read PROXY headers.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;

use crate::lab::{Lab, NAME};
use crate::support::certificates::Authority;
use crate::support::{Echo, Gateway, Wire, within};

/// A server in its own folder; ended when dropped.
struct Program {
    child: Child,
    _dir: TempDir,
}

impl Program {
    /// Starts `command`, whose `{dir}` and `{address}` are filled in in `configuration`, and waits until it listens.
    async fn start(command: &[&str], configuration: &str, address: SocketAddr, files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_str().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let configuration = configuration.replace("{dir}", folder).replace("{address}", &address.to_string());
        std::fs::write(dir.path().join("conf"), configuration).unwrap();
        let arguments: Vec<String> = command.iter().map(|word| word.replace("{dir}", folder)).collect();
        let mut spawned = Command::new(&arguments[0]);
        let child = spawned.args(&arguments[1..]).stdin(Stdio::null()).spawn().unwrap();
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&arguments[0], listens).await;
        Self { child, _dir: dir }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NGINX: &str = r#"
daemon off;
master_process off;
error_log stderr error;
pid {dir}/pid;
events {}
http {
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {
        listen {address} ssl proxy_protocol;
        ssl_certificate {dir}/server.pem;
        ssl_certificate_key {dir}/server.key;
        ssl_client_certificate {dir}/clients.pem;
        ssl_verify_client on;
        location = /who {
            return 200 "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_port $ssl_server_name";
        }
        location / {
            proxy_pass http://{echo};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
}
"#;

const HAPROXY: &str = r#"
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend backends
    bind {address} accept-proxy ssl crt {dir}/both.pem ca-file {dir}/clients.pem verify required
    http-request return status 200 content-type text/plain lf-file {dir}/who if { path /who }
    default_backend echo
backend echo
    server echo {echo}
"#;

/// An address that nobody listens on, on a loopback address of its own.
fn free(last: u8) -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::new(127, 98, 0, last), 0)).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn nginx_and_haproxy_read_the_header_before_tls_and_carry_requests_and_tunnels() {
    let (lab, echo, gateways) = (Lab::new(), Echo::start().await, Authority::new("Gateways' Authority"));
    let issued = lab.authority.issue(&[NAME]);
    let files = [
        ("server.pem", issued.cert.clone()),
        ("server.key", issued.key.clone()),
        ("both.pem", format!("{}{}", issued.cert, issued.key)),
        ("clients.pem", gateways.pem.clone()),
        ("who", "%[src]:%[src_port] %[dst_port] %[ssl_fc_sni]".to_owned()),
    ];
    let nginx = ["nginx", "-p", "{dir}", "-c", "{dir}/conf"];
    let haproxy = ["haproxy", "-db", "-f", "{dir}/conf"];
    for (number, (command, configuration)) in [(&nginx[..], NGINX), (&haproxy[..], HAPROXY)].into_iter().enumerate() {
        for version in ["v1", "v2"] {
            let address = free(number as u8 + 1);
            let configuration = configuration.replace("{echo}", &echo.address().to_string());
            let _program = Program::start(command, &configuration, address, &files).await;
            let keys = format!(
                "    proxy_protocol: {version}\n    tls: {{ server_name: {NAME}, ca: '{{dir}}/ca.pem', certificate: \
                 '{{dir}}/gateway.pem', key: '{{dir}}/gateway.key' }}\n    health: {{ check: http, path: /who, \
                 interval: 30s, timeout: 30s }}\n"
            );
            let dir = lab.folder(&[address], &keys);
            gateways.issue(&["gateway"]).write(dir.path(), "gateway");
            let gateway = Gateway::begin(dir, &[], &[]).listening().await;
            let mut client = Wire::connect_from(Ipv4Addr::new(127, 0, 9, 9), gateway.address()).await;
            let source = client.stream.get_ref().local_addr().unwrap();
            let told = client.get("/who", "").await;
            let expected = format!("{source} {} {NAME}", gateway.address().port());
            assert_eq!((told.status(), told.text().trim()), (200, &*expected), "{command:?} {version}");

            let url = format!("ws://{}/", gateway.address());
            let (mut socket, _) = within("a tunnel", connect_async(url)).await.unwrap();
            within("the first message", socket.next()).await.unwrap().unwrap();
            for size in [5, 100_000] {
                socket.send(vec![b'x'; size].into()).await.unwrap();
                let echoed = within("an echo", socket.next()).await.unwrap().unwrap();
                assert_eq!(echoed.into_data().len(), size, "{command:?} {version}");
            }
            let up = format!("longhaul_backend_up{{backend=\"{address}\",upstream=\"u\"}}");
            assert_eq!(gateway.metric(&up).await, 1.0, "{command:?} {version}");
        }
    }
}
