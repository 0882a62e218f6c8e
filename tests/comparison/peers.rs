//! The three proxies before one backend, processes of their own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

use crate::support::Gateway;

/// Longhaul, nginx and HAProxy. They end when dropped.
pub(crate) struct Peers {
    longhaul: Gateway,
    nginx: Peer,
    haproxy: Peer,
}

struct Peer {
    child: Child,
    address: SocketAddr,
    /// Standard error, kept open: nginx ends when it cannot write there.
    _stderr: Option<BufReader<ChildStderr>>,
    /// Its configuration and logs.
    _folder: TempDir,
}

impl Peers {
    pub(crate) async fn start(backend: SocketAddr) -> Self {
        let yaml = format!(
            "version: 1\nlisteners:\n  - address: 127.0.0.1:0\naccess_log: off\nroutes:\n  - upstream: u\n\
             upstreams:\n  u:\n    backends: [{backend}]\n    health: off\n"
        );
        Self { longhaul: Gateway::start(&yaml).await, nginx: Peer::nginx(backend), haproxy: Peer::haproxy(backend) }
    }

    /// Longhaul's, nginx's and HAProxy's.
    pub(crate) fn addresses(&self) -> [SocketAddr; 3] {
        [self.longhaul.address(), self.nginx.address, self.haproxy.address]
    }
}

impl Peer {
    fn nginx(backend: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        std::fs::write(folder.path().join("nginx.conf"), nginx(address, backend)).unwrap();
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        let mut child = started(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        // nginx names its event method right after it has opened its sockets.
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("event method") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "nginx did not start:\n{said}");
        }
        Self { child, address, _stderr: Some(stderr), _folder: folder }
    }

    /// HAProxy listens on its standard input: who connects waits there until it accepts.
    fn haproxy(backend: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, haproxy(backend)).unwrap();
        let mut command = Command::new(program("haproxy"));
        command.args(["-db", "-f"]).arg(file).stdin(Stdio::from(OwnedFd::from(listener)));
        Self { child: started(&mut command), address, _stderr: None, _folder: folder }
    }
}

fn started(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs nginx and HAProxy"))
}

/// An address below the ephemeral ports, so that no connection's own end takes it, and that no other run is using.
fn free_address() -> SocketAddr {
    let addresses = (0..16).map(|run| SocketAddr::from((Ipv4Addr::new(127, 78, run, 100), 18_082)));
    let mut free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    free.next().expect("one of 16 addresses is free")
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian has servers in /usr/sbin, which is on no ordinary user's path.
fn program(name: &str) -> String {
    let found = format!("/usr/sbin/{name}");
    if Path::new(&found).exists() { found } else { name.to_owned() }
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
