//! A WebSocket client of few words: frames as they are, and a key of zeros, so that bytes can be compared.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::within;

/// The opcode of a whole binary message.
pub(crate) const BINARY: u8 = 0x82;
/// The opcode of a Close frame.
pub(crate) const CLOSE: u8 = 0x88;

/// A frame as its receiver sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A Close frame's status code.
    pub(crate) fn code(&self) -> u16 {
        assert_eq!(self.first, CLOSE, "{self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

/// A client's end of a tunnel.
pub(crate) struct Tunnel {
    pub(crate) stream: TcpStream,
    sent: u64,
}

impl Tunnel {
    /// Opens a tunnel, and waits for the 101.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = ask(address, path, None).await;
        finish_handshake(&mut stream).await;
        Self { stream, sent: 0 }
    }

    /// A tunnel whose handshake is done.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self { stream, sent: 0 }
    }

    /// As [`open`](Self::open), from a source address, with a receive buffer of few bytes where it is `small`.
    pub(crate) async fn open_from(address: SocketAddr, path: &str, source: Ipv4Addr, small: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if small {
            socket.set_recv_buffer_size(4096).unwrap();
        }
        socket.bind((source, 0).into()).unwrap();
        let mut stream = ask(address, path, Some(socket)).await;
        finish_handshake(&mut stream).await;
        Self { stream, sent: 0 }
    }

    /// Sends a number that no other message of this tunnel has, and waits for it to come back.
    pub(crate) async fn echoes(&mut self) {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        self.send(&frame(BINARY, &number, true)).await;
        assert_eq!(self.receive().await, Frame { first: BINARY, payload: number.into() });
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within("bytes to be taken", self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Frame {
        within("a frame", read_frame(&mut self.stream)).await.unwrap()
    }

    /// Says goodbye, and waits until the connection is closed.
    pub(crate) async fn close(mut self) {
        self.send(&frame(CLOSE, &1000u16.to_be_bytes(), true)).await;
        while let Ok(frame) = within("the answering Close", read_frame(&mut self.stream)).await {
            assert_eq!(frame.code(), 1000);
        }
    }
}

/// Sends the handshake of a tunnel whose 101 is awaited later.
pub(crate) async fn ask(address: SocketAddr, path: &str, socket: Option<TcpSocket>) -> TcpStream {
    let socket = socket.unwrap_or_else(|| TcpSocket::new_v4().unwrap());
    let mut stream = within("a connection", socket.connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Waits for the 101, and reads not one byte further.
pub(crate) async fn finish_handshake(stream: &mut TcpStream) {
    let head = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        head
    };
    let head = within("the answer to a handshake", head).await;
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
}

/// Several tunnels at once.
pub(crate) async fn open_several(address: SocketAddr, count: usize) -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    for _ in 0..count {
        tunnels.push(Tunnel::open(address, "/echo").await);
    }
    tunnels
}

/// Each tunnel sends a number of its own back.
pub(crate) async fn all_echo(tunnels: &mut [Tunnel]) {
    for tunnel in tunnels {
        tunnel.echoes().await;
    }
}

/// The bytes of a frame; a masked one has a key of zeros.
pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(bit | u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            frame.push(bit | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// Reads a frame to its last byte; the gateway's own towards backends are unmasked, others have a key of zeros.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let length = match head[1] & 0x7F {
        126 => usize::from(stream.read_u16().await?),
        127 => usize::try_from(stream.read_u64().await?).unwrap(),
        short => usize::from(short),
    };
    let mut key = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut key).await?;
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    if key != [0; 4] {
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    Ok(Frame { first: head[0], payload })
}
