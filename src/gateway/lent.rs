//! The part of a connection that Pingora may read: one request, from its head to the end of its body.
//!
//! Pingora would read on where it believes that a request ends. Bytes behind that belong to the next request, or to a
//! tunnel, stay here and pass a reader of the gateway's own first.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head_reader::CheckedHead;
use crate::http1::chunks::{BodyPart, Chunks};
use crate::http1::{Body, RequestRefused};

/// The bytes of a connection that were read ahead, and the request that Pingora is lent of them.
pub(super) struct Lent {
    ahead: Vec<u8>,
    /// Bytes of `ahead` that were handed out.
    read: usize,
    place: LentPosition,
    /// The request asks to switch protocols: bytes behind it may be no request.
    may_switch: bool,
    /// The client has ended its side, and is still taken for one that waits for so long.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Place in the request that is lent.
#[derive(Clone, Copy, Debug)]
enum LentPosition {
    /// In the head, so many bytes before its end; the body behind it.
    Head(usize, Body),
    /// In a body, so many bytes before its end.
    Length(u64),
    /// In a body of chunks.
    Chunks(Chunks),
    /// In a body that turned out to be malformed, or is refused otherwise.
    Malformed,
    /// In the answer of a backend, which is lent as a whole.
    Answer,
}

impl Lent {
    /// Nothing is lent of a connection of which `ahead` was read.
    pub(super) fn nothing(ahead: Vec<u8>) -> Self {
        Self { ahead, read: 0, place: LentPosition::Length(0), may_switch: false, patience: None }
    }

    /// Lends the answer of a backend, of which `ahead` was read.
    pub(super) fn answer(ahead: Vec<u8>) -> Self {
        Self { place: LentPosition::Answer, ..Self::nothing(ahead) }
    }

    /// Lends the request that `ahead` begins with.
    pub(super) fn request(ahead: Vec<u8>, head: &CheckedHead) -> Self {
        Self { place: LentPosition::Head(head.length, head.body), may_switch: head.may_switch, ..Self::nothing(ahead) }
    }

    /// Takes the bytes that were read ahead and handed to nobody.
    pub(super) fn take_ahead(&mut self) -> Vec<u8> {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.drain(..std::mem::take(&mut self.read));
        ahead
    }

    /// Size of the buffer with the bytes that were read ahead.
    pub(super) fn ahead_capacity(&self) -> usize {
        self.ahead.capacity()
    }

    /// Tells if bytes came that were handed to nobody.
    pub(super) fn has_more(&self) -> bool {
        self.read < self.ahead.len()
    }

    /// Tells if what came behind the request may be the next one.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_over() && !(self.may_switch && self.has_more())
    }

    /// Tells if the client has yet to send a part of the body.
    pub(super) fn is_in_body(&self) -> bool {
        !self.is_over() && matches!(self.place, LentPosition::Length(_) | LentPosition::Chunks(_))
    }

    /// Bytes of a body in chunks that have passed; 0 where its length was announced.
    pub(super) fn chunk_data(&self) -> u64 {
        if let LentPosition::Chunks(chunks) = self.place { chunks.data() } else { 0 }
    }

    /// Lends no more of the request: the rest of its body is unwanted.
    pub(super) fn give_up(&mut self) {
        self.place = LentPosition::Malformed;
    }

    fn is_over(&self) -> bool {
        match self.place {
            LentPosition::Length(left) => left == 0,
            LentPosition::Chunks(chunks) => chunks.is_over(),
            LentPosition::Head(..) | LentPosition::Malformed | LentPosition::Answer => false,
        }
    }

