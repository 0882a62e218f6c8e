//! The clients of a storm, in a process of their own. All of them ask for a WebSocket at the same moment. Clients that
//! are refused ask again, until each has a tunnel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use super::stream::Stream;
use super::{Targets, ask};
use crate::tls::Certificate;
use crate::ws::{self, Message};

/// Clients of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Address of the gateway.
    pub target: SocketAddr,
    /// Number of the first client.
    pub first: usize,
    /// Number of clients.
    pub count: usize,
    /// The certificate of a gateway that speaks TLS, and whether sessions are resumed.
    pub tls: Option<(PathBuf, bool)>,
    /// Clients keep their tunnel; otherwise they leave after their first message.
    pub stay: bool,
    /// The longest time until the last client has its tunnel.
    pub patience: Duration,
}

/// Outcome of a storm.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Time at which each client had its tunnel, in milliseconds from the beginning.
    pub admitted: Vec<u64>,
    /// Refusals, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that could not be made, or ended without an answer.
    pub broken: u64,
    /// Clients with a tunnel that got no echo.
    pub silent: u64,
    /// Clients that were to resume a session and did not.
    pub unresumed: u64,
}

/// Runs the job when a line comes on standard input, and writes its outcome to standard output.
///
/// # Errors
/// When epoll fails.
pub fn run(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job).context("no job")?;
    let mut targets = Targets { addresses: vec![job.target], ..Targets::default() };
    if let Some((file, resumes)) = &job.tls {
        let certificate = Certificate::from_file(file)?;
        let client = if *resumes { certificate.crowd(2 * job.count)? } else { certificate.client(false)? };
        targets.tls = Some(client.clone());
        // A ticket for each, and some for those that come again. Most gateways give two at a time.
        client.fill(true);
        for number in 0..2 * job.count {
            if !*resumes || client.tickets() > job.count + job.count / 10 {
                break;
            }
            ensure!(ask(number % SOURCES, &targets)?.status == 200, "the gateway does not answer");
        }
        client.fill(false);
    }
    let mut crowd = Crowd::new(job, targets)?;
    let mut input = std::io::stdin().lock();
    println!("{}", super::READY);
    std::io::stdout().flush()?;
    input.read_line(&mut String::new())?;
    let told = crowd.storm()?;
    println!("{}", serde_json::to_string(&told)?);
    std::io::stdout().flush()?;
    // Tunnels stay until all crowds have told.
    input.read_line(&mut String::new())?;
    Ok(())
}

struct Crowd {
    job: Job,
    targets: Targets,
    poll: Poll,
    clients: Vec<Client>,
    message: Message,
    told: Told,
    /// Clients that are to ask again, each with the moment.
    again: BinaryHeap<Reverse<(Instant, usize)>>,
    left: usize,
}

enum Client {
    /// The client has no connection. It will ask for the first time, or again.
    Away,
    /// The client asks. The number counts bytes of its request that are sent; the bytes are those of the answer so far.
    Asks(Stream, usize, Vec<u8>),
    /// The client has a tunnel. The number counts bytes of its first echo.
    In(Stream, usize),
    /// The client has a tunnel, and had its echo.
    Stays(#[expect(dead_code, reason = "keeps the connection")] Stream),
    Done,
}

impl Crowd {
    fn new(job: Job, targets: Targets) -> Result<Self> {
        Ok(Self {
            clients: (0..job.count).map(|_| Client::Away).collect(),
            left: job.count,
            poll: Poll::new().context("no epoll")?,
            message: Message::new(64),
            told: Told::default(),
            again: BinaryHeap::new(),
            job,
            targets,
        })
    }

    fn storm(&mut self) -> Result<Told> {
        let begun = Instant::now();
        let end = begun + self.job.patience;
        let mut events = Events::with_capacity(1024);
        for at in 0..self.job.count {
            self.come(at);
        }
        while self.left > 0 && Instant::now() < end {
            let next = self.again.peek().map(|Reverse((moment, _))| moment.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, Some(next.unwrap_or(TICK).min(TICK))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                other => other.context("epoll failed")?,
            }
            for event in &events {
                self.go_on(event.token().0, begun);
            }
            let now = Instant::now();
            while let Some(&Reverse((moment, at))) = self.again.peek()
                && moment <= now
            {
                self.again.pop();
                self.come(at);
            }
        }
        self.told.silent = self.clients.iter().filter(|client| matches!(client, Client::In(..))).count() as u64;
        Ok(std::mem::take(&mut self.told))
    }

