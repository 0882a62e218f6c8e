//! A real etcd, and a cable to it that can be cut.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use socket2::Socket;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Lines, reserved_at, within};

/// Begin of the keys of the backends of upstream `a`.
pub(crate) const PREFIX: &str = "/services/a/";
/// Address of servers and cables.
pub(crate) const HOST: &str = "127.0.1.2";

/// A server of etcd. It ends when it is dropped.
pub(crate) struct EtcdServer {
    pub(crate) address: SocketAddr,
    dir: TempDir,
    /// The cluster that it is a part of.
    cluster: Vec<String>,
    flags: Vec<String>,
    http: reqwest::Client,
    scheme: &'static str,
    /// Sent along with every request.
    pub(crate) token: Option<String>,
    process: Option<Child>,
    /// Keeps the port, where it is not one of a network that nobody else has.
    _port: Option<Socket>,
}

impl EtcdServer {
    pub(crate) async fn start() -> Self {
        Self::start_with("http", &[], reqwest::Client::new()).await
    }

    /// A server with further flags, to which the test itself speaks by `http`.
    pub(crate) async fn start_with(scheme: &'static str, flags: &[&str], http: reqwest::Client) -> Self {
        // etcd is told its own address, and has it again after it was away.
        let (address, port) = reserved_at(HOST.parse().unwrap());
        let [listens, is_known] = ["http://127.0.0.1:0", "http://127.0.0.1:1"];
        let mut server =
            Self::new((address, Some(port)), "default", (listens, is_known), &format!("default={is_known}"));
        server.flags = flags.iter().map(ToString::to_string).collect();
        (server.scheme, server.http) = (scheme, http);
        server.start_again().await;
        server
    }

    /// A server of a cluster, not started yet: its address with what keeps the port, its name, the URLs at which it
    /// listens for the others and at which they know it, and all of them.
    pub(crate) fn new(
        (address, port): (SocketAddr, Option<Socket>),
        name: &str,
        (listens, is_known): (&str, &str),
        all: &str,
    ) -> Self {
        let peers = ["--listen-peer-urls", listens, "--initial-advertise-peer-urls", is_known];
        let cluster =
            ["--name", name, "--initial-cluster", all].iter().chain(&peers).map(ToString::to_string).collect();
        let (dir, flags, http) = (tempfile::tempdir().unwrap(), Vec::new(), reqwest::Client::new());
        Self { address, dir, cluster, flags, http, scheme: "http", token: None, process: None, _port: port }
    }

