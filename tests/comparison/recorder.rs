//! A backend that keeps what reaches it, answers each connection once, and closes it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use longhaul::ws::handshake::accept;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::case::bytes;
use crate::support::{Head, Wire, within};

/// A request that reached the backend.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

/// The backend of all three.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Option<String>>>,
    connections: tokio::sync::Mutex<mpsc::UnboundedReceiver<JoinHandle<Option<Reached>>>>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<Option<String>>> = Arc::default();
        let (sender, connections) = mpsc::unbounded_channel();
        let said = Arc::clone(&answer);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = said.lock().unwrap().clone();
                if sender.send(tokio::spawn(serve(stream, answer))).is_err() {
                    return;
                }
            }
        });
        Self { address, answer, connections: connections.into() }
    }

    /// Answers from now on with these bytes, or with a plain 200 or 101.
    pub(crate) fn answer_with(&self, answer: Option<&str>) {
        *self.answer.lock().unwrap() = answer.map(str::to_owned);
    }

    /// The requests since the last call, once all of them have come. Connections that end before a whole head are none.
    ///
    /// Connections are accepted in their order: behind one of the test's own no earlier one is waiting.
    pub(crate) async fn reached(&self) -> Vec<Reached> {
        let mut last = TcpStream::connect(self.address).await.unwrap();
        last.write_all(b"END / HTTP/1.1\r\n\r\n").await.unwrap();
        last.shutdown().await.unwrap();
        let mut connections = self.connections.lock().await;
        let mut all = Vec::new();
        loop {
            let connection = within("a connection", connections.recv()).await.unwrap();
            match within("the end of a connection", connection).await.unwrap() {
                Some(last) if last.head.start.starts_with("END ") => return all,
                reached => all.extend(reached),
            }
        }
    }
}

async fn serve(stream: TcpStream, answer: Option<String>) -> Option<Reached> {
    let mut wire = Wire::new(stream);
    let head = wire.head().await.ok()??;
    let mut body = Vec::new();
    let cut = !read_body(&mut wire.stream, &head, &mut body).await;
    if !cut {
        let is_usual = answer.is_none();
        let answer = answer.map_or_else(|| usual(&head), |answer| bytes(&answer));
        // A proxy that has seen enough may be gone.
        let _ = wire.stream.write_all(&answer).await;
        if !(is_usual && answer.starts_with(b"HTTP/1.1 101 ")) {
            let _ = wire.stream.shutdown().await;
        }
    }
    let _ = wire.stream.read_to_end(&mut Vec::new()).await;
    Some(Reached { head, body, cut })
}

/// The answer of a backend that understands what it gets.
fn usual(head: &Head) -> Vec<u8> {
    match head.get("sec-websocket-key") {
        Some(key) if head.get("upgrade").is_some() => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept(&key)
        )
        .into_bytes(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec(),
    }
}

/// Reads a body as a backend does that trusts its proxy. Returns whether it is whole.
async fn read_body(stream: &mut BufReader<TcpStream>, head: &Head, body: &mut Vec<u8>) -> bool {
    if head.get("transfer-encoding").is_some_and(|coding| coding.to_lowercase().ends_with("chunked")) {
        return read_chunks(stream, body).await;
    }
    let length = head.all("content-length").first().and_then(|length| length.split(',').next()?.trim().parse().ok());
    let length: u64 = length.unwrap_or(0);
    stream.take(length).read_to_end(body).await.is_ok() && body.len() as u64 == length
}

async fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> bool {
    loop {
        let mut line = String::new();
        let length = stream.read_line(&mut line).await.unwrap_or(0);
        let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16);
        let (1.., Ok(size)) = (length, size) else { return false };
        if size == 0 {
            return true;
        }
        let mut chunk = vec![0; size + 2];
        if stream.read_exact(&mut chunk).await.is_err() {
            return false;
        }
        body.extend(&chunk[..size]);
    }
}
