//! Tunnels that live for one message: connect, 101, echo, Close both ways, end.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token};

use super::opening::{Opening, Progress};
use super::stream::Stream;
use super::{Outcome, Targets};
use crate::stop::Stop;
use crate::ws::{self, Message};

/// Opens, uses and closes tunnels for `window`, `at_once` at a time.
///
/// # Errors
/// When epoll fails or the user wants an end; tunnels that fail are counted.
pub fn handshakes(targets: &Targets, at_once: usize, window: Duration, stop: &Stop) -> Result<Outcome> {
    let mut poll = Poll::new().context("no epoll")?;
    let mut events = Events::with_capacity(1024);
    let is_resuming = targets.tls.as_ref().is_some_and(|client| client.is_resuming);
    let (request, close) = (ws::upgrade_request(targets.path), ws::close_frame());
    let script = Script { request, message: Message::new(64), close, is_resuming };
    let begun = Instant::now();
    let end = begun + window;
    let mut outcome = Outcome::default();
    let mut number = 0;
    let mut next = |poll: &Poll, at: usize| -> Result<Life> {
        number += 1;
        let mut stream = targets.connect(number)?;
        poll.registry().register(stream.socket(), Token(at), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Life { since: Instant::now(), stage: Stage::Opening(Opening::new(stream)) })
    };
    let mut lives: Vec<Option<Life>> = Vec::new();
    for at in 0..at_once {
        lives.push(Some(next(&poll, at)?));
    }
    let mut alive = at_once;
    while alive > 0 && Instant::now() < end + PATIENCE {
        stop.check()?;
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.context("epoll failed")?,
        }
        for event in &events {
            let Token(at) = event.token();
            let Some(life) = lives[at].take() else { continue };
            let since = life.since;
            match life.stage.drive(&script) {
                Some(Stage::Done) => {
                    outcome.done += 1;
                    outcome.latency.record(since.elapsed());
                }
                Some(stage) => {
                    lives[at] = Some(Life { since, stage });
                    continue;
                }
                None => outcome.errors += 1,
            }
            if Instant::now() < end {
                lives[at] = Some(next(&poll, at)?);
            } else {
                alive -= 1;
            }
        }
    }
    outcome.errors += alive as u64;
    outcome.elapsed = begun.elapsed();
    Ok(outcome)
}

/// The longest time for the last handshakes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Script {
    request: Vec<u8>,
    message: Message,
    close: Vec<u8>,
    /// A client that does not resume an earlier TLS session counts as failed.
    is_resuming: bool,
}

struct Life {
    since: Instant,
    stage: Stage,
}

enum Stage {
    Opening(Opening),
    /// The message is sent. The number counts bytes of its echo.
    Echo(Stream, usize),
    /// The Close frame is sent. The number counts bytes of the answer; then the end of the stream must come.
    Closing(Stream, usize),
    Done,
}

impl Stage {
    /// Goes on as far as the socket allows. Returns `None` for a handshake that failed.
    fn drive(mut self, script: &Script) -> Option<Self> {
        loop {
            let (stage, goes_on) = match self {
                Self::Opening(opening) => match opening.drive(&script.request) {
                    Progress::Waiting(opening) => (Self::Opening(opening), false),
                    Progress::Failed => return None,
                    Progress::Open(stream) if script.is_resuming && !stream.is_resumed() => return None,
                    // A new connection's empty buffer takes these few bytes at once.
                    Progress::Open(mut stream) => {
                        stream.write_all(&script.message.frame).ok()?;
                        (Self::Echo(stream, 0), true)
                    }
                },
                Self::Echo(mut stream, before) => match read(&mut stream, &script.message.answer, before)? {
                    Reading::Whole => {
                        stream.write_all(&script.close).ok()?;
                        (Self::Closing(stream, 0), true)
                    }
                    Reading::Part(length) => (Self::Echo(stream, length), false),
                    Reading::End => return None,
                },
                Self::Closing(mut stream, before) => match read(&mut stream, &CLOSE_ANSWER, before)? {
                    Reading::Whole => (Self::Closing(stream, CLOSE_ANSWER.len()), true),
                    Reading::Part(length) => (Self::Closing(stream, length), false),
                    Reading::End if before == CLOSE_ANSWER.len() => (Self::Done, false),
                    Reading::End => return None,
                },
                Self::Done => return Some(Self::Done),
            };
            if !goes_on {
                return Some(stage);
            }
            self = stage;
        }
    }
}

/// Close 1000 from a server (RFC 6455 §5.5.1).
const CLOSE_ANSWER: [u8; 4] = [0x88, 2, 0x03, 0xe8];

enum Reading {
    Whole,
    Part(usize),
    End,
}

/// Reads the rest of `wanted`, of which `before` bytes came earlier. Returns `None` when other bytes came or the socket
/// failed.
fn read(stream: &mut Stream, wanted: &[u8], mut before: usize) -> Option<Reading> {
    let mut chunk = [0; 512];
    loop {
        let room = (wanted.len() - before).clamp(1, chunk.len());
        match stream.read(&mut chunk[..room]) {
            Ok(0) => return Some(Reading::End),
            Ok(length) if wanted.get(before..before + length) == Some(&chunk[..length]) => before += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Reading::Part(before)),
            _ => return None,
        }
        if before == wanted.len() {
            return Some(Reading::Whole);
        }
    }
}