    /// Gives Pingora the next bytes of what it is lent.
    pub(super) fn poll_read<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        // Again where nothing is left of what came: of chunks, extensions and trailers are not handed out.
        while buffer.filled().len() == before && buffer.remaining() > 0 {
            if self.is_over() {
                return self.poll_behind(cx, stream);
            }
            if matches!(self.place, LentPosition::Malformed) {
                return self.poll_unwanted(cx, stream);
            }
            if self.has_more() {
                self.hand_out(buffer)?;
                continue;
            }
            ready!(Pin::new(&mut *stream).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            self.keep(buffer, before)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands out bytes that were read ahead.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let end = self.ahead.len().min(self.read + buffer.remaining());
        let BodyPart { read, kept } = self.place.follow(&mut self.ahead[self.read..end])?;
        buffer.put_slice(&self.ahead[self.read..self.read + kept]);
        self.read += read;
        if self.read == self.ahead.len() {
            // A connection that is kept keeps no buffer.
            self.ahead = Vec::new();
            self.read = 0;
        }
        Ok(())
    }

    /// Keeps of the bytes that were read into `buffer` since `before` those that are lent; the rest is put ahead.
    fn keep(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let bytes = &mut buffer.filled_mut()[before..];
        let BodyPart { read, kept } = self.place.follow(bytes)?;
        self.ahead = bytes[read..].to_vec();
        buffer.set_filled(before + kept);
        Ok(())
    }

    /// Watches a client that waits for its answer. Bytes that come are kept for the next request. A client that has
    /// ended its side may have left, or have said that it asks for nothing more; it is waited for a while.
    fn poll_behind(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<io::Result<()>> {
        while self.patience.is_none() {
            if self.ahead.len() >= MOST_AHEAD {
                return Poll::Pending;
            }
            if ready!(poll_more(cx, stream, &mut self.ahead))? == 0 {
                self.patience = Some(Box::pin(tokio::time::sleep(HALF_CLOSED)));
            }
        }
        let Some(patience) = &mut self.patience else { return Poll::Pending };
        patience.as_mut().poll(cx).map(Ok)
    }

    /// Ends our side, and reads for a while what a client still sends, until it has ended its own: so that the answer
    /// is not lost by a reset (RFC 9112 §9.6).
    fn poll_unwanted<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED)));
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        let mut unwanted = Vec::new();
        while ready!(poll_more(cx, stream, &mut unwanted))? > 0 {
            unwanted.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl LentPosition {
    /// Follows the next bytes; those that are lent are moved to the beginning of `bytes`.
    fn follow(&mut self, bytes: &mut [u8]) -> io::Result<BodyPart> {
        let all = |count| BodyPart { read: count, kept: count };
        match self {
            // Alone: a body that is malformed does not take the head with it.
            Self::Head(left, body) => {
                let count = bytes.len().min(*left);
                *left -= count;
                if *left == 0 {
                    *self = match *body {
                        Body::Length(length) => Self::Length(length),
                        Body::Chunked => Self::Chunks(Chunks::default()),
                    };
                }
                Ok(all(count))
            }
            Self::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(all(count))
            }
            Self::Chunks(chunks) => chunks.follow(bytes).map_err(|refusal| {
                *self = Self::Malformed;
                io::Error::new(io::ErrorKind::InvalidData, RequestRefused::Rule(refusal))
            }),
            Self::Malformed | Self::Answer => Ok(all(bytes.len())),
        }
    }
}

/// Reads what has come to the end of `bytes`; 0 is the end of the stream.
pub(super) fn poll_more(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    // On the stack, so that a silent connection costs no buffer.
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    bytes.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Room for a read: more than nearly all heads.
const READ_BYTES: usize = 4 * 1024;
/// Bytes behind a request from which on no more are read before it is answered. A head fits.
const MOST_AHEAD: usize = 64 * 1024;
/// Time that a client is waited for after it has ended its side. A client that left looks the same until it is
/// written to, and holds a backend as long.
const HALF_CLOSED: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    struct Reader<'s>(Lent, &'s [u8], usize);

    /// A stream that gives its bytes in pieces, and then nothing.
    struct Pieces<'s, 'r>(&'r mut &'s [u8], usize);

    impl AsyncRead for Pieces<'_, '_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let count = self.1.min(self.0.len()).min(buffer.remaining());
            if count == 0 {
                return Poll::Pending;
            }
            let (piece, rest) = self.0.split_at(count);
            buffer.put_slice(piece);
            *self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces<'_, '_> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Reader<'_> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Self(lent, rest, size) = &mut *self;
            lent.poll_read(cx, &mut Pieces(rest, *size), buffer)
        }
    }

    #[tokio::test]
    async fn one_request_is_lent_and_not_a_byte_more() {
        let next = "GET / HTTP/1.1";
        for (body, text, read) in [
            (Body::Length(0), "", ""),
            (Body::Length(5), "hello", "hello"),
            (Body::Chunked, "5;x=y\r\nhello\r\n0\r\nT: t\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let bytes = format!("HEAD{text}{next}");
            for (size, ahead) in (1..bytes.len()).flat_map(|size| [(size, 4), (size, bytes.len())]) {
                let head = CheckedHead { length: 4, body, may_switch: false, expects: false, encoded: None };
                let lent = Lent::request(bytes.as_bytes()[..ahead].to_vec(), &head);
                let mut reader = Reader(lent, &bytes.as_bytes()[ahead..], size);
                let mut came = vec![0; 4 + read.len()];
                reader.read_exact(&mut came).await.unwrap();
                assert_eq!(String::from_utf8(came).unwrap(), format!("HEAD{read}"), "in pieces of {size}");
                let more = std::future::poll_fn(|cx| {
                    let mut room = [0; 64];
                    Poll::Ready(Pin::new(&mut reader).poll_read(cx, &mut ReadBuf::new(&mut room)).is_pending())
                });
                assert!(more.await, "what is behind is not lent, in pieces of {size}");
                assert!(reader.0.may_go_on());
                assert_eq!([&reader.0.take_ahead(), reader.1].concat(), next.as_bytes());
            }
        }
    }
}
