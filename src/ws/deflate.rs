//! permessage-deflate (RFC 7692) with a gateway in between: what is offered and agreed, and the compression itself.
//!
//! Each message is compressed by itself, in both directions (no context takeover), so that a message which the gateway
//! leaves as it is can pass in its compressed form, and one codec serves any number of tunnels.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::extensions::{self, Extension, Malformed};
use super::side::Side;

/// A client's offer of permessage-deflate, as it goes on to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: offered without a value.
    client_max_window_bits: Option<Option<u8>>,
}

/// Agreement of client and backend: no context takeover either way, and how far back each may refer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

/// Why a backend's answer to an offer opens no tunnel. The backend's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAgreement {
    /// RFC 6455 §9.1.
    #[error("Sec-WebSocket-Extensions is malformed")]
    Malformed,
    /// RFC 6455 §9.1; no other extension than permessage-deflate is offered to a backend.
    #[error("extension {0:?} was not offered")]
    NotOffered(String),
    /// RFC 7692 §5: one offer is accepted at most.
    #[error("permessage-deflate was accepted twice")]
    Repeated,
    /// RFC 7692 §5: not defined, there twice, or with a value that it cannot have.
    #[error("parameter {0:?} of permessage-deflate is not valid")]
    Parameter(String),
    /// RFC 7692 §7.1.1.1: it was offered, so the answer must have it.
    #[error("server_no_context_takeover is missing")]
    ContextTakeover,
    /// RFC 7692 §7.1.2.1: where it was offered the answer must have it, with the same value or a smaller one.
    #[error("server_max_window_bits is missing or larger than offered")]
    ServerWindow,
    /// RFC 7692 §7.1.2.2.
    #[error("client_max_window_bits was not offered")]
    ClientWindow,
}

/// The first offer of permessage-deflate that can be accepted, from the values of a client's
/// `Sec-WebSocket-Extensions`; `None` where there is none.
///
/// Names are compared in any letter case. An offer with a parameter that is unknown, repeated or has a value that it
/// cannot have is passed over (RFC 7692 §5), and so are all other extensions.
pub fn offer<'v>(values: impl IntoIterator<Item = &'v HeaderValue>) -> Option<Offer> {
    elements(values).flatten().filter(is_ours).find_map(|element| {
        let parameters = Parameters::read(&element).ok()?;
        let server_max_window_bits = match parameters.server_max_window_bits {
            Some(None) => return None,
            bits => bits.flatten(),
        };
        Some(Offer { server_max_window_bits, client_max_window_bits: parameters.client_max_window_bits })
    })
}

impl Offer {
    /// The value of `Sec-WebSocket-Extensions` for the backend: no context takeover either way, and the limits of
    /// windows as the client offered them.
    pub fn header(&self) -> HeaderValue {
        header(self.server_max_window_bits, self.client_max_window_bits)
    }

