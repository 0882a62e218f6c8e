//! Backends that end and start again. Each sends its number on a new tunnel, and then reads until the tunnel ends.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use base64::Engine as _;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The backends of a gateway, in the order of their numbers. They end when this is dropped.
pub(super) struct Backends {
    all: Vec<Backend>,
}

/// One backend.
pub(super) struct Backend {
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    pub(super) state: State,
    task: Option<JoinHandle<()>>,
}

/// Presence of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes clients.
    Here,
    /// Another one has come in its place.
    Leaving,
    /// Does not listen.
    Away,
}

impl Backends {
    pub(super) async fn start(count: usize) -> Result<Self> {
        let mut all = Vec::new();
        for number in 0..count {
            all.push(Backend::start(number, any_port()).await?);
        }
        Ok(Self { all })
    }

    /// Every backend that is there or leaves.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Backend> {
        self.all.iter().filter(|backend| backend.state != State::Away)
    }

    /// Every backend, those that are away among them.
    pub(super) fn all(&self) -> &[Backend] {
        &self.all
    }

    /// Ends one, with all its connections.
    pub(super) async fn end(&mut self, place: usize) {
        self.all[place].end().await;
    }

    /// Starts one that was ended, at its old address or another one.
    pub(super) async fn start_again(&mut self, place: usize, elsewhere: bool) -> Result<()> {
        let before = &self.all[place];
        let address = if elsewhere { any_port() } else { before.address };
        self.all[place] = Backend::start(before.number, address).await?;
        Ok(())
    }

    /// Starts another one in place of this, which is about to leave.
    pub(super) async fn add(&mut self, place: usize) -> Result<()> {
        let number = self.all.len();
        self.all[place].state = State::Leaving;
        self.all.push(Backend::start(number, any_port()).await?);
        Ok(())
    }

    /// Ends one that another has replaced.
    pub(super) async fn end_replaced(&mut self, place: usize) {
        self.end(place).await;
    }
}

impl Backend {
    async fn start(number: usize, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.context("a backend's address is taken")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(stream, number));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { number, address, state: State::Here, task: Some(task) })
    }

    async fn end(&mut self) {
        self.state = State::Away;
        if let Some(task) = self.task.take() {
            task.abort();
            // It was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

/// Takes a handshake, says which backend this is, and reads until the end. Checks of health say nothing.
async fn serve(mut stream: TcpStream, number: usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(1..) if head.len() < MOST_OF_A_HEAD => {}
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().filter_map(|line| line.split_once(": "));
    let Some((_, key)) = key.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")) else {
        return;
    };
    let accept = base64::engine::general_purpose::STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    let number = number.to_string();
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes();
    answer.extend([0x81, number.len() as u8]);
    answer.extend(number.bytes());
    if stream.write_all(&answer).await.is_err() {
        return;
    }
    let mut bytes = [0; 256];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MOST_OF_A_HEAD: usize = 16 * 1024;
