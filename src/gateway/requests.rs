//! The requests of one connection, as Pingora reads them: one at a time, each with one meaning.
//!
//! Pingora would read on where it believes that a request ends, take chunks for sizes and lists of lengths for lengths.
//! So every head is checked here first (`http1::framing`), bodies are followed to their end, and the bytes behind a
//! request stay here until its answer is given. In the place of a request that is refused Pingora reads a stand-in,
//! and finds the refusal beside it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::http1::chunks::Chunks;
use crate::http1::framing::{Body, Framing, Refusal, check};
use crate::http1::head::{Progress, read_request};

/// The requests of one connection.
pub(super) struct Requests {
    /// Bytes that came and that nobody was given yet.
    ahead: BytesMut,
    place: Place,
    progress: Progress,
    /// The answer to the request was given: what follows is the next one.
    answered: bool,
    refused: Option<Box<Refused>>,
    /// The client has ended its side, and this is how long it is still taken for one that waits.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Place in the requests of a connection.
enum Place {
    /// In a head that is not complete.
    Head,
    /// In a head that Pingora is being given, and the place behind that.
    Given(Bytes, Then),
    /// In a body, so many bytes before its end.
    Length(u64),
    /// In a body of chunks.
    Chunks(Chunks),
    /// Behind a request.
    Over,
    /// Behind a refusal: nothing more is read from this client.
    Refused,
    /// In the answer of a backend, which is for Pingora to read.
    Answer,
}

/// The part of a connection behind a head.
#[derive(Clone, Copy)]
enum Then {
    Body(Body),
    /// Bytes of a client that is refused.
    Refused,
}

/// A request that is refused, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The reason.
    pub(super) why: Refusal,
    /// `GET` where the method is not known.
    pub(super) method: String,
    /// The value of `Host`; empty where that is not known.
    pub(super) host: String,
    /// The path, without the query; empty where that is not known.
    pub(super) path: String,
}

impl Requests {
    /// The requests of a connection of which `ahead` was read.
    pub(super) fn new(ahead: Vec<u8>) -> Self {
        Self {
            ahead: Bytes::from(ahead).into(),
            place: Place::Head,
            progress: Progress::default(),
            answered: false,
            refused: None,
            patience: None,
        }
    }

    /// The answer of a backend, of which `ahead` was read.
    pub(super) fn answer(ahead: Vec<u8>) -> Self {
        Self { place: Place::Answer, ..Self::new(ahead) }
    }

    /// Takes the refusal of the request that Pingora reads a stand-in for; once.
    pub(super) fn take_refused(&mut self) -> Option<Box<Refused>> {
        self.refused.take()
    }

    /// Notes that the request at work was answered: its client may be given the next one's turn.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// Tells if bytes came behind the request at work.
    pub(super) fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Bytes that came and that nobody was given.
    pub(super) fn into_ahead(self) -> Vec<u8> {
        self.ahead.into()
    }