    /// Agreement that the backend made of the offer, from the values of `Sec-WebSocket-Extensions` in its 101; `None`
    /// if it declined.
    ///
    /// # Errors
    /// The first rule that the answer breaks.
    pub fn agree<'v>(
        &self,
        values: impl IntoIterator<Item = &'v HeaderValue>,
    ) -> Result<Option<Agreement>, BadAgreement> {
        let mut agreed = None;
        for element in elements(values) {
            let element = element.map_err(|Malformed| BadAgreement::Malformed)?;
            if !is_ours(&element) {
                return Err(BadAgreement::NotOffered(element.name.to_owned()));
            }
            if agreed.is_some() {
                return Err(BadAgreement::Repeated);
            }
            agreed = Some(self.accept(&Parameters::read(&element)?)?);
        }
        Ok(agreed)
    }

    fn accept(&self, answer: &Parameters) -> Result<Agreement, BadAgreement> {
        if !answer.server_no_context_takeover {
            return Err(BadAgreement::ContextTakeover);
        }
        let server = valued(SERVER_WINDOW, answer.server_max_window_bits)?;
        let client = valued(CLIENT_WINDOW, answer.client_max_window_bits)?;
        if let Some(offered) = self.server_max_window_bits
            && server.is_none_or(|bits| bits > offered)
        {
            return Err(BadAgreement::ServerWindow);
        }
        let Some(hint) = self.client_max_window_bits else {
            return match client {
                Some(_) => Err(BadAgreement::ClientWindow),
                None => Ok(Agreement { server_max_window_bits: server, client_max_window_bits: None }),
            };
        };
        // A value in the offer is a promise, whatever the answer says (RFC 7692 §7.1.2.2): the smaller one counts.
        let client = client.into_iter().chain(hint).min();
        Ok(Agreement { server_max_window_bits: server, client_max_window_bits: client })
    }
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` for the client's 101: no context takeover either way, and the limits of
    /// windows that the backend set or the client promised.
    pub fn header(&self) -> HeaderValue {
        header(self.server_max_window_bits, self.client_max_window_bits.map(Some))
    }

    /// Window of compressed messages of `sender`: they refer back by 2 to this power bytes; 8 to 15, by default 15.
    ///
    /// [`Codec::deflate`] refers back by 15 bits. What is to be sent in the name of a side that may do less is sent
    /// uncompressed (RFC 7692 §6: any message may be).
    pub fn window_bits(&self, sender: Side) -> u8 {
        let said = match sender {
            Side::Client => self.client_max_window_bits,
            Side::Backend => self.server_max_window_bits,
        };
        said.unwrap_or(MAX_WINDOW_BITS)
    }
}

/// The parameters of one element. Limits of windows: `Some(None)` where they have no value.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    fn read(element: &Extension<'_>) -> Result<Self, BadAgreement> {
        let mut read = Self::default();
        for (name, value) in &element.parameters {
            let invalid = || BadAgreement::Parameter((*name).to_owned());
            let name = name.to_ascii_lowercase();
            let repeated = match (name.as_str(), value) {
                (SERVER_TAKEOVER, None) => std::mem::replace(&mut read.server_no_context_takeover, true),
                (CLIENT_TAKEOVER, None) => std::mem::replace(&mut read.client_no_context_takeover, true),
                (SERVER_WINDOW | CLIENT_WINDOW, value) => {
                    let bits = value.as_deref().map(|text| window_bits(text).ok_or_else(invalid)).transpose()?;
                    let place = if name == SERVER_WINDOW {
                        &mut read.server_max_window_bits
                    } else {
                        &mut read.client_max_window_bits
                    };
                    place.replace(bits).is_some()
                }
                _ => return Err(invalid()),
            };
            if repeated {
                return Err(invalid());
            }
        }
        Ok(read)
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(text: &str) -> Option<u8> {
    (8..=MAX_WINDOW_BITS).find(|bits| bits.to_string() == text)
}

/// A limit of a window in an answer: there it must have a value (RFC 7692 §7.1.2).
fn valued(name: &str, bits: Option<Option<u8>>) -> Result<Option<u8>, BadAgreement> {
    match bits {
        Some(None) => Err(BadAgreement::Parameter(name.to_owned())),
        bits => Ok(bits.flatten()),
    }
}

fn elements<'v>(
    values: impl IntoIterator<Item = &'v HeaderValue>,
) -> impl Iterator<Item = Result<Extension<'v>, Malformed>> {
    values.into_iter().flat_map(|value| extensions::parse(value.as_bytes()))
}

fn is_ours(element: &Extension<'_>) -> bool {
    element.name.eq_ignore_ascii_case(NAME)
}

fn header(server_window: Option<u8>, client_window: Option<Option<u8>>) -> HeaderValue {
    let mut text = format!("{NAME}; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}");
    if let Some(bits) = server_window {
        text += &format!("; {SERVER_WINDOW}={bits}");
    }
    match client_window {
        None => {}
        Some(None) => text += &format!("; {CLIENT_WINDOW}"),
        Some(Some(bits)) => text += &format!("; {CLIENT_WINDOW}={bits}"),
    }
    HeaderValue::try_from(text).expect("names and numbers are visible ASCII")
}

/// Compresses and restores messages, each by itself. One serves all tunnels of a thread.
///
/// Memory: nothing before the first message; then what zlib keeps, the same whatever the messages are.
#[derive(Debug, Default)]
pub struct Codec {
    compress: Option<Compress>,
    decompress: Option<Decompress>,
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

const NAME: &str = "permessage-deflate";
const SERVER_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
const MAX_WINDOW_BITS: u8 = 15;

/// Bytes that a compressor takes off the end of a message (RFC 7692 §7.2.1): an empty stored block but for its first
/// bits.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];
/// The tail and one more empty stored block, a final one: what was cut off inside a block does not end with it.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];
/// An empty message (RFC 7692 §7.2.3.6).
const EMPTY: &[u8] = &[0x00];
/// Bytes restored at once.
const PART: usize = 64 * 1024;
/// Least room for what comes out, in bytes.
const MIN_ROOM: usize = 256;
/// Of zlib-ng's levels the cheapest with Huffman trees of its own: 4 KiB of JSON became 1,174 bytes in 14 µs; level 1
/// 1,584 in 9 µs, level 6 1,031 in 31 µs.
const LEVEL: Compression = Compression::new(2);

#[cfg(test)]
mod tests;
