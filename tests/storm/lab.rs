//! Backends that count handshakes, and clients that know whether a worker or Pingora reads their request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Gateway, within};
use crate::wire::{From, Wire, field, switching, text, upgrade};

/// A handshake as a backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Place among the connections, in the order in which they were accepted.
    pub(crate) place: usize,
    /// The header `X-Number`.
    pub(crate) number: usize,
    pub(crate) at: Instant,
}

/// A backend that takes every handshake, counts it, and echoes what comes.
pub(crate) struct Door {
    pub(crate) backend: Backend,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Door {
    pub(crate) async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (places, records) = (AtomicUsize::new(0), Arc::clone(&seen));
        let backend = Backend::start(move |stream| {
            // Called in the order of accepting, and the request is read at any time after.
            let place = places.fetch_add(1, Ordering::SeqCst);
            serve(stream, place, Arc::clone(&records))
        })
        .await;
        Self { backend, seen }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// Handshakes so far, in the order of their connections.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.sort_by_key(|seen| seen.place);
        seen
    }

    /// Asserts that at no moment more handshakes had come than burst and rate allow from `start` on.
    pub(crate) fn kept_to(&self, rate: f64, burst: f64, start: Instant) {
        let mut moments: Vec<_> = self.seen().into_iter().map(|seen| seen.at).collect();
        moments.sort_unstable();
        for (before, at) in moments.into_iter().enumerate() {
            let most = burst + rate * (at - start).as_secs_f64();
            assert!((before + 1) as f64 <= most + 1e-6, "{} handshakes, {most} allowed", before + 1);
        }
    }
}

async fn serve(mut stream: TcpStream, place: usize, records: Arc<Mutex<Vec<Seen>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(1..) => {}
            // A health check.
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let number = field(&head, "x-number").unwrap().parse().unwrap();
    records.lock().unwrap().push(Seen { place, number, at: Instant::now() });
    if stream.write_all(switching("").as_bytes()).await.is_err() {
        return;
    }
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        // A masked frame comes back as one that is not.
        let payload: Vec<_> = bytes[6..count].iter().zip(bytes[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        let echo = crate::wire::frame(From::Backend, bytes[0], &payload);
        if stream.write_all(&echo).await.is_err() {
            return;
        }
    }
}

/// Targets of requests: the worker that accepted reads the first, and leaves the second to Pingora.
pub(crate) const BY_WORKER: &str = "/";
pub(crate) const BY_SESSION: &str = "/?[";

/// A client that has asked for a WebSocket.
pub(crate) async fn ask(gateway: &Gateway, target: &str, number: usize, more: &str) -> Wire {
    let mut client = Wire::connect(gateway.address()).await;
    let request = upgrade(&format!("X-Number: {number}\r\n{more}"));
    client.send(request.replacen("GET / ", &format!("GET {target} "), 1)).await;
    client
}

/// Asserts that a client is given its tunnel.
pub(crate) async fn opens(client: &mut Wire) {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// Asserts that a message comes back.
pub(crate) async fn echoes(client: &mut Wire) {
    client.send(text(From::Client, "still there")).await;
    assert_eq!(client.frame().await.payload, b"still there");
}

/// Asserts that a client is refused with this status, and a `Retry-After` within bounds.
pub(crate) async fn refused(client: &mut Wire, status: u16, within_seconds: u64) -> String {
    let reply = client.answer().await;
    assert_eq!(reply.status(), status, "{reply:?}");
    let after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=within_seconds).contains(&after), "{reply:?}");
    reply.body
}

/// Value of the sum of a metric's lines.
pub(crate) async fn sum(gateway: &Gateway, name: &str) -> f64 {
    let text = gateway.scrape().await;
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until so many clients wait.
pub(crate) async fn waiting(gateway: &Gateway, count: usize) {
    let reached = async {
        while sum(gateway, "longhaul_backend_waiting{").await != count as f64 {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{count} clients to wait"), reached).await;
}

/// Waits until backends carry so much, all together.
pub(crate) async fn tunnels(gateway: &Gateway, count: usize) {
    let reached = async {
        while sum(gateway, "longhaul_backend_load{").await != count as f64 {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("a load of {count}"), reached).await;
}

/// Waits until so many clients were refused for a reason.
pub(crate) async fn refusals(gateway: &Gateway, reason: &str, count: usize) {
    let name = format!("longhaul_upstream_refused_total{{reason=\"{reason}\",upstream=\"u\"}}");
    gateway.metric_becomes(&name, count as f64).await;
}

/// Number of clients that were given their turn.
pub(crate) async fn admitted(gateway: &Gateway) -> f64 {
    gateway.metric("longhaul_handshakes_admitted_total{upstream=\"u\"}").await
}
