//! A WebSocket client that looks at the bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::within;

/// An open tunnel to an [`Echo`](crate::support::Echo).
pub(crate) struct Client {
    stream: TcpStream,
    /// The backend it leads to, by the backend's own word.
    pub(crate) backend: SocketAddr,
}

impl Client {
    /// Opens a tunnel; `key` goes into the header `X-Room`.
    pub(crate) async fn open(gateway: SocketAddr, path: &str, key: &str) -> Self {
        let stream = Self::ask(gateway, path, key).await;
        Self::answered(stream).await
    }

    /// Asks for a tunnel, and does not wait for the answer.
    pub(crate) async fn ask(gateway: SocketAddr, path: &str, key: &str) -> TcpStream {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nX-Room: {key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Takes the answer and the backend's first message.
    pub(crate) async fn answered(mut stream: TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the answer to an upgrade", stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut client = Self { stream, backend: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let (first, text) = client.frame().await;
        assert_eq!(first, 0x81);
        client.backend = String::from_utf8(text).unwrap().parse().unwrap();
        client
    }

    /// Sends a short text message and waits until it comes back.
    pub(crate) async fn echo(&mut self, text: &str) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
        frame.extend(mask);
        frame.extend(text.bytes().enumerate().map(|(place, byte)| byte ^ mask[place % 4]));
        self.stream.write_all(&frame).await.unwrap();
        assert_eq!(self.frame().await, (0x81, text.as_bytes().to_vec()));
    }

    /// The first byte and the payload of the next frame, which is shorter than 126 bytes and not masked.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        within("a frame", async {
            let first = self.stream.read_u8().await.unwrap();
            let length = self.stream.read_u8().await.unwrap();
            assert!(length < 126, "{length}");
            let mut payload = vec![0; length.into()];
            self.stream.read_exact(&mut payload).await.unwrap();
            (first, payload)
        })
        .await
    }

    /// The next bytes are a Close frame with code 1012 and this reason, and nothing follows it.
    pub(crate) async fn must_be_closed_for(mut self, reason: &str) {
        let expected = [&[0x88, 2 + reason.len() as u8, 0x03, 0xf4], reason.as_bytes()].concat();
        let mut bytes = vec![0; expected.len()];
        within("a Close frame", self.stream.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes, expected);
        // The answering Close, masked: code 1012.
        self.stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).await.unwrap();
        let mut rest = Vec::new();
        within("the end", self.stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}