    /// Starts the process, and waits until it serves. It does not where its port is taken.
    pub(crate) async fn begin(&mut self) -> bool {
        let url = self.url();
        let mut command = Command::new("etcd");
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]).args(&self.cluster);
        command.args(["--logger", "zap", "--data-dir"]).arg(self.dir.path().join("data")).args(&self.flags);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("etcd is installed");
        let lines = Lines::of(process.stderr.take().unwrap());
        self.process = Some(process);
        tokio::select! {
            biased;
            lines = lines.to_the_end() => {
                assert!(lines.iter().any(|line| line.contains("address already in use")), "etcd ended: {lines:?}");
                false
            }
            _ = lines.find(&["client traffic"]) => true,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Ends the process at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it, or again with what it had stored.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.begin().await);
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Asks its JSON gateway.
    pub(crate) async fn ask(&self, path: &str, asked: Value) -> Value {
        let answer = within("etcd to answer", self.may_answer(path, &asked)).await;
        answer.unwrap_or_else(|error| panic!("{path} {asked}: {error}"))
    }

    /// As [`ask`](Self::ask), of a server that may be away or refuse.
    pub(crate) async fn may_answer(&self, path: &str, asked: &Value) -> Result<Value, String> {
        let mut request = self.http.post(format!("{}/v3/{path}", self.url())).json(asked);
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let answer = answer.json::<Value>().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(answer) } else { Err(answer.to_string()) }
    }

    /// Number of watches that are open here; `None` where it does not answer.
    pub(crate) async fn watches(&self) -> Option<u64> {
        let answer = self.http.get(format!("{}/metrics", self.url())).send().await.ok()?.text().await.ok()?;
        answer.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total ")?.parse().ok())
    }

    /// Puts a backend's key.
    pub(crate) async fn put(&self, name: &str, value: &str) {
        self.ask("kv/put", Self::pair(name, value)).await;
    }

    /// A key of a backend and its value, as a request has them.
    pub(crate) fn pair(name: &str, value: &str) -> Value {
        json!({ "key": text(&key(name)), "value": text(value) })
    }

    /// Removes every key under the prefix.
    pub(crate) async fn remove_all(&self) {
        self.ask("kv/deleterange", json!({ "key": text(PREFIX), "range_end": text("/services/a0") })).await;
    }

    /// Registers a backend.
    pub(crate) async fn register(&self, name: &str, address: SocketAddr) {
        self.put(name, &json!({ "address": address }).to_string()).await;
    }

    pub(crate) async fn remove(&self, name: &str) {
        self.ask("kv/deleterange", Self::key(name)).await;
    }

    /// A key of a backend, as a request has it.
    pub(crate) fn key(name: &str) -> Value {
        json!({ "key": text(&key(name)) })
    }

    /// Registers a backend until a lease of so many seconds ends.
    pub(crate) async fn register_for(&self, name: &str, address: SocketAddr, seconds: u32) {
        let granted = self.ask("lease/grant", json!({ "TTL": seconds })).await;
        let value = text(&json!({ "address": address }).to_string());
        self.ask("kv/put", json!({ "key": text(&key(name)), "value": value, "lease": granted["ID"] })).await;
    }

    /// Ends the lease of a backend's key, as the death of its owner does.
    pub(crate) async fn revoke_lease_of(&self, name: &str) {
        let found = self.ask("kv/range", json!({ "key": text(&key(name)) })).await;
        self.ask("lease/revoke", json!({ "ID": found["kvs"][0]["lease"] })).await;
    }

    /// Forgets everything but the newest values.
    pub(crate) async fn compact(&self) {
        let now = self.ask("kv/range", json!({ "key": text("x") })).await;
        self.ask("kv/compaction", json!({ "revision": now["header"]["revision"], "physical": true })).await;
    }

    /// Key names under the prefix, whatever they stand for.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let asked = json!({ "key": text(PREFIX), "range_end": text("/services/a0"), "keys_only": true });
        let found = self.ask("kv/range", asked).await;
        let decoded = |pair: &Value| {
            let key = STANDARD.decode(pair["key"].as_str().unwrap()).unwrap();
            String::from_utf8(key).unwrap()
        };
        found["kvs"].as_array().into_iter().flatten().map(decoded).collect()
    }

    /// Asks for a password from now on: root's `root-secret`, and the one of `longhaul`, who may read and write the
    /// keys under the prefix.
    pub(crate) async fn demand_passwords(&mut self, password: &str) {
        for (user, password) in [("root", "root-secret"), ("longhaul", password)] {
            self.ask("auth/user/add", json!({ "name": user, "password": password })).await;
            self.ask("auth/role/add", json!({ "name": user })).await;
            self.ask("auth/user/grant", json!({ "user": user, "role": user })).await;
        }
        let range = json!({ "permType": "READWRITE", "key": text(PREFIX), "range_end": text("/services/a0") });
        self.ask("auth/role/grant", json!({ "name": "longhaul", "perm": range })).await;
        self.ask("auth/enable", json!({})).await;
        let root = self.ask("auth/authenticate", json!({ "name": "root", "password": "root-secret" })).await;
        self.token = Some(root["token"].as_str().unwrap().to_owned());
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The key of a backend.
fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn text(bytes: &str) -> String {
    STANDARD.encode(bytes)
}

/// A port that leads to another, until it is cut.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    to: SocketAddr,
    task: Option<JoinHandle<()>>,
    /// Keeps the port while the cable is cut.
    _port: Socket,
}

impl Cable {
    pub(crate) async fn to(to: SocketAddr) -> Self {
        let (address, port) = reserved_at(HOST.parse().unwrap());
        let mut cable = Self { address, to, task: None, _port: port };
        cable.mend().await;
        cable
    }

    fn carry(&mut self, listener: TcpListener) {
        let to = self.to;
        self.task = Some(tokio::spawn(async move {
            // Dropped with the task, they all end.
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        // Either side may be gone at any time.
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        }));
    }

    /// Ends every connection, and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Leads to another port.
    pub(crate) async fn lead_to(&mut self, to: SocketAddr) {
        self.to = to;
        self.mend().await;
    }

    /// Leads to the other port, or does again.
    pub(crate) async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.carry(listener);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}
