//! The compression of permessage-deflate: each message by itself.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Compresses and restores messages, each by itself. One serves all tunnels of a thread.
///
/// Memory: nothing before the first message; then what zlib keeps, the same whatever the messages are.
#[derive(Debug, Default)]
pub struct Codec {
    compress: Option<Compress>,
    pub(super) decompress: Option<Decompress>,
}

/// Why a compressed message cannot be read. The sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The message would be longer than the limit.
    #[error("a compressed message is longer than the limit")]
    TooBig,
    /// The payload is not the output of a DEFLATE compressor (RFC 1951, RFC 7692 §7.2).
    #[error("a compressed message is corrupt")]
    Corrupt,
}

impl InflateError {
    /// The status code to close with (RFC 6455 §7.4.1): 1009 for what is too big, 1007 for what is corrupt.
    pub fn code(self) -> u16 {
        match self {
            Self::TooBig => 1009,
            Self::Corrupt => 1007,
        }
    }
}

impl Codec {
    /// A codec that has not been used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores a message from its payload on the wire (RFC 7692 §7.2.2), whatever window it was compressed with.
    ///
    /// `limit`: the longest that the message may be, in bytes. Memory grows with what comes out, by doubling, and never
    /// beyond the limit and a byte.
    ///
    /// # Errors
    /// [`InflateError`]; a message that is too big is given up as soon as it is.
    pub fn inflate(&mut self, payload: &[u8], limit: u64) -> Result<Vec<u8>, InflateError> {
        let mut inflating = self.begin(payload.len(), limit);
        loop {
            if let Some(restored) = self.go_on(&mut inflating, payload, usize::MAX)? {
                return Ok(restored);
            }
        }
    }

    /// Begins to restore a message of `payload` bytes on the wire part by part, under the same rules as
    /// [`inflate`](Self::inflate).
    pub fn begin(&mut self, payload: usize, limit: u64) -> Inflating {
        let mut stream = self.decompress.take().unwrap_or_else(|| Decompress::new(false));
        stream.reset(false);
        // One byte more than allowed tells that there is more.
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let room = payload.saturating_mul(2).max(MIN_ROOM).min(most);
        Inflating { stream: Some(stream), out: Vec::new(), room, most, taken: 0 }
    }

    /// Goes on restoring a message, of which `payload` is the whole payload on the wire, until `budget` more bytes have
    /// come out, about; `None` when there is more to do.
    ///
    /// # Errors
    /// As those of [`inflate`](Self::inflate).
    pub fn go_on(
        &mut self,
        inflating: &mut Inflating,
        payload: &[u8],
        budget: usize,
    ) -> Result<Option<Vec<u8>>, InflateError> {
        let Some(mut stream) = inflating.stream.take() else { return Err(InflateError::Corrupt) };
        let restored = inflating.go_on(&mut stream, payload, inflating.out.len().saturating_add(budget));
        if matches!(restored, Ok(None)) {
            inflating.stream = Some(stream);
        } else {
            // The next message needs no stream of its own.
            self.decompress = Some(stream);
        }
        restored
    }

    /// Compresses a message to its payload on the wire (RFC 7692 §7.2.1), for a window of 15 bits.
    pub fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if payload.is_empty() {
            return EMPTY.to_vec();
        }
        let stream = self.compress.get_or_insert_with(|| Compress::new(LEVEL, false));
        stream.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + MIN_ROOM);
        loop {
            let taken = usize::try_from(stream.total_in()).expect("no more than the payload was taken");
            let rest = &payload[taken..];
            stream.compress_vec(rest, &mut out, FlushCompress::Sync).expect("a stream set up right takes any bytes");
            if out.len() < out.capacity() && stream.total_in() == payload.len() as u64 {
                break;
            }
            out.reserve(out.capacity());
        }
        let kept = out.strip_suffix(TAIL).expect("a sync flush ends with an empty stored block").len();
        out.truncate(kept);
        out
    }
}

