//! The property of planned leaving: each side sees what the other sent, in its order and once, wherever it happens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::rig::configuration_of;
use crate::support::{Backend, Gateway, within};
use crate::wire::{From, close, frame, switching, upgrade};

/// Messages of each side.
const MESSAGES: u32 = 600;

/// Messages that the backends together heard, and the number of the next message that one of them sends.
#[derive(Default)]
struct Conversation {
    heard: Mutex<Vec<Vec<u8>>>,
    next: AtomicU32,
}

/// A numbered message of any length, in fragments, with Pings between them.
fn message(from: From, number: u32, random: &mut StdRng) -> Vec<u8> {
    let body = payload(number, random);
    let mut bytes = Vec::new();
    let pieces = random.random_range(1..4);
    for piece in 0..pieces {
        let (start, end) = (body.len() * piece / pieces, body.len() * (piece + 1) / pieces);
        let opcode = if piece == 0 { 2 } else { 0 };
        let fin = if piece + 1 == pieces { 0x80 } else { 0 };
        bytes.extend(frame(from, fin | opcode, &body[start..end]));
        if random.random_bool(0.2) {
            bytes.extend(frame(from, 0x89, b"between"));
        }
    }
    bytes
}

fn payload(number: u32, random: &mut StdRng) -> Vec<u8> {
    let length = if random.random_bool(0.02) { 70_000 } else { random.random_range(0..300) };
    let mut body = number.to_be_bytes().to_vec();
    body.resize(4 + length, number.to_be_bytes()[3]);
    body
}

/// Writes bytes in chunks of any length.
async fn write_cut(to: &mut OwnedWriteHalf, bytes: &[u8], random: &mut StdRng) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.random_range(1..=rest.len().min(20_000)));
        to.write_all(chunk).await?;
        rest = after;
        if random.random_bool(0.3) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Puts the messages of a stream together.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
    message: Vec<u8>,
    messages: Vec<Vec<u8>>,
    closed: bool,
}

impl Reader {
    /// Reads once; false at the end.
    async fn read(&mut self, from: &mut OwnedReadHalf) -> bool {
        let count = from.read_buf(&mut self.bytes).await.unwrap_or(0);
        while let Some((first, payload, length)) = parse(&self.bytes) {
            self.bytes.drain(..length);
            match first & 0x0f {
                8 => self.closed = true,
                9 | 10 => {}
                _ => {
                    self.message.extend(payload);
                    if first & 0x80 != 0 {
                        self.messages.push(std::mem::take(&mut self.message));
                    }
                }
            }
        }
        count > 0
    }
}

/// First byte, payload and length of the frame that bytes begin with.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length) as usize, rest))?,
        short => (usize::from(short), rest),
    };
    let (key, rest) = if second & 0x80 != 0 { rest.split_first_chunk()? } else { (&[0; 4], rest) };
    let payload = rest.get(..length)?;
    let plain = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((*first, plain, bytes.len() - rest.len() + length))
}

/// Reads a head, and no byte more; false where the connection ends first.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    true
}

/// Serves one connection: sends numbered messages until it is told to leave, then a few more, then its Close frame.
async fn serve(mut stream: TcpStream, conversation: Arc<Conversation>, seed: u64) {
    if !read_head(&mut stream).await || stream.write_all(switching("").as_bytes()).await.is_err() {
        return;
    }
    let (mut from, mut to) = stream.into_split();
    let mut reader = Reader::default();
    let leaving = Arc::new(tokio::sync::Notify::new());
    let (told, sending) = (Arc::clone(&leaving), Arc::clone(&conversation));
    let sender = tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(sending.next.load(Ordering::SeqCst)));
        let mut left = None;
        let mut is_told = std::pin::pin!(told.notified());
        loop {
            if left.is_none() && futures::poll!(is_told.as_mut()).is_ready() {
                left = Some(random.random_range(0..5));
            }
            let number = sending.next.load(Ordering::SeqCst);
            if number == MESSAGES || left == Some(0) {
                if left.is_none() {
                    is_told.as_mut().await;
                }
                let _ = write_cut(&mut to, &close(From::Backend, 1012), &mut random).await;
                return;
            }
            left = left.map(|left: u32| left - 1);
            if write_cut(&mut to, &message(From::Backend, number, &mut random), &mut random).await.is_err() {
                return;
            }
            sending.next.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_micros(random.random_range(0..800))).await;
        }
    });
    while reader.read(&mut from).await {
        conversation.heard.lock().unwrap().append(&mut reader.messages);
        if reader.closed {
            leaving.notify_one();
        }
    }
    leaving.notify_one();
    let _ = sender.await;
}

