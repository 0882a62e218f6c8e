//! Clients that want a tunnel at all times: each opens another one when its own has ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Outcome;
use crate::stop::Stop;

/// Clients under way. They end when this is dropped.
pub(super) struct Clients {
    tasks: JoinSet<()>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    clients: Vec<Client>,
    refused: BTreeMap<u16, usize>,
    failed: usize,
    /// Lengths of the times that clients were without a tunnel.
    without: Vec<Duration>,
}

#[derive(Clone, Default)]
struct Client {
    /// Number of the backend that the client's tunnel leads to.
    at: Option<usize>,
    /// Number of the backend that it led to when counting began.
    home: Option<usize>,
    opened: usize,
}

/// Outcome of an attempt.
enum Attempt {
    Opened(usize, TcpStream),
    Refused(u16),
    Failed,
}

impl Clients {
    pub(super) fn begin(gateway: SocketAddr, count: usize) -> Self {
        let counts = Arc::new(Mutex::new(Counts { clients: vec![Client::default(); count], ..Counts::default() }));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            tasks.spawn(stay(gateway, number, Arc::clone(&counts)));
        }
        Self { tasks, counts }
    }

    /// Waits until every client has a tunnel.
    pub(super) async fn all_open(&self, patience: Duration, stop: &Stop) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let open = lock(&self.counts).clients.iter().filter(|client| client.at.is_some()).count();
            if open == lock(&self.counts).clients.len() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{open} of them have");
            stop.check()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Forgets what was counted: from here on each client's backend is its home.
    pub(super) fn begin_to_count(&self) {
        let mut counts = lock(&self.counts);
        (counts.refused, counts.failed, counts.without) = (BTreeMap::new(), 0, Vec::new());
        for client in &mut counts.clients {
            (client.home, client.opened) = (client.at, 0);
        }
    }

    pub(super) fn outcome(&self, homes_stay: bool) -> Outcome {
        let mut counts = lock(&self.counts);
        let count = counts.clients.len() as f64;
        let opened: usize = counts.clients.iter().map(|client| client.opened).sum();
        let at_home = counts.clients.iter().filter(|client| client.at == client.home).count();
        counts.without.sort_unstable();
        let median = counts.without.get(counts.without.len() / 2).copied().unwrap_or_default();
        Outcome {
            reconnects: opened as f64 / count,
            at_home: homes_stay.then_some(at_home as f64 / count),
            refused: counts.refused.iter().map(|(status, count)| (*status, *count)).collect(),
            failed: counts.failed,
            without: [median, counts.without.last().copied().unwrap_or_default()],
        }
    }

    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Keeps a tunnel open for ever.
async fn stay(gateway: SocketAddr, number: usize, counts: Arc<Mutex<Counts>>) {
    let mut random = number as u64 + 1;
    let mut lost = Instant::now();
    loop {
        match open(gateway, number).await.unwrap_or(Attempt::Failed) {
            Attempt::Opened(at, mut stream) => {
                {
                    let mut counts = lock(&counts);
                    counts.without.push(lost.elapsed());
                    counts.clients[number].opened += 1;
                    counts.clients[number].at = Some(at);
                }
                let mut bytes = [0; 256];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                lost = Instant::now();
                lock(&counts).clients[number].at = None;
                pause(&mut random, Duration::ZERO).await;
            }
            Attempt::Refused(status) => {
                *lock(&counts).refused.entry(status).or_default() += 1;
                pause(&mut random, AFTER_A_REFUSAL).await;
            }
            Attempt::Failed => {
                lock(&counts).failed += 1;
                pause(&mut random, AFTER_A_REFUSAL).await;
            }
        }
    }
}

/// Waits for a time, and up to a tenth of a second more, drawn by xorshift.
async fn pause(random: &mut u64, least: Duration) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    tokio::time::sleep(least + Duration::from_micros(*random % 100_000)).await;
}

async fn open(gateway: SocketAddr, number: usize) -> std::io::Result<Attempt> {
    let mut stream = TcpStream::connect(gateway).await?;
    let request = format!(
        "GET /?client={number} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(Attempt::Failed);
        }
    };
    let status = std::str::from_utf8(&read[..end]).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
    match status {
        Some(101) => {}
        Some(status) => return Ok(Attempt::Refused(status)),
        None => return Ok(Attempt::Failed),
    }
    // The backend's number, in a text frame of its own.
    while read.len() < end + 2 || read.len() < end + 2 + usize::from(read[end + 1]) {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(Attempt::Failed);
        }
    }
    let number = std::str::from_utf8(&read[end + 2..end + 2 + usize::from(read[end + 1])]).ok();
    Ok(number.and_then(|number| number.parse().ok()).map_or(Attempt::Failed, |at| Attempt::Opened(at, stream)))
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Least wait of a client that was refused.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(500);