    /// Gives Pingora bytes of the request whose turn it is.
    pub(super) fn poll_read<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.place {
                Place::Head => {
                    if !self.read_head() && ready!(self.poll_more(cx, stream))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Place::Given(head, then) => {
                    let count = head.len().min(buffer.remaining());
                    buffer.put_slice(&head.split_to(count));
                    if head.is_empty() {
                        self.place = match *then {
                            Then::Body(Body::Length(length)) => Place::Length(length),
                            Then::Body(Body::Chunked) => Place::Chunks(Chunks::default()),
                            Then::Refused => Place::Refused,
                        };
                    }
                    return Poll::Ready(Ok(()));
                }
                Place::Length(0) => self.place = Place::Over,
                Place::Chunks(chunks) if chunks.is_over() => self.place = Place::Over,
                Place::Length(_) | Place::Chunks(_) | Place::Answer => return self.poll_body(cx, stream, buffer),
                Place::Over if self.answered => {
                    self.answered = false;
                    self.progress.restart();
                    self.place = Place::Head;
                }
                Place::Over => return self.poll_behind(cx, stream),
                Place::Refused => {
                    // What is still on its way is read, so that the answer is not lost by a reset (RFC 9112 §9.6).
                    ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                    self.ahead.clear();
                    if ready!(self.poll_more(cx, stream))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Reads the head that the bytes begin with; false while it is not complete.
    fn read_head(&mut self) -> bool {
        if self.ahead.is_empty() || !self.progress.is_worth_reading(&self.ahead) {
            return false;
        }
        let read = match read_request(&self.ahead) {
            Ok(None) => return false,
            Ok(Some(head)) => {
                let refused = |why| Box::new(Refused::of(&head, why));
                check(&head).map(|framing| (head.length, framing)).map_err(refused)
            }
            Err(error) => Err(Box::new(Refused::unread(error.into()))),
        };
        match read {
            Ok((length, Framing { body, rewritten })) => {
                let came = self.ahead.split_to(length).freeze();
                self.place = Place::Given(rewritten.map_or(came, Bytes::from), Then::Body(body));
            }
            Err(refused) => {
                self.ahead.clear();
                self.place = Place::Given(refused.stand_in(), Then::Refused);
                self.refused = Some(refused);
            }
        }
        true
    }

    /// Reads more of the connection; 0 is its end.
    fn poll_more(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Gives the next bytes of a body; none at the end of the stream.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = match &self.place {
            Place::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.remaining()),
            _ => buffer.remaining(),
        };
        loop {
            let begun = buffer.filled().len();
            if self.ahead.is_empty() {
                ready!(poll_read_most(cx, stream, buffer, most))?;
            } else {
                let count = self.ahead.len().min(most);
                buffer.put_slice(&self.ahead.split_to(count));
            }
            let came = buffer.filled().len() - begun;
            match &mut self.place {
                Place::Length(left) => *left -= came as u64,
                Place::Chunks(chunks) if came > 0 => {
                    let taken = chunks.follow(&mut buffer.filled_mut()[begun..]).inspect_err(|_| {
                        self.place = Place::Refused;
                    });
                    let taken = taken.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
                    if taken.read < came {
                        let behind = &buffer.filled()[begun + taken.read..];
                        self.ahead = [behind, &self.ahead].concat().as_slice().into();
                    }
                    buffer.set_filled(begun + taken.kept);
                    if taken.kept == 0 {
                        continue;
                    }
                }
                _ => {}
            }
            if self.ahead.is_empty() {
                // A connection that is kept keeps no buffer.
                self.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Watches a client that waits for its answer. Bytes that come are kept for the next request. A client that has
    /// ended its side may have left, or have said that it asks for nothing more; it is waited for a while.
    fn poll_behind(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<io::Result<()>> {
        while self.patience.is_none() {
            if self.ahead.len() >= MOST_AHEAD {
                return Poll::Pending;
            }
            if ready!(self.poll_more(cx, stream))? == 0 {
                self.patience = Some(Box::pin(tokio::time::sleep(HALF_CLOSED)));
            }
        }
        let Some(patience) = &mut self.patience else { return Poll::Pending };
        patience.as_mut().poll(cx).map(Ok)
    }
}

impl Refused {
    fn of(head: &crate::http1::RequestHead<'_>, why: Refusal) -> Self {
        let host = head.lines.iter().find(|line| line.name.eq_ignore_ascii_case("host"));
        let host = host.map(|line| String::from_utf8_lossy(&line.value).into_owned()).unwrap_or_default();
        let path = head.target.split('?').next().unwrap_or_default().to_owned();
        Self { why, method: head.method.to_owned(), host, path }
    }

    fn unread(why: Refusal) -> Self {
        Self { why, method: "GET".to_owned(), host: String::new(), path: String::new() }
    }

    /// A request for Pingora to read. Its body never ends, so that the connection is its answer's alone.
    fn stand_in(&self) -> Bytes {
        let method = if self.method == "HEAD" { "HEAD" } else { "POST" };
        format!("{method} / HTTP/1.1\r\nHost: refused\r\nContent-Length: {}\r\n\r\n", i64::MAX).into()
    }
}

/// Reads at most so many bytes.
fn poll_read_most(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    if most >= buffer.remaining() {
        return Pin::new(stream).poll_read(cx, buffer);
    }
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
    ready!(Pin::new(stream).poll_read(cx, &mut part))?;
    let count = part.filled().len();
    buffer.advance(count);
    Poll::Ready(Ok(()))
}

/// Room for a read: more than nearly all heads.
const READ_BYTES: usize = 4 * 1024;
/// Bytes behind a request from which on no more are read before it is answered. A head fits.
const MOST_AHEAD: usize = 64 * 1024;
/// Time that a client is waited for after it has ended its side. A client that left looks the same until it is
/// written to, and holds a backend as long.
const HALF_CLOSED: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
