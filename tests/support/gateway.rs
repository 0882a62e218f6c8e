//! The gateway under test: the real binary, with a configuration of the test's.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Lines, within};

/// A running gateway. It is killed when dropped.
pub struct Gateway {
    child: Child,
    /// Its folder, where its configuration lies and other files may.
    pub dir: TempDir,
    /// Where it listens, in the order of the configuration's listeners.
    pub addresses: Vec<SocketAddr>,
    /// The address of its metrics, if it has them.
    pub metrics: Option<SocketAddr>,
    /// Standard output: the access log.
    pub access: Lines,
    /// Standard error: the diagnostics.
    pub log: Lines,
}

impl Gateway {
    /// Starts a gateway with a complete configuration, and waits until it listens. `{dir}` stands for its folder.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[]).await
    }

    /// As [`start`](Self::start), with environment variables.
    pub async fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("longhaul.yaml");
        let yaml = yaml.replace("{dir}", dir.path().to_str().unwrap());
        std::fs::write(&path, &yaml).unwrap();
        // Another build of it, for measurements.
        let binary = std::env::var_os("LONGHAUL").unwrap_or_else(|| env!("CARGO_BIN_EXE_longhaul").into());
        let mut child = Command::new(binary)
            .arg("-c")
            .arg(&path)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let access = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        let mut gateway = Self { child, dir, addresses: Vec::new(), metrics: None, access, log };
        let listeners = yaml.split("routes:").next().unwrap().matches("- address:").count();
        for number in 0..listeners {
            let line = gateway.log.find_nth(&["listening on "], number).await;
            gateway.addresses.push(line.rsplit(' ').next().unwrap().parse().unwrap());
        }
        if yaml.contains("\nmetrics:") {
            let line = gateway.log.find(&["metrics on http://"]).await;
            let address = line.rsplit("http://").next().unwrap().trim_end_matches("/metrics");
            gateway.metrics = Some(address.parse().unwrap());
        }
        gateway
    }

    /// Where its first listener is.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let ended = async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the gateway's end", ended).await
    }

    /// The text of `/metrics`.
    pub async fn scrape(&self) -> String {
        let address = self.metrics.expect("the configuration has metrics");
        reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap()
    }

    /// A metric's value now, named with its labels as the exposition has them; 0 when it is not there yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.scrape().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{name} to become {value}"), reached).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