/// Waits until one backend alone has the tunnel; its place.
async fn at_one(gateway: &Gateway, addresses: &[SocketAddr; 2]) -> usize {
    loop {
        let scrape = gateway.scrape().await;
        let has = addresses.map(|address| {
            let line = format!("longhaul_backend_tunnels{{backend=\"{address}\",upstream=\"u\"}} 1");
            scrape.lines().any(|this| this == line)
        });
        if has[0] != has[1] {
            return usize::from(has[1]);
        }
    }
}

async fn conversation_with(seed: u64) {
    let conversation = Arc::new(Conversation::default());
    let backend = || {
        let conversation = Arc::clone(&conversation);
        Backend::start(move |stream| serve(stream, Arc::clone(&conversation), seed))
    };
    let backends = [backend().await, backend().await];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let gateway = Gateway::start(&configuration_of(addresses, "{ buffer: 16KiB }", "")).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(upgrade("").as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await);
    let (mut from, mut to) = stream.into_split();
    let sender = tokio::spawn(async move {
        let mut random = StdRng::seed_from_u64(!seed);
        for number in 0..MESSAGES {
            write_cut(&mut to, &message(From::Client, number, &mut random), &mut random).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_micros(random.random_range(0..800))).await;
        }
        to
    });
    let mut reader = Reader::default();
    let reading = tokio::spawn(async move {
        while reader.messages.len() < MESSAGES as usize && reader.read(&mut from).await {}
        (reader, from)
    });
    let attached = "longhaul_reattach_total{outcome=\"attached\",reason=\"leaving\",upstream=\"u\"}";
    for number in 0..6 {
        let at = within("the tunnel to be at one backend", at_one(&gateway, &addresses)).await;
        crate::rig::drain(&gateway, addresses[at], &["--over", "0s", "--no-wait"]).await;
        gateway.metric_becomes(attached, f64::from(number + 1)).await;
        crate::rig::drain(&gateway, addresses[at], &["--undo"]).await;
    }
    let to = within("the client's messages to be sent", sender).await.unwrap();
    let (reader, from) = within("the backends' messages", reading).await.unwrap();
    let numbers = |messages: &[Vec<u8>]| -> Vec<u32> {
        messages.iter().map(|message| u32::from_be_bytes(*message.first_chunk().unwrap())).collect()
    };
    let all: Vec<u32> = (0..MESSAGES).collect();
    assert_eq!(numbers(&reader.messages), all, "from the backends, seed {seed}");
    within("the client's messages to be heard", async {
        while conversation.heard.lock().unwrap().len() < MESSAGES as usize {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let heard = conversation.heard.lock().unwrap();
    assert_eq!(numbers(&heard), all, "from the client, seed {seed}");
    let is_whole = |message: &Vec<u8>| message[4..].iter().all(|byte| *byte == message[3]);
    assert!(heard.iter().chain(&reader.messages).all(is_whole), "seed {seed}");
    drop((to, from));
}

#[tokio::test]
async fn each_side_sees_what_the_other_sent() {
    for seed in [1, 2, 3] {
        conversation_with(seed).await;
    }
}
