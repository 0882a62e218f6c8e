//! Tunnels that send without end: the others of their worker keep their turn, counted in bytes and messages that pass.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use tokio::io::AsyncWriteExt;

use crate::cast::{connect, upgrade_to};
use crate::support::{Backend, Gateway, within};
use crate::wire::{From, Wire, frame, switching, upgrade};

/// A gateway with one worker: `/bulk` and `/filtered` lead to a backend that counts what comes, `/` to an echo.
struct Lab {
    gateway: Gateway,
    passed: Arc<AtomicU64>,
    _sink: Backend,
}

impl Lab {
    /// A lab whose counter counts bytes, or WebSocket messages on a route whose hook sees them.
    async fn start(messages: bool) -> Self {
        let passed: Arc<AtomicU64> = Arc::default();
        let counter = Arc::clone(&passed);
        let sink = Backend::start(move |stream| count(Wire::of(stream), Arc::clone(&counter), messages)).await;
        let echo = echo();
        let gateway = Gateway::start(&format!(
            "version: 1\nthreads: 1\naccess_log: off\nlisteners:\n  - address: 127.0.0.1:0\n\
             metrics:\n  address: 127.0.0.1:0\nroutes:\n  - {{ path: /bulk, upstream: sink }}\n  \
             - {{ path: /filtered, upstream: sink, \
             hooks: [{{ hook: message_filter, with: {{ max_size: 1MiB }} }}] }}\n  \
             - upstream: u\nupstreams:\n  sink: {{ backends: [{}], health: off }}\n  \
             u: {{ backends: [{echo}], health: off }}\n",
            sink.address
        ))
        .await;
        Self { gateway, passed, _sink: sink }
    }

    /// Bytes that others pass at least while a message of 64 bytes goes to the echo and back, in nine of ten times: in
    /// the others the message may wait for the test's own threads as little as for the worker.
    fn passes_during_an_echo(&self, echoes: usize) -> u64 {
        let mut tunnel = Plain::open(self.gateway.address());
        let mut passed: Vec<u64> = (0..echoes)
            .map(|_| {
                let before = self.passed.load(Relaxed);
                tunnel.echoes();
                self.passed.load(Relaxed) - before
            })
            .collect();
        passed.sort_unstable();
        passed[passed.len() / 10]
    }
}

/// Agrees to whatever compression is offered, and counts.
async fn count(mut wire: Wire, counter: Arc<AtomicU64>, messages: bool) {
    let Some(head) = wire.next_head().await else { return };
    let offered = head.to_ascii_lowercase().contains("permessage-deflate");
    let agreed = if offered { format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n") } else { String::new() };
    wire.send(switching(&agreed)).await;
    if messages {
        while wire.next_frame().await.is_some() {
            counter.fetch_add(1, Relaxed);
        }
    } else {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read(&mut wire.stream, &mut buffer).await {
            counter.fetch_add(read as u64, Relaxed);
        }
    }
}

/// An echo that the scheduler of the test's tasks cannot hold up: a thread for each connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || Plain { stream }.serve());
        }
    });
    address
}

/// A peer that blocks, and exchanges messages of 64 bytes.
struct Plain {
    stream: TcpStream,
}

impl Plain {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        stream.write_all(upgrade("").as_bytes()).unwrap();
        let mut tunnel = Self { stream };
        tunnel.read_head();
        tunnel
    }

    fn read_head(&mut self) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.stream.read(&mut byte).unwrap_or(0) == 0 {
                return false;
            }
            head.push(byte[0]);
        }
        true
    }

    fn echoes(&mut self) {
        self.stream.write_all(&frame(From::Client, 0x82, &[b'm'; 64])).unwrap();
        let mut answer = [0; 66];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[2..], [b'm'; 64]);
    }

    fn serve(mut self) {
        self.stream.set_nodelay(true).unwrap();
        if !self.read_head() || self.stream.write_all(switching("").as_bytes()).is_err() {
            return;
        }
        let mut message = [0; 70];
        while self.stream.read_exact(&mut message).is_ok() {
            let key = <[u8; 4]>::try_from(&message[2..6]).unwrap();
            let payload: Vec<u8> = message[6..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            if self.stream.write_all(&frame(From::Backend, 0x82, &payload)).is_err() {
                return;
            }
        }
    }
}

