//! Single HTTP requests, by whose answers the backend of a client is known.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::StreamOwned;
use socket2::{Domain, Socket, Type};

use super::{Targets, source};

/// Answer to a request.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The name of the backend that answered, from `X-Backend`.
    pub backend: Option<String>,
}

trait Exchange: Read + Write {}

impl<T: Read + Write> Exchange for T {}

/// `GET /` from the source address of client `number`, on a connection of its own, within 10 s. It asks the target that
/// a tunnel of this client goes to.
///
/// # Errors
/// When there is no answer.
pub fn ask(number: usize, targets: &Targets) -> Result<Answer> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(source(number), 0)).into())?;
    socket.connect_timeout(&targets.of(number).into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let socket = TcpStream::from(socket);
    let mut stream: Box<dyn Exchange> = match &targets.tls {
        None => Box::new(socket),
        Some(client) => Box::new(StreamOwned::new(client.connection()?, socket)),
    };
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench.example.com\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let length = stream.read(&mut chunk).context("no answer")?;
        if length == 0 {
            bail!("closed without an answer");
        }
        head.extend_from_slice(&chunk[..length]);
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut response = httparse::Response::new(&mut headers);
        if response.parse(&head)?.is_complete() {
            let backend = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("x-backend"));
            return Ok(Answer {
                status: response.code.unwrap_or(0),
                backend: backend.map(|h| String::from_utf8_lossy(h.value).into_owned()),
            });
        }
    }
}

/// Name of the backend of client `number`.
///
/// # Errors
/// When there is no answer, or the answer names no backend.
pub fn home(number: usize, targets: &Targets) -> Result<String> {
    ask(number, targets)?.backend.context("the answer names no backend")
}

const PATIENCE: Duration = Duration::from_secs(10);
