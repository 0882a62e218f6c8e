//! Cost of hooks: `cargo bench --bench hooks [-- --tunnels N --milliseconds N --repeats N]`
//!
//! Measures the gateway's processor time for a message of 64 bytes and its echo, two messages through the gateway, with
//! hooks of several kinds on the route. The kinds take many short turns, so that other load of the machine falls on all
//! of them, and the median of the turns counts. There are no thresholds. The program ends by itself after 90 seconds.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]

use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use longhaul::hook::{Direction, Hook, Message, Messages, Result, Setup, SetupError, Tunnel, Verdict};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A route of the gateway: name, title in the table, hooks, and true for compressed messages.
const KINDS: [(&str, &str, &str, bool); 11] = [
    ("none", "no hook", "[]", false),
    ("silent", "a hook that sees no messages", "[{ hook: bench, with: { sees: nothing } }]", false),
    ("sync", "sync, passes", "[{ hook: bench, with: { sees: at_once } }]", false),
    (
        "three",
        "three of them",
        "[{ hook: bench, with: { sees: at_once } }, { hook: bench, with: { sees: at_once } }, \
          { hook: bench, with: { sees: at_once } }]",
        false,
    ),
    ("replace", "sync, replaces", "[{ hook: bench, with: { sees: at_once, replaces: true } }]", false),
    ("async", "async, ready at once", "[{ hook: bench, with: { sees: awaited } }]", false),
    ("waits", "async, waits once", "[{ hook: bench, with: { sees: awaited, waits: true } }]", false),
    ("deflate", "compressed, no hook", "[]", true),
    ("inspect", "compressed, sync, passes", "[{ hook: bench, with: { sees: at_once } }]", true),
    ("deflated", "compressed, sync, replaces", "[{ hook: bench, with: { sees: at_once, replaces: true } }]", true),
    ("again", "no hook, once more", "[]", false),
];

/// A hook that handles every message as its settings say.
#[derive(Deserialize)]
struct Bench {
    sees: Sees,
    #[serde(default)]
    replaces: bool,
    #[serde(default)]
    waits: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sees {
    Nothing,
    AtOnce,
    Awaited,
}

impl Bench {
    fn verdict(&self, message: &Message) -> Verdict {
        match self.replaces {
            true => Verdict::Replace(Message::text(message.as_text().unwrap_or_default())),
            false => Verdict::Pass,
        }
    }
}

impl Hook for Bench {
    type Settings = Self;
    type Context = ();

    fn new(settings: Self, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(settings)
    }

