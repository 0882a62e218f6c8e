//! Logs that nobody reads: no tunnel, no request and no end of the process waits for them.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::cast::{Cast, KEYS, addresses, config, connect, upgrade_to};
use crate::support::{folder, within};
use crate::wire::{From, Wire, text};

/// A gateway whose standard output and standard error are full pipes, as soon as it has written enough.
struct Unread {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    _dir: Arc<TempDir>,
    /// Kept open, and not read from after the start.
    _pipe: Box<dyn Read>,
}

impl Unread {
    fn start(yaml: &str) -> Self {
        let dir = folder(yaml);
        let mut child = Command::new(env!("CARGO_BIN_EXE_longhaul"))
            .arg("-c")
            .arg(dir.path().join("longhaul.yaml"))
            .env("RUNTIME_DIRECTORY", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut metrics) = (None, None);
        while address.is_none() || metrics.is_none() {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the gateway has ended");
            let word = line.trim_end().rsplit(' ').next().unwrap();
            if line.contains("listening on ") {
                address = Some(word.parse().unwrap());
            } else if line.contains("metrics on ") {
                let at = word.trim_start_matches("http://").trim_end_matches("/metrics");
                metrics = Some(at.parse().unwrap());
            }
        }
        Self { child, address: address.unwrap(), metrics: metrics.unwrap(), _dir: dir, _pipe: Box::new(lines) }
    }

    async fn open(&self, number: u8) -> Wire {
        let mut wire = connect(Ipv4Addr::new(127, 9, 0, 1 + number), self.address).await;
        wire.send(upgrade_to(&format!("/?u={number}"))).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
        wire.frame().await;
        wire
    }

    /// Asks for a path that makes the gateway complain; the status.
    async fn complain(&self, number: u8, path: &str) -> u16 {
        let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1 + number), self.address).await;
        wire.send(upgrade_to(&format!("{path}?u={number}"))).await;
        wire.answer().await.status()
    }

    /// Everybody is served, and the metrics answer.
    async fn serves(&self, tunnels: &mut [Wire]) {
        for tunnel in tunnels {
            tunnel.send(text(From::Client, "there?")).await;
            assert_eq!(tunnel.frame().await.payload, b"there?");
        }
        let mut plain = connect(Ipv4Addr::new(127, 9, 1, 1), self.address).await;
        plain.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        assert_eq!(plain.answer().await.status(), 200);
        self.open(200).await;
        let live = within("/live", reqwest::get(format!("http://{}/live", self.metrics))).await;
        assert_eq!(live.unwrap().status(), 200);
    }

    async fn ends_by(&mut self, signal: &str) {
        let kill = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
        let ended = async {
            while self.child.try_wait().unwrap().is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        within("the end of a gateway whose logs nobody reads", ended).await;
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ten tunnels, then more complaints than a pipe takes (64 KiB on Linux).
async fn holds_up_nobody(access_log: &str, path: &str) -> Unread {
    let cast = Cast::several(3).await;
    let yaml = config(&addresses(&cast), "    health: off\n").replace("routes:", &format!("{access_log}routes:"));
    let gateway = Unread::start(&yaml);
    let mut tunnels = Vec::new();
    for number in 0..10 {
        tunnels.push(gateway.open(number).await);
    }
    for number in 0..=u8::MAX {
        let status = gateway.complain(number % KEYS as u8, path).await;
        assert!([502, 503, 400].contains(&status), "{status}");
    }
    gateway.serves(&mut tunnels).await;
    drop(cast);
    gateway
}

#[tokio::test]
async fn diagnostics_that_nobody_reads_hold_up_no_tunnel_and_no_end() {
    for path in ["/destroy", "/subprotocol"] {
        let mut gateway = holds_up_nobody("access_log: off\n", path).await;
        gateway.ends_by("INT").await;
    }
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_holds_up_no_tunnel_and_no_end() {
    for signal in ["INT", "TERM"] {
        let mut gateway = holds_up_nobody("drain: { window: 0s }\n", "/destroy").await;
        gateway.ends_by(signal).await;
    }
}
