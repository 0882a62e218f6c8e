//! The `websocket` check: a real handshake, the answer verified, then Close 1000.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::probe::{Failure, USER_AGENT};
use crate::ws::{Cursor, Offer, Side, frame, handshake};

/// A WebSocket that was opened to see whether it can be.
pub(super) struct Opened {
    stream: TcpStream,
    /// What came behind the head of the 101.
    early: Vec<u8>,
}

/// Connects, shakes hands and verifies the answer (RFC 6455 §4.1).
pub(super) async fn open(address: SocketAddr, path: &PathAndQuery, host: &HeaderValue) -> Result<Opened, Failure> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Unreachable(error.to_string()),
    })?;
    let offer =
        Offer { key: STANDARD.encode(rand::random::<[u8; 16]>()), protocols: Vec::new(), extensions: Vec::new() };
    stream.write_all(&request(path, host, &offer.key)).await.map_err(|_| Failure::Closed)?;
    let mut bytes = Vec::new();
    let (status, headers) = loop {
        let head = read_head(&mut stream, &mut bytes).await?;
        // Interim answers (RFC 9110 §15.2) say nothing yet; 101 is one by its number only.
        if !head.0.is_informational() || head.0 == StatusCode::SWITCHING_PROTOCOLS {
            break head;
        }
    };
    handshake::verify(&offer, status, &headers)?;
    Ok(Opened { stream, early: bytes })
}

impl Opened {
    /// Sends Close 1000 and waits for the backend's Close or end, shortly and never beyond `deadline`, so that the
    /// backend sees an orderly end and no reset.
    pub(super) async fn leave(mut self, deadline: Instant) {
        let end = deadline.min(Instant::now() + FAREWELL);
        // The check has passed: an error here and a wait in vain change nothing.
        let _ = timeout_at(end, self.say_goodbye()).await;
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        let close = frame::close(1000, "", Some(rand::random()));
        self.stream.write_all(&close).await?;
        let mut cursor = Cursor::new(Side::Backend);
        cursor.advance(&self.early, &mut |_| {});
        let mut scratch = [0; 1024];
        while cursor.closed().is_none() {
            match self.stream.read(&mut scratch).await? {
                0 => break,
                read => cursor.advance(&scratch[..read], &mut |_| {}),
            }
        }
        Ok(())
    }
}

fn request(path: &PathAndQuery, host: &HeaderValue, key: &str) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: ").into_bytes();
    request.extend_from_slice(host.as_bytes());
    let rest = format!(
        "\r\nUser-Agent: {USER_AGENT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    request.extend_from_slice(rest.as_bytes());
    request
}

/// Reads one head, leaving in `bytes` what came behind it.
async fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(StatusCode, HeaderMap), Failure> {
    loop {
        if let Some((length, status, headers)) = parse_head(bytes)? {
            bytes.drain(..length);
            return Ok((status, headers));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(Failure::HeadMalformed);
        }
        let mut scratch = [0; 1024];
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return Err(Failure::Closed),
            Ok(read) => bytes.extend_from_slice(&scratch[..read]),
        }
    }
}

/// The head that `bytes` begin with and its length; `None` when they end inside it.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, StatusCode, HeaderMap)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::HeadMalformed),
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Failure::HeadMalformed)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Failure::HeadMalformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Failure::HeadMalformed)?;
        headers.append(name, value);
    }
    Ok(Some((length, status, headers)))
}

/// How long the answer to our Close is waited for: plenty for a backend that means to answer, and short enough that
/// one which does not holds no place of another check for long.
const FAREWELL: Duration = Duration::from_millis(250);
/// Longest head that is read: the usual limit of HTTP servers is 8 KiB, and interim answers may come before it.
const MAX_HEAD: usize = 16 * 1024;
/// Most header lines that a head may have; the usual limit of HTTP servers.
const MAX_FIELDS: usize = 100;