    fn messages(&self) -> Messages {
        match self.sees {
            Sees::Nothing => Messages::NONE,
            Sees::AtOnce => Messages::BOTH,
            Sees::Awaited => Messages::BOTH.awaited(),
        }
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut ()) -> Result<Verdict> {
        Ok(self.verdict(message))
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut ()) -> Result<Verdict> {
        if self.waits {
            tokio::task::yield_now().await;
        }
        Ok(self.verdict(message))
    }
}

fn main() -> ExitCode {
    // The gateway under measurement is this program too.
    if std::env::args().any(|argument| argument == "-c") {
        return longhaul::Gateway::builder().hook::<Bench>("bench").run();
    }
    // `cargo test --all-targets` runs benches too: a short form for it.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let tunnels = option("--tunnels", if measured { 64 } else { 2 });
    let milliseconds = option("--milliseconds", if measured { 150 } else { 20 });
    let repeats = option("--repeats", if measured { 50 } else { 1 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(tunnels, Duration::from_millis(milliseconds as u64), repeats));
    ExitCode::SUCCESS
}

async fn measure(tunnels: usize, turn: Duration, repeats: usize) {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(dir.path(), echo().await).await;
    let mut lanes = Vec::new();
    for (name, _, _, compressed) in KINDS {
        let mut lane = Vec::new();
        for _ in 0..tunnels {
            lane.push(open(gateway.address, name, compressed).await);
        }
        lanes.push(lane);
    }
    let mut figures = vec![Vec::new(); KINDS.len()];
    for repeat in 0..=repeats {
        for (kind, lane) in lanes.iter_mut().enumerate() {
            let cost = gateway.cost_of(lane, KINDS[kind].3, turn).await;
            // The first turn of each warms up.
            if repeat > 0 {
                figures[kind].push(cost);
            }
        }
    }
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    println!("gateway CPU for a 64-byte message echoed, {tunnels} tunnels, median of {repeats} turns of {turn:?}:");
    for ((_, what, _, _), microseconds) in KINDS.into_iter().zip(&medians) {
        println!("{what:<30} {microseconds:>7.2} µs {:>6.2} ×", microseconds / medians[0]);
    }
}

/// The gateway's process; ended on drop.
struct Gateway {
    process: Child,
    address: SocketAddr,
}

impl Gateway {
    async fn start(dir: &std::path::Path, backend: SocketAddr) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let routes: String = KINDS
            .iter()
            .map(|(name, _, hooks, _)| format!("  - {{ path: /{name}, upstream: echo, hooks: {hooks} }}\n"))
            .collect();
        let yaml = format!(
            "version: 1\nthreads: 2\naccess_log: off\nlisteners: [{{ address: {address} }}]\nroutes:\n{routes}\
             upstreams:\n  echo: {{ affinity: [client_ip], backends: [{backend}], health: off }}\n",
        );
        let config = dir.join("longhaul.yaml");
        std::fs::write(&config, yaml).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("-c").arg(config).env("RUNTIME_DIRECTORY", dir).env("RUST_LOG", "warn").stdin(Stdio::null());
        let process = command.spawn().unwrap();
        while std::net::TcpStream::connect(address).is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Self { process, address }
    }

    /// Microseconds of processor time for each message that all of a lane's tunnels exchange for a while.
    async fn cost_of(&self, lane: &mut Vec<TcpStream>, compressed: bool, turn: Duration) -> f64 {
        let (exchanged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let before = self.processor_time();
        let clients: Vec<_> = lane
            .drain(..)
            .map(|stream| tokio::spawn(client(stream, compressed, Arc::clone(&exchanged), Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(turn).await;
        stop.store(true, Relaxed);
        for client in clients {
            lane.push(client.await.unwrap());
        }
        let spent = self.processor_time() - before;
        spent.as_secs_f64() * 1e6 / exchanged.load(Relaxed) as f64
    }

    /// Processor time of all threads of the gateway, to the nanosecond.
    fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let spent = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The gateway may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client's handshake.
async fn open(address: SocketAddr, route: &str, compressed: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let offer = if compressed { format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n") } else { String::new() };
    let request = format!(
        "GET /{route} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert_eq!(answer.to_ascii_lowercase().contains("permessage-deflate"), compressed, "{answer}");
    stream
}

/// Sends messages one after the other, each when the answer to the previous one has come.
async fn client(
    mut stream: TcpStream,
    compressed: bool,
    exchanged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> TcpStream {
    let (sent, expected) = (frame(compressed, true), frame(compressed, false));
    let mut answer = vec![0; expected.len()];
    while !stop.load(Relaxed) {
        stream.write_all(&sent).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer == expected, "the message came back as another one");
        exchanged.fetch_add(1, Relaxed);
    }
    stream
}

/// An echo that answers each frame of the message's length with the message.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let compressed = head(&mut stream).await?.to_ascii_lowercase().contains("permessage-deflate");
                let extensions =
                    if compressed { format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n") } else { String::new() };
                let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
                );
                stream.write_all(answer.as_bytes()).await?;
                let mut received = vec![0; frame(compressed, true).len()];
                let answer = frame(compressed, false);
                loop {
                    stream.read_exact(&mut received).await?;
                    stream.write_all(&answer).await?;
                }
                #[expect(unreachable_code, reason = "it names the block's error type")]
                Ok::<(), std::io::Error>(())
            });
        }
    });
    address
}

async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The message as a frame.
fn frame(compressed: bool, masked: bool) -> Vec<u8> {
    let text = "{\"room\":\"tea\",\"from\":\"ada\",\"text\":\"the kettle is on, come over\"}";
    assert_eq!(text.len(), 64);
    let payload = if compressed { deflated(text.as_bytes()) } else { text.into() };
    let first = if compressed { 0xc1 } else { 0x81 };
    match masked {
        // A mask of zeros leaves the payload as it is, and costs as much as any other.
        true => [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], &payload[..]].concat(),
        false => [&[first, payload.len() as u8], &payload[..]].concat(),
    }
}

/// Compresses a payload (RFC 7692 §7.2.1).
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(256);
    let mut compress = Compress::new(Compression::fast(), false);
    compress.compress_vec(payload, &mut deflated, FlushCompress::Sync).unwrap();
    assert!(deflated.ends_with(&[0, 0, 0xff, 0xff]));
    deflated.truncate(deflated.len() - 4);
    deflated
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn option(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap())
}

/// The offer of the clients, and the agreement of the echo. The gateway would make the same of any offer where hooks
/// see messages.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
