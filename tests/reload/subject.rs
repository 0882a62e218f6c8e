//! The gateway under test with its configuration file, and backends that say who they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Backend, Gateway};

/// A gateway whose file is rewritten and read again.
pub(crate) struct Subject {
    pub(crate) gateway: Gateway,
    reloads: usize,
    refusals: usize,
}

impl Subject {
    /// A gateway with these `routes` and `upstreams`, metrics, and a listener on a free port.
    pub(crate) async fn start(rest: &str) -> Self {
        let gateway = Gateway::start(&whole(rest)).await;
        Self { gateway, reloads: 0, refusals: 0 }
    }

    /// Path of the configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.gateway.dir.path().join("longhaul.yaml")
    }

    /// Writes the file anew.
    pub(crate) fn write(&self, rest: &str) {
        self.write_at(&self.file(), &whole(rest));
    }

    /// Writes a whole file anywhere.
    pub(crate) fn write_at(&self, path: &Path, text: &str) {
        std::fs::write(path, text.replace("{dir}", self.gateway.dir.path().to_str().unwrap())).unwrap();
    }

    /// Writes the file anew, sends SIGHUP, and returns the log line about the reload.
    pub(crate) async fn reload(&mut self, rest: &str) -> String {
        self.write(rest);
        self.gateway.signal("HUP");
        self.reloaded().await
    }

    /// Waits for the next reload that succeeds.
    pub(crate) async fn reloaded(&mut self) -> String {
        self.reloads += 1;
        self.gateway.log.find_nth(&["reloaded: generation"], self.reloads - 1).await
    }

    /// Writes the whole file anew and sends SIGHUP, which must be refused; returns the log behind that line.
    pub(crate) async fn refuse(&mut self, text: &str) -> String {
        self.write_at(&self.file(), text);
        self.gateway.signal("HUP");
        self.refusals += 1;
        self.gateway.log.find_nth(&["the reload is refused, nothing has changed"], self.refusals - 1).await
    }

    /// The status and body of an answer.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.gateway.address())).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The address of the backend that answered.
    pub(crate) async fn backend_of(&self, path: &str) -> SocketAddr {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{body}");
        body.parse().unwrap()
    }
}

/// A complete file; `{dir}` stands for the gateway's folder.
pub(crate) fn whole(rest: &str) -> String {
    format!(
        "listeners:\n  - address: 127.0.0.1:0\nthreads: 2\naccess_log: {{ to: stdout }}\n\
         control_sock: \"{{dir}}/control.sock\"\nupgrade_sock: \"{{dir}}/upgrade.sock\"\n\
         metrics:\n  address: 127.0.0.1:0\n{rest}"
    )
}

/// Routes and upstreams with one route each: the path is the upstream's name.
pub(crate) fn upstreams(upstreams: &[(&str, &str)]) -> String {
    let mut text = "routes:\n".to_owned();
    for (name, _) in upstreams {
        text += &format!("  - path: /{name}\n    upstream: {name}\n");
    }
    text += "upstreams:\n";
    for (name, keys) in upstreams {
        text += &format!("  {name}: {{ {keys} }}\n");
    }
    text
}

/// An HTTP backend that answers every request with its own address.
pub(crate) async fn named() -> Backend {
    Backend::start(|stream| async move {
        let address = stream.local_addr().unwrap().to_string();
        let mut stream = BufReader::new(stream);
        while read_head(&mut stream).await.is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{address}", address.len());
            if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Reads a request's head; `None` at the end of the stream.
pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
