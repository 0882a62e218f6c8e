//! Raw peers: the test says which bytes go out, and sees the bytes that come.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{Backend, Gateway, within};

/// One connection, as bytes.
pub struct Wire {
    pub stream: TcpStream,
    /// Bytes that were read and not asked for yet.
    ahead: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::of(within("a connection", TcpStream::connect(address)).await.unwrap())
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to send", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// As [`send`](Self::send), to a side that may be gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Reads more; false at the end of the stream.
    async fn more(&mut self) -> bool {
        let count = within("more bytes", self.stream.read_buf(&mut self.ahead)).await;
        count.unwrap_or_else(|error| panic!("after {:?}: {error}", String::from_utf8_lossy(&self.ahead))) > 0
    }

    /// Reads more, for as long as it takes; `None` at the end, orderly or not.
    async fn more_if_any(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.ahead).await.ok()?;
        (count > 0).then_some(())
    }

    /// The next `count` bytes.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.more().await, "the stream ended after {:?}", String::from_utf8_lossy(&self.ahead));
        }
        self.ahead.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.ahead)
    }

    /// Waits for the end of the connection, orderly or not.
    pub async fn gone(&mut self) {
        while within("the end", self.stream.read_buf(&mut self.ahead)).await.is_ok_and(|count| count > 0) {}
    }

    /// Everything up to the blank line, with it.
    pub async fn head(&mut self) -> String {
        let head = within("a head", self.next_head()).await;
        head.unwrap_or_else(|| panic!("the stream ended after {:?}", String::from_utf8_lossy(&self.ahead)))
    }

    /// As [`head`](Self::head); `None` where the connection ends first.
    pub async fn next_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.ahead.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            self.more_if_any().await?;
        }
    }

    /// A whole answer, with its body, however it is framed (not: to the end of the stream).
    pub async fn answer(&mut self) -> Reply {
        let head = self.head().await;
        let body = match (field(&head, "content-length"), field(&head, "transfer-encoding")) {
            (Some(length), _) => self.exactly(length.parse().unwrap()).await,
            (None, Some("chunked")) => self.chunks().await,
            _ => Vec::new(),
        };
        Reply { head, body: String::from_utf8(body).unwrap() }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exactly(1).await);
            }
            let size = usize::from_str_radix(str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
            body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    /// The next frame. Cancelled before it is whole, it takes nothing away.
    pub async fn frame(&mut self) -> Frame {
        let frame = within("a frame", self.next_frame()).await;
        frame.unwrap_or_else(|| panic!("the stream ended after {:?}", String::from_utf8_lossy(&self.ahead)))
    }

    /// As [`frame`](Self::frame); `None` where the connection ends first.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.ahead) {
                self.ahead.drain(..length);
                return Some(frame);
            }
            self.more_if_any().await?;
        }
    }

    /// Half-closes the connection; reading goes on.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Ends the connection with a RST.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Reply {
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// A frame as its receiver sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame that bytes begin with, and its length on the wire.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, rest) = match second & 0x7F {
            126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
            127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            short => (u64::from(short), rest),
        };
        let masked = second & 0x80 != 0;
        let (key, rest) = if masked { rest.split_first_chunk()? } else { (&[0; 4], rest) };
        let payload = rest.get(..usize::try_from(length).unwrap())?;
        let length = bytes.len() - rest.len() + payload.len();
        let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        Some((Self { first: *first, masked, payload }, length))
    }

    /// The gateway's Close frame to a client.
    pub fn close_to_client(code: u16, word: &str) -> Self {
        Self { first: 0x88, masked: false, payload: [&code.to_be_bytes(), word.as_bytes()].concat() }
    }

    /// The gateway's Close frame to a backend.
    pub fn close_to_backend(code: u16, word: &str) -> Self {
        Self { masked: true, ..Self::close_to_client(code, word) }
    }
}

/// Sender of a frame; a client's frames are masked (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Client,
    Backend,
}

/// A frame's bytes.
pub fn frame(from: From, first: u8, payload: &[u8]) -> Vec<u8> {
    let bit = if from == From::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(bit | u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            bytes.push(bit | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if from == From::Client {
        let key = [0x37, 0xFA, 0x21, 0x3D];
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// A text message in one frame.
pub fn text(from: From, payload: &str) -> Vec<u8> {
    frame(from, 0x81, payload.as_bytes())
}

/// A Close frame.
pub fn close(from: From, code: u16) -> Vec<u8> {
    frame(from, 0x88, &code.to_be_bytes())
}

/// The value of a header field, named in lower case, in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    fields(head, name).next()
}

/// The values of every line of a header field.
pub fn fields<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    head.lines().filter_map(move |line| {
        let (this, value) = line.split_once(':')?;
        (this.to_ascii_lowercase() == name).then_some(value.trim())
    })
}

/// A correct upgrade request, with further header lines (each ending in CRLF).
pub fn upgrade(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// The right answer to it, with further header lines.
pub fn switching(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// The key and the answer to it of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A backend whose connections the test itself serves. Its listener ends when it is dropped; the connections stay.
pub struct Manual {
    pub backend: Backend,
    connections: mpsc::UnboundedReceiver<TcpStream>,
}

impl Manual {
    pub async fn start() -> Self {
        let (sender, connections) = mpsc::unbounded_channel();
        let backend = Backend::start(move |stream| {
            let _ = sender.send(stream);
            std::future::ready(())
        })
        .await;
        Self { backend, connections }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// The next connection.
    pub async fn next(&mut self) -> Wire {
        Wire::of(within("a connection at the backend", self.connections.recv()).await.unwrap())
    }
}

/// A gateway before some backends, with further lines of the upstream's. No health checks unless those ask for them.
pub async fn gateway(backends: &[SocketAddr], upstream: &str) -> Gateway {
    Gateway::start(&configuration(backends, upstream)).await
}

/// As [`gateway`], the text alone.
pub fn configuration(backends: &[SocketAddr], upstream: &str) -> String {
    let list: Vec<_> = backends.iter().map(ToString::to_string).collect();
    let health = if upstream.contains("health:") { "" } else { "    health: off\n" };
    format!(
        "version: 1\nthreads: 2\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\n\
         routes:\n  - upstream: u\nupstreams:\n  u:\n    backends: [{}]\n{health}{upstream}",
        list.join(", ")
    )
}

/// An open tunnel: the client's end and the backend's.
pub async fn tunnel(gateway: &Gateway, backend: &mut Manual) -> (Wire, Wire) {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, server)
}

/// Waits until no tunnel is open, checks that each of `count` tunnels was logged once when it opened and once when it
/// ended, and returns the last line of an end.
pub async fn all_ended(gateway: &Gateway, backend: SocketAddr, count: usize) -> String {
    let end = gateway.access.find_nth(&[" tunnel_end "], count - 1).await;
    for gauge in ["longhaul_backend_tunnels", "longhaul_backend_load"] {
        gateway.metric_becomes(&format!("{gauge}{{backend=\"{backend}\",upstream=\"u\"}}"), 0.0).await;
    }
    assert_eq!(gateway.access.count(&[" tunnel_open "]), count);
    assert_eq!(gateway.access.count(&[" tunnel_end "]), count);
    end
}

/// Asserts that a log line has every one of these fields.
pub fn has(line: &str, expected: &[&str]) {
    for part in expected {
        assert!(line.split(' ').any(|this| this == *part), "{part} is not in {line}");
    }
}