    /// Connects a client to the gateway.
    fn come(&mut self, at: usize) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let connected = self.targets.connect((self.job.first + at) % SOURCES).and_then(|mut stream| {
            self.poll.registry().register(stream.socket(), Token(at), interest)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => self.clients[at] = Client::Asks(stream, 0, Vec::new()),
            Err(_) => self.fail(at),
        }
    }

    /// Carries a client on as far as its socket allows.
    fn go_on(&mut self, at: usize, begun: Instant) {
        match std::mem::replace(&mut self.clients[at], Client::Away) {
            Client::Asks(stream, sent, head) => self.ask(at, stream, sent, head, begun),
            Client::In(stream, came) => self.listen(at, stream, came),
            other => self.clients[at] = other,
        }
    }

    fn ask(&mut self, at: usize, mut stream: Stream, mut sent: usize, mut head: Vec<u8>, begun: Instant) {
        let request = request(self.job.first + at);
        while sent < request.len() {
            match stream.write(&request[sent..]) {
                Ok(count) => sent += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    self.clients[at] = Client::Asks(stream, sent, head);
                    return;
                }
                Err(_) => return self.fail(at),
            }
        }
        let mut chunk = [0; 2048];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return self.fail(at),
                Ok(count) => head.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.clients[at] = Client::Asks(stream, sent, head);
                    return;
                }
                Err(_) => return self.fail(at),
            }
            if head.windows(4).any(|four| four == b"\r\n\r\n") {
                break;
            }
        }
        if !ws::accepts(&head) {
            let (status, after) = refusal(&head);
            *self.told.refused.entry(status).or_default() += 1;
            return self.come_again(at, after);
        }
        self.told.admitted.push(begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        let is_resuming = self.targets.tls.as_ref().is_some_and(|client| client.is_resuming);
        self.told.unresumed += u64::from(is_resuming && !stream.is_resumed());
        // A new connection's empty buffer takes these few bytes at once.
        match stream.write_all(&self.message.frame) {
            Ok(()) => self.listen(at, stream, 0),
            Err(_) => self.leave(at),
        }
    }

    fn listen(&mut self, at: usize, mut stream: Stream, mut came: usize) {
        let mut chunk = [0; 256];
        loop {
            match stream.read(&mut chunk) {
                Ok(count @ 1..) => came += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => return self.leave(at),
            }
        }
        if came < self.message.answer.len() {
            self.clients[at] = Client::In(stream, came);
            return;
        }
        self.left -= 1;
        self.clients[at] = if self.job.stay { Client::Stays(stream) } else { Client::Done };
    }

    /// Notes that a client had a tunnel and has lost it.
    fn leave(&mut self, at: usize) {
        self.told.broken += 1;
        self.left -= 1;
        self.clients[at] = Client::Done;
    }

    fn fail(&mut self, at: usize) {
        self.told.broken += 1;
        self.come_again(at, None);
    }

    /// Makes a client ask again: when `Retry-After` says, else after one to two seconds.
    fn come_again(&mut self, at: usize, after: Option<u64>) {
        let jitter = Duration::from_millis((self.job.first + at) as u64 * 7919 % 1000);
        let after = Duration::from_secs(after.unwrap_or(1)) + jitter;
        self.again.push(Reverse((Instant::now() + after, at)));
    }
}

/// The request of a client, whose number is its key.
fn request(number: usize) -> Vec<u8> {
    ws::upgrade_request(&format!("/ws?client={number}"))
}

/// The status of an answer, and its `Retry-After`.
fn refusal(head: &[u8]) -> (u16, Option<u64>) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let _ = response.parse(head);
    let after = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("retry-after"));
    let after = after.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    (response.code.unwrap_or_default(), after)
}

/// Number of source addresses that clients share: as many as one /24 has.
const SOURCES: usize = 250;
/// The longest sleep, after which the time limit is looked at.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_key_of_its_own() {
        let text = |number| String::from_utf8(request(number)).unwrap();
        assert!(text(7).starts_with("GET /ws?client=7 HTTP/1.1\r\n"));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn a_refusal_has_its_status_and_its_time() {
        assert_eq!(refusal(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n\r\n"), (503, Some(9)));
        assert_eq!(refusal(b"HTTP/1.1 502 Bad\r\n\r\n"), (502, None));
    }
}
