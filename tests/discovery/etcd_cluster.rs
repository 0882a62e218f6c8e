//! Three servers of etcd that are one cluster, and the links between them, which can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::etcd_server::EtcdServer;
use crate::support::within;

/// A cluster. It ends when it is dropped.
pub(crate) struct EtcdCluster {
    servers: Vec<EtcdServer>,
    links: Vec<JoinHandle<()>>,
    /// The server that is cut off from the others.
    apart: watch::Sender<Option<Apart>>,
}

/// A server that is cut off: its id, as it calls itself in requests, and the address at which it listens for others.
#[derive(Clone)]
struct Apart {
    id: String,
    address: SocketAddr,
}

impl EtcdCluster {
    /// Starts the servers, and waits until they serve.
    pub(crate) async fn start() -> Self {
        loop {
            // A network that nobody else has: the servers are told of each other's ports before they are bound.
            let [a, b] = rand::random::<[u8; 2]>();
            let at = |host: u8, port: u16| SocketAddr::from(([127, 128 | (a >> 1), b, host], port));
            let mut cluster = Self { servers: Vec::new(), links: Vec::new(), apart: watch::Sender::new(None) };
            let is_known: Vec<_> = (1..=3).map(|number| format!("http://{}", at(number + 10, PEERS))).collect();
            let all: Vec<_> = (1..).zip(&is_known).map(|(number, url)| format!("e{number}={url}")).collect();
            for number in 1..=3 {
                let Ok(listener) = TcpListener::bind(at(number + 10, PEERS)).await else { break };
                let (listens, apart) = (at(number, PEERS), cluster.apart.subscribe());
                cluster.links.push(tokio::spawn(link(listener, listens, apart)));
                let (name, listens) = (format!("e{number}"), format!("http://{listens}"));
                let urls = (&*listens, &*is_known[usize::from(number) - 1]);
                cluster.servers.push(EtcdServer::new((at(number, CLIENTS), None), &name, urls, &all.join(",")));
            }
            if cluster.servers.len() == 3
                && join_all(cluster.servers.iter_mut().map(EtcdServer::begin)).await == [true; 3]
            {
                return cluster;
            }
        }
    }

    /// URLs of all servers, in order.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(EtcdServer::url).collect()
    }

    /// Waits until one server alone is watched, and returns its number.
    pub(crate) async fn watched(&self) -> usize {
        let only_one = async {
            loop {
                let watches = join_all(self.servers.iter().map(EtcdServer::watches)).await;
                let watched: Vec<_> = (0..3).filter(|number| watches[*number].is_some_and(|open| open > 0)).collect();
                if let [number] = watched[..] {
                    return number;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        within("one server to be watched", only_one).await
    }

    /// Ends a server at once, as a crash does.
    pub(crate) fn kill(&mut self, number: usize) {
        self.servers[number].kill();
    }

    /// Starts a server again, with what it had stored.
    pub(crate) async fn start_again(&mut self, number: usize) {
        self.servers[number].start_again().await;
    }

    /// Cuts a server off from the other two, and not from clients.
    pub(crate) async fn set_apart(&self, number: usize) {
        let known = self.servers[number].ask("cluster/member/list", json!({})).await;
        let name = format!("e{}", number + 1);
        let member = known["members"].as_array().unwrap().iter().find(|member| member["name"] == *name).unwrap();
        let id: u64 = member["ID"].as_str().unwrap().parse().unwrap();
        let address = SocketAddr::new(self.servers[number].address.ip(), PEERS);
        self.apart.send_replace(Some(Apart { id: format!("{id:x}"), address }));
    }

    /// Links all servers again.
    pub(crate) fn join(&self) {
        self.apart.send_replace(None);
    }

    /// Registers a backend with whichever server takes it.
    pub(crate) async fn register(&self, name: &str, address: SocketAddr) {
        self.tell("kv/put", EtcdServer::pair(name, &json!({ "address": address }).to_string())).await;
    }

    /// Removes a backend's key, by whichever server does it.
    pub(crate) async fn remove(&self, name: &str) {
        self.tell("kv/deleterange", EtcdServer::key(name)).await;
    }

    async fn tell(&self, path: &str, asked: Value) {
        let taken = async {
            // While they elect a leader all of them refuse. The first is the one that tests set apart most often.
            for server in self.servers.iter().rev().cycle() {
                if server.may_answer(path, &asked).await.is_ok() {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        within("a server to take a change", taken).await;
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        self.links.iter().for_each(JoinHandle::abort);
    }
}

/// Leads the other servers to one.
async fn link(listener: TcpListener, to: SocketAddr, apart: watch::Receiver<Option<Apart>>) {
    // Dropped with the task, they all end.
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        connections.spawn(carry(near, to, apart.clone()));
    }
}

/// Carries a connection between two servers, until another one is cut off or is no longer.
async fn carry(mut near: TcpStream, to: SocketAddr, mut apart: watch::Receiver<Option<Apart>>) {
    // The first request says who sends it, and a connection has requests of one server alone.
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if near.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head_text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let sender = head_text.lines().find_map(|line| line.strip_prefix("x-server-from: "));
    if apart
        .borrow_and_update()
        .as_ref()
        .is_some_and(|apart| apart.address == to || sender.is_none_or(|id| id == apart.id))
    {
        return;
    }
    let carried = async {
        let mut far = TcpStream::connect(to).await?;
        far.write_all(&head).await?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        // Either side may be gone at any time.
        _ = carried => {}
        _ = apart.changed() => {}
    }
}

/// Ports of all servers, for clients and for each other.
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
/// Pause between two questions whether something is so.
const AGAIN: Duration = Duration::from_millis(20);