/// A message that is being restored.
#[derive(Debug)]
pub struct Inflating {
    /// `None` once the message is restored, or given up.
    stream: Option<Decompress>,
    out: Vec<u8>,
    /// Least room that is made for what comes out.
    room: usize,
    /// Bytes that come out at the most.
    most: usize,
    /// Bytes of the payload that have been taken.
    taken: usize,
}

impl Inflating {
    /// Bytes that have come out.
    pub fn restored(&self) -> usize {
        self.out.len()
    }

    /// Goes on until `pause` bytes have come out in all, or a few more.
    fn go_on(
        &mut self,
        stream: &mut Decompress,
        payload: &[u8],
        pause: usize,
    ) -> Result<Option<Vec<u8>>, InflateError> {
        loop {
            let mut rest = payload.get(self.taken..).unwrap_or_default();
            let status = self.part(stream, &mut rest, pause)?;
            self.taken = payload.len() - rest.len();
            match status {
                None => return Ok(None),
                // A compressor may end with a final block (RFC 7692 §7.2.3.4), and nothing needs to follow it.
                Some(Status::StreamEnd) if rest.is_empty() => return Ok(Some(std::mem::take(&mut self.out))),
                Some(Status::StreamEnd) => stream.reset(false),
                Some(_) => break,
            }
        }
        // The rest of an empty block gives nothing: what comes out behind the payload was taken for part of it.
        let (length, mut tail) = (self.out.len(), &TAIL_AND_END[..]);
        let ended = self.part(stream, &mut tail, self.most)? == Some(Status::StreamEnd);
        let whole = ended && tail.is_empty() && self.out.len() == length;
        if whole { Ok(Some(std::mem::take(&mut self.out))) } else { Err(InflateError::Corrupt) }
    }

    /// Restores what `rest` has, up to the end of a stream or of `rest`; `None` where `pause` bytes came out before
    /// that.
    fn part(
        &mut self,
        stream: &mut Decompress,
        rest: &mut &[u8],
        pause: usize,
    ) -> Result<Option<Status>, InflateError> {
        loop {
            let length = self.out.len();
            if length == self.out.capacity() {
                let room = self.out.capacity().saturating_mul(2).max(self.room).min(self.most);
                self.out.reserve_exact(room - length);
            }
            let room = (self.out.capacity() - length).min(PART);
            self.out.resize(length + room, 0);
            let before = (stream.total_in(), stream.total_out());
            let status = stream.decompress(rest, &mut self.out[length..], FlushDecompress::Sync);
            let count = |now, before| usize::try_from(now - before).expect("no more than there is room for in memory");
            self.out.truncate(length + count(stream.total_out(), before.1));
            *rest = &rest[count(stream.total_in(), before.0)..];
            let status = status.map_err(|_| InflateError::Corrupt)?;
            if self.out.len() >= self.most {
                return Err(InflateError::TooBig);
            }
            if status == Status::StreamEnd || self.out.len() < length + room {
                return Ok(Some(status));
            }
            if self.out.len() >= pause {
                return Ok(None);
            }
        }
    }
}

/// Bytes that a compressor takes off the end of a message (RFC 7692 §7.2.1): an empty stored block but for its first
/// bits.
pub(super) const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];
/// The tail and one more empty stored block, a final one: what was cut off inside a block does not end with it.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];
/// An empty message (RFC 7692 §7.2.3.6).
const EMPTY: &[u8] = &[0x00];
/// Bytes restored at once.
pub(super) const PART: usize = 64 * 1024;
/// Least room for what comes out, in bytes.
const MIN_ROOM: usize = 256;
/// Of zlib-ng's levels the cheapest with Huffman trees of its own: 4 KiB of JSON became 1,174 bytes in 14 µs; level 1
/// 1,584 in 9 µs, level 6 1,031 in 31 µs.
const LEVEL: Compression = Compression::new(2);
