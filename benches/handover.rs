//! Twenty upgrades in a row under 9,000 live tunnels: `cargo bench --bench handover [-- --tunnels N --upgrades N]`
//!
//! Every tunnel exchanges a numbered message each second with an echo behind the gateway. The program counts dropped
//! tunnels, lost, repeated and reordered answers, and the longest time of an answer. It ends by itself.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[derive(Default)]
struct Facts {
    answers: AtomicUsize,
    dropped: AtomicUsize,
    wrong: AtomicUsize,
    stop: AtomicBool,
    /// Round trips since the last upgrade began.
    trips: Mutex<Vec<Duration>>,
}

fn main() {
    // `cargo test --all-targets` runs benches too: a short form for it.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let tunnels = option("--tunnels", if measured { 9_000 } else { 50 });
    let upgrades = option("--upgrades", if measured { 20 } else { 2 });
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(tunnels, upgrades));
}

async fn measure(tunnels: usize, upgrades: usize) {
    let backend = echo().await;
    let dir = tempfile::tempdir().unwrap();
    let address: SocketAddr = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let config = dir.path().join("longhaul.yaml");
    let yaml = format!(
        "version: 1\nthreads: 2\nupgrade_sock: {dir}/upgrade.sock\naccess_log: off\n\
         listeners: [{{ address: {address} }}]\n\
         routes: [{{ upstream: echo }}]\n\
         upstreams:\n  echo: {{ affinity: [client_ip], backends: [{backend}], health: off }}\n",
        dir = dir.path().display(),
    );
    std::fs::write(&config, yaml).unwrap();
    let mut running = start(&config, &[]);
    wait_until(|| std::net::TcpStream::connect(address).is_ok()).await;

    let facts = Arc::new(Facts::default());
    let mut clients = Vec::new();
    for number in 0..tunnels {
        let stream = open(number, address).await;
        clients.push(tokio::spawn(client(number, stream, Arc::clone(&facts))));
    }
    println!("{tunnels} tunnels open");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let first_memory = anonymous_kib(running.id());
    facts.trips.lock().unwrap().clear();
    for number in 1..=upgrades {
        let begun = Instant::now();
        let successor = start(&config, &["-u"]);
        let mut predecessor = std::mem::replace(&mut running, successor);
        wait_until(|| predecessor.try_wait().unwrap().is_some()).await;
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut trips = std::mem::take(&mut *facts.trips.lock().unwrap());
        trips.sort();
        println!(
            "upgrade {number:>2}: old process gone after {:>4} ms; answers {:>6}, median {:>6.2} ms, \
             99.9 % {:>6.2} ms, longest {:>6.2} ms",
            took.as_millis(),
            trips.len(),
            milliseconds(trips[trips.len() / 2]),
            milliseconds(trips[trips.len() * 999 / 1000]),
            milliseconds(*trips.last().unwrap()),
        );
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last_memory = anonymous_kib(running.id());
    facts.stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    println!(
        "answers {}, dropped {}, wrong {}; anonymous memory {first_memory} KiB before, {last_memory} KiB after",
        facts.answers.load(SeqCst),
        facts.dropped.load(SeqCst),
        facts.wrong.load(SeqCst),
    );
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!((facts.dropped.load(SeqCst), facts.wrong.load(SeqCst)), (0, 0));
}

fn start(config: &std::path::Path, flags: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(flags).arg("-c").arg(config).stdin(Stdio::null());
    command.env("RUST_LOG", "warn,longhaul::server::handover=info").spawn().unwrap()
}

/// A client's handshake, from a source address of its own.
async fn open(number: usize, address: SocketAddr) -> TcpStream {
    let number = number as u32;
    let socket = TcpSocket::new_v4().unwrap();
    let source = Ipv4Addr::new(127, 1 + (number >> 16) as u8, (number >> 8) as u8, 1 + (number & 0x7f) as u8);
    socket.bind((source, 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Sends a number each second, at a moment of its own within the second, and waits for the answer.
async fn client(number: usize, mut stream: TcpStream, facts: Arc<Facts>) {
    let offset = Duration::from_micros((number as u64 * 7_919) % 1_000_000);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, Duration::from_secs(1));
    for count in 0u64.. {
        ticks.tick().await;
        if facts.stop.load(SeqCst) {
            return;
        }
        let mut frame = vec![0x82, 0x80 | 8, 0, 0, 0, 0];
        frame.extend_from_slice(&count.to_be_bytes());
        let begun = Instant::now();
        let mut answer = [0; 10];
        let exchange = async {
            stream.write_all(&frame).await?;
            stream.read_exact(&mut answer).await
        };
        match tokio::time::timeout(Duration::from_secs(30), exchange).await {
            Ok(Ok(_)) => {}
            _ => {
                facts.dropped.fetch_add(1, SeqCst);
                return;
            }
        }
        if answer[..2] != [0x82, 8] || answer[2..] != count.to_be_bytes() {
            facts.wrong.fetch_add(1, SeqCst);
            return;
        }
        facts.answers.fetch_add(1, SeqCst);
        facts.trips.lock().unwrap().push(begun.elapsed());
    }
}

/// An echo for frames of eight bytes. It answers handshakes with a fixed `Sec-WebSocket-Accept`, that of the clients'
/// key.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await?);
                }
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
                let mut frame = [0; 14];
                loop {
                    stream.read_exact(&mut frame).await?;
                    let mut answer = [0x82, 8, 0, 0, 0, 0, 0, 0, 0, 0];
                    answer[2..].copy_from_slice(&frame[6..]);
                    stream.write_all(&answer).await?;
                }
                #[expect(unreachable_code, reason = "it names the block's error type")]
                Ok::<(), std::io::Error>(())
            });
        }
    });
    address
}

async fn wait_until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn anonymous_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn option(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().unwrap())
}
