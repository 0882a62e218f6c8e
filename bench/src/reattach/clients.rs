//! The clients: each sends a numbered message every half second, and comes again when it is cut off.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::numbers::Numbers;
use crate::histogram::Histogram;
use crate::load::source;
use crate::ws;

/// State that the clients share with whoever restarts backends.
#[derive(Default)]
pub(super) struct Shared {
    /// Clients that have a tunnel.
    pub(super) open: AtomicU64,
    /// Messages sent, and those that came back.
    sent: AtomicU64,
    came: AtomicU64,
    /// A restart is under way, or has just been.
    pub(super) is_restarting: AtomicBool,
    /// No further message is to be sent.
    pub(super) is_over: AtomicBool,
    told: Mutex<Told>,
}

/// Record of all clients.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// Tunnels that were cut off.
    pub(super) cut: u64,
    /// Handshakes after that, in milliseconds from the start.
    pub(super) again: Vec<u64>,
    /// Handshakes of those that failed.
    pub(super) failed: u64,
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Times from a message to its return, without restarts and beside them.
    pub(super) quiet: Histogram,
    pub(super) beside: Histogram,
    /// Times that clients were without a tunnel.
    pub(super) without: Histogram,
}

impl Shared {
    /// Messages that are under way.
    pub(super) fn under_way(&self) -> u64 {
        let came = self.came.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed).saturating_sub(came)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs so many clients until [`Shared::is_over`] is set and the last messages are back.
///
/// # Errors
/// When there is no runtime.
pub(super) fn run(count: usize, target: SocketAddr, shared: &Arc<Shared>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let clients = LocalSet::new();
    let begun = Instant::now();
    for number in 0..count {
        let client = Client { number, count, target, begun, shared: Arc::clone(shared), numbers: Numbers::default() };
        clients.spawn_local(client.live());
    }
    runtime.block_on(clients);
    Ok(())
}

struct Client {
    number: usize,
    count: usize,
    target: SocketAddr,
    begun: Instant,
    shared: Arc<Shared>,
    numbers: Numbers,
}

/// Why a client ends its talk.
#[derive(PartialEq, Eq)]
enum End {
    /// Everything came back, or did not in time.
    Over,
    CutOff,
}

impl Client {
    async fn live(mut self) {
        // Handshakes and messages of all are spread evenly.
        sleep(INTERVAL.mul_f64(self.number as f64 / self.count as f64) * OPENING).await;
        let mut cut_at: Option<Instant> = None;
        while !(self.shared.is_over.load(Ordering::Relaxed) && self.numbers.away() == 0) {
            if cut_at.is_some() {
                let since = self.begun.elapsed().as_millis();
                self.shared.told().again.push(u64::try_from(since).unwrap_or(u64::MAX));
            }
            match timeout(PATIENCE, self.open()).await {
                Ok(Ok(stream)) => {
                    if let Some(cut_at) = cut_at.take() {
                        self.shared.told().without.record(cut_at.elapsed());
                    }
                    self.shared.open.fetch_add(1, Ordering::Relaxed);
                    let end = self.talk(stream).await;
                    self.shared.open.fetch_sub(1, Ordering::Relaxed);
                    if end == End::Over {
                        break;
                    }
                    self.shared.told().cut += 1;
                    cut_at = Some(Instant::now());
                }
                Ok(Err(_)) | Err(_) if self.shared.is_over.load(Ordering::Relaxed) => break,
                Ok(Err(_)) | Err(_) => self.shared.told().failed += 1,
            }
            // As a client with a back-off does: up to a second, another one each time.
            let jitter =
                (self.number * 7919 + usize::try_from(self.numbers.sent()).unwrap_or_default() * 104_729) % 1000;
            sleep(Duration::from_millis(jitter as u64)).await;
        }
        let mut told = self.shared.told();
        told.sent += self.numbers.sent();
        told.lost += self.numbers.away();
        told.doubled += self.numbers.doubled;
        told.reordered += self.numbers.reordered;
    }

    async fn open(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddrV4::new(source(self.number), 0).into())?;
        let mut stream = socket.connect(self.target).await?;
        stream.write_all(&ws::upgrade_request("/ws")).await?;
        let mut head = Vec::with_capacity(1024);
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0 && head.len() < 16 * 1024, "no answer to the handshake");
        }
        ensure!(ws::accepts(&head), "the handshake was refused");
        Ok(stream)
    }

    async fn talk(&mut self, mut stream: TcpStream) -> End {
        let mut due = Instant::now();
        let mut unread = Vec::with_capacity(256);
        let mut over_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    due += INTERVAL;
                    if self.shared.is_over.load(Ordering::Relaxed) {
                        let since = *over_since.get_or_insert_with(Instant::now);
                        if self.numbers.away() == 0 || since.elapsed() > LAST {
                            return End::Over;
                        }
                        continue;
                    }
                    let number = self.numbers.send(Instant::now());
                    self.shared.sent.fetch_add(1, Ordering::Relaxed);
                    if stream.write_all(&frame(number)).await.is_err() {
                        return End::CutOff;
                    }
                }
                read = stream.read_buf(&mut unread) => {
                    if !matches!(read, Ok(1..)) || self.take(&mut unread, &mut stream).await.is_none() {
                        return End::CutOff;
                    }
                }
            }
        }
    }

    /// Takes the frames off what was read; `None` where the tunnel ends.
    async fn take(&mut self, unread: &mut Vec<u8>, stream: &mut TcpStream) -> Option<()> {
        while let Some((opcode, payload, length)) = first_frame(unread) {
            match (opcode, payload.first_chunk()) {
                (BINARY, Some(number)) => {
                    let sent = self.numbers.come(u64::from_be_bytes(*number));
                    self.came(sent);
                }
                // The gateway may ask whether the client is there.
                (PING, _) => stream.write_all(&masked(PONG, payload)).await.ok()?,
                (PONG, _) => {}
                _ => return None,
            }
            unread.drain(..length);
        }
        Some(())
    }

    fn came(&self, sent: Option<Instant>) {
        let Some(sent) = sent else { return };
        self.shared.came.fetch_add(1, Ordering::Relaxed);
        let mut told = self.shared.told();
        let is_beside = self.shared.is_restarting.load(Ordering::Relaxed);
        let latency = if is_beside { &mut told.beside } else { &mut told.quiet };
        latency.record(sent.elapsed());
    }
}

/// A message with this number.
fn frame(number: u64) -> Vec<u8> {
    masked(BINARY, &number.to_be_bytes())
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = ws::header(opcode, payload.len(), 0x80);
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Opcode, payload and length of the first frame, once it is whole. Frames here are short.
fn first_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let length = usize::from(bytes.get(1)? & 0x7f) + 2;
    let frame = bytes.get(..length)?;
    Some((frame[0] & 0x0f, &frame[2..], length))
}

const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Time between two messages of a client.
const INTERVAL: Duration = Duration::from_millis(500);
/// Intervals over which all clients open their first tunnels.
const OPENING: u32 = 4;
/// The longest wait for a handshake: more than a client is held without a backend.
const PATIENCE: Duration = Duration::from_secs(40);
/// The longest wait for the last messages to come back.
const LAST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        let two = [&[0x82, 8][..], &7_u64.to_be_bytes(), &[0x89, 0]].concat();
        assert_eq!(first_frame(&two[..9]), None);
        assert_eq!(first_frame(&two), Some((BINARY, &7_u64.to_be_bytes()[..], 10)));
        assert_eq!(first_frame(&two[10..]), Some((PING, &[][..], 2)));
    }
}
