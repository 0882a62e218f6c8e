//! Clients from chosen addresses, plain or by TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::cast::upgrade_to;
use crate::support::within;
use crate::wire::{From, Reply, field, text};

/// A stream, whatever carries it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client's connection.
pub(crate) struct Guest {
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
}

/// Trusts the authority of a PEM.
pub(crate) fn connector(authority: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(longhaul::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A TCP connection from an address of 127.0.0.0/8.
pub(crate) async fn tcp(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connected(TcpSocket::new_v4().unwrap(), source, to).await
}

/// As [`tcp`], with a small window, as a slow client has on most networks.
pub(crate) async fn narrow_tcp(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    connected(socket, source, to).await
}

async fn connected(socket: TcpSocket, source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    socket.bind((source, 0).into()).unwrap();
    let stream = within("a connection", socket.connect(to)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Guest {
    /// Goes on with a connection, by TLS where there is a connector.
    pub(crate) async fn over(stream: TcpStream, tls: Option<&TlsConnector>) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("a.test").unwrap();
                Box::new(within("a TLS handshake", tls.connect(name, stream)).await?)
            }
        };
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Sends bytes to a side that may be gone.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = within("room to send", sent).await;
    }

    /// Reads until `done` gives something; `None` where the connection ends before.
    async fn until<T>(&mut self, done: impl Fn(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        loop {
            if let Some((found, length)) = done(&self.ahead) {
                self.ahead.drain(..length);
                return Some(found);
            }
            match within("more bytes", self.stream.read_buf(&mut self.ahead)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The head and the body of an answer; `None` where the connection ends before.
    pub(crate) async fn answer(&mut self) -> Option<Reply> {
        self.until(|bytes| {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length: usize = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let body = String::from_utf8(bytes.get(end..end + length)?.to_vec()).unwrap();
            Some((Reply { head, body }, end + length))
        })
        .await
    }

    /// Sends a GET with further header lines; returns its answer.
    pub(crate) async fn get(&mut self, headers: &str) -> Option<Reply> {
        self.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n")).await;
        self.answer().await
    }

    /// Asks for a WebSocket with further header lines; returns the answer.
    pub(crate) async fn shake(&mut self, target: &str, headers: &str) -> Option<Reply> {
        let request = upgrade_to(target);
        let (lines, _) = request.split_at(request.len() - 2);
        self.send(format!("{lines}{headers}\r\n")).await;
        self.answer().await
    }

    /// Opens a tunnel, and waits for its first message.
    pub(crate) async fn open(&mut self, target: &str, headers: &str) {
        let answer = self.shake(target, headers).await.expect("an answer");
        assert_eq!(answer.status(), 101, "{}", answer.head);
        self.message().await.expect("the backend's greeting");
    }

    /// The next message of the backend's; `None` where the connection ends before.
    pub(crate) async fn message(&mut self) -> Option<Vec<u8>> {
        Some(self.frame().await?.1)
    }

    /// The first byte and the payload of the next frame; `None` where the connection ends before.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        self.until(|bytes| {
            let (length, header) = match *bytes.get(1)? {
                126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(), 4),
                127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
                short => (short.into(), 2),
            };
            Some(((bytes[0], bytes.get(header..header + length)?.to_vec()), header + length))
        })
        .await
    }

    /// Ends the client's side; reading goes on.
    pub(crate) async fn finish(&mut self) {
        let _ = within("the end to be sent", self.stream.shutdown()).await;
    }

    /// Sends a message, and waits for the same one.
    pub(crate) async fn echoes(&mut self) {
        self.send(text(From::Client, "still here")).await;
        assert_eq!(self.message().await.expect("the tunnel is open"), b"still here");
    }

    /// Waits for the end of the connection; the bytes that came before.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let _ = within("the end", self.stream.read_to_end(&mut self.ahead)).await;
        std::mem::take(&mut self.ahead)
    }
}
