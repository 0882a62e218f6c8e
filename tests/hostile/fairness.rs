//! Tunnels that send without end: the others of their worker keep their turn, counted in bytes and messages that pass.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::AsyncWriteExt;

use crate::cast::{connect, upgrade_to};
use crate::support::{Backend, Gateway};
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

    /// The median of what others pass while a message of 64 bytes goes to the echo and back.
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
        passed[passed.len() / 2]
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
async fn while_a_message_crosses_each_firehose_of_its_worker_passes_a_few_turns_at_most() {
    let lab = Lab::start(false).await;
    let mut firehoses = Vec::new();
    for count in [1, 4, 16] {
        while firehoses.len() < count {
            firehoses.push(firehose(lab.gateway.address(), firehoses.len() as u8).await);
        }
        let passed = lab.passes_during_an_echo(100);
        println!("{count} firehoses passed {} KiB each while a message crossed", passed / 1024 / count as u64);
        assert!(passed <= count as u64 * TURNS, "{count} firehoses passed {passed} bytes while a message crossed");
    }
    firehoses.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Bytes that a firehose may pass while a message crosses twice: two turns of a worker, and what the test's own threads
/// take to be woken.
const TURNS: u64 = 1 << 20;

const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