/// Sends messages of 64 KiB until the tunnel or the test ends.
async fn firehose(address: SocketAddr, number: u8) -> tokio::task::JoinHandle<()> {
    let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1 + number), address).await;
    wire.send(upgrade_to("/bulk")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let message = frame(From::Client, 0x82, &vec![b'b'; 64 * 1024]);
    tokio::spawn(async move { while wire.stream.write_all(&message).await.is_ok() {} })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_message_crosses_all_firehoses_of_its_worker_together_pass_a_few_slices_at_most() {
    let lab = Lab::start(false).await;
    let mut firehoses = Vec::new();
    for count in [1, 4, 16] {
        while firehoses.len() < count {
            firehoses.push(firehose(lab.gateway.address(), firehoses.len() as u8).await);
        }
        let passed = lab.passes_during_an_echo(100);
        println!("{count} firehoses passed {} KiB together while a message crossed", passed / 1024);
        assert!(passed <= TURNS, "{count} firehoses passed {passed} bytes while a message crossed");
    }
    firehoses.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Bytes that all firehoses together may pass while a message crosses twice: two slices of 20 KiB, and what is passed
/// until the test's own threads are woken.
const TURNS: u64 = 256 * 1024;

/// A hundred bytes on the wire are a mebibyte to a hook; a chunk of the wire holds hundreds of such messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_message_crosses_few_messages_are_inflated_for_another_tunnel() {
    let lab = Lab::start(true).await;
    let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1), lab.gateway.address()).await;
    let offer = format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n");
    wire.send(upgrade(&offer).replace("GET / ", "GET /filtered ")).await;
    let head = wire.head().await;
    assert!(head.to_ascii_lowercase().contains("permessage-deflate"), "{head}");
    let bombs = frame(From::Client, 0xC2, &deflated_zeros(1 << 20)).repeat(2_000);
    let sending = tokio::spawn(async move {
        let _ = wire.stream.write_all(&bombs).await;
        wire
    });
    let first = async {
        while lab.passed.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the first message", first).await;
    let passed = lab.passes_during_an_echo(5);
    println!("{passed} messages of 1 MiB were inflated while a message crossed");
    assert!(passed <= 40, "{passed} messages of 1 MiB were inflated while a message crossed");
    sending.abort();
}

/// Messages that are never finished are kept, in all no more than `hook_memory` has room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_on_routes_with_hooks_are_bounded_in_total() {
    let lab = Lab::start(true).await;
    let mut neighbour = Plain::open(lab.gateway.address());
    let mut wires = Vec::new();
    // A message of a mebibyte but for its last bytes, 96 times: half as much again as there is room for.
    let unfinished = frame(From::Client, 0x82, &vec![0; 1 << 20]);
    for number in 0..96 {
        let mut wire = connect(Ipv4Addr::new(127, 66, 0, 1 + number), lab.gateway.address()).await;
        wire.send(upgrade("").replace("GET / ", "GET /filtered ")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
        wire.send(&unfinished[..unfinished.len() - 10]).await;
        neighbour.echoes();
        wires.push(wire);
    }
    let mut closed = Vec::new();
    let some = async {
        loop {
            closed.clear();
            for wire in &wires {
                let mut bytes = [0; 4];
                if wire.stream.try_read(&mut bytes).is_ok_and(|read| read > 0) {
                    closed.push(u16::from_be_bytes([bytes[2], bytes[3]]));
                }
            }
            if !closed.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("tunnels to be closed for the memory that they hold", some).await;
    assert!(closed.iter().all(|code| *code == 1013), "{closed:?}");
    neighbour.echoes();
    Plain::open(lab.gateway.address()).echoes();
}

/// A message of zeros as permessage-deflate makes it (RFC 7692 §7.2.1).
fn deflated_zeros(count: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&vec![0; count]).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    assert!(bytes.ends_with(&[0, 0, 0xFF, 0xFF]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
