//! A connection that speaks TLS, read and written without waiting.

mod state;

use std::cell::RefCell;
use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::Session;
use super::record::{LONGEST_RECORD, Records, StreamEnd};
pub use state::StreamState;

/// The connection below a [`Stream`]: read and written without waiting, as a socket is.
pub trait RawConnection: Read + Write {
    /// Reads, as [`Read::read`].
    ///
    /// # Errors
    /// As [`Read::read`].
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    /// Writes, as [`Write::write`].
    ///
    /// # Errors
    /// As [`Write::write`].
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    /// Writes bytes behind which others come soon, or [`shutdown_write`](Self::shutdown_write), or closing.
    ///
    /// # Errors
    /// As [`Write::write`].
    fn send_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    /// Tells the other side that nothing more comes (a TCP FIN).
    ///
    /// # Errors
    /// As [`std::net::TcpStream::shutdown`].
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// A connection whose bytes are TLS. Holds no buffer unless a record came in part or was not taken whole.
pub struct Stream<T = TcpStream> {
    below: T,
    layer: Layer,
    /// Beginning of a record whose rest has yet to come.
    partial: Vec<u8>,
    unsent: Option<Box<Unsent>>,
    /// End of the other side's stream, once it came.
    end: Option<StreamEnd>,
    /// The `close_notify` of this side is sealed.
    closing: bool,
}

/// The part that seals and opens.
enum Layer {
    Records(Box<Records>),
    Rustls(Box<Session>),
    /// The session was over, and nothing can be said any more.
    Nothing,
}

/// The kinds of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Sealed by the small record layer; it can go on in another process.
    Record,
    /// Sealed by rustls; it stays where it is.
    Rustls,
}

/// Records that the connection below has yet to take.
struct Unsent {
    bytes: Vec<u8>,
    /// Bytes of them that were taken.
    written: usize,
    /// Bytes of data in them that the caller does not know to be sealed: the next write begins with them.
    ///
    /// None are left exactly when `bytes` are all written, unless there were none.
    data: usize,
}

impl<T: RawConnection> Stream<T> {
    /// A stream that goes on where `session` stands on the connection `below`, with records that have yet to be sent.
    ///
    /// The handshake is done.
    pub fn new(below: T, session: Session, mut unsent: Vec<u8>) -> Self {
        let mut stream =
            Self { below, layer: Layer::Nothing, partial: Vec::new(), unsent: None, end: None, closing: false };
        let mut session = session;
        if session.peer_has_closed() {
            stream.end = Some(StreamEnd::Closed);
        }
        if !session.can_be_carried() {
            session.flush(&mut unsent);
            stream.layer = Layer::Rustls(Box::new(session));
        } else if let Some((records, partial)) = session.carry(&mut unsent) {
            stream.layer = Layer::Records(Box::new(records));
            stream.partial = partial;
        }
        stream.keep(&unsent, 0);
        stream
    }

    /// The part that seals it.
    pub fn kind(&self) -> StreamKind {
        if matches!(self.layer, Layer::Rustls(_)) { StreamKind::Rustls } else { StreamKind::Record }
    }

    /// Bytes of records that are kept: those that the connection below has yet to take, and a part of one that came.
    pub fn kept(&self) -> usize {
        let unsent = self.unsent.as_ref().map_or(0, |unsent| unsent.bytes.len() - unsent.written);
        self.partial.len() + unsent
    }

    /// The connection below.
    pub fn below(&self) -> &T {
        &self.below
    }

    /// The connection below, to be watched. Whoever reads from it, or writes to it, breaks the stream.
    pub fn below_mut(&mut self) -> &mut T {
        &mut self.below
    }

    /// Reads what is there into `buffer`, which is at least [`LEAST_BUFFER`] long. Returns the bytes of data; 0 is the
    /// end of the stream. Tells also whether nothing is left to be read, as far as it is known without asking again.
    ///
    /// # Errors
    /// As [`io::Read::read`], and `Interrupted`: something came, but no data. `UnexpectedEof`: the connection below
    /// ended without a `close_notify`. `InvalidData`: the other side broke the protocol, and was sent an alert.
    /// `ConnectionAborted`: it sent an alert.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        match self.end {
            Some(end) => outcome(end),
            None => SCRATCH.with_borrow_mut(|scratch| self.read_into(buffer, scratch)),
        }
    }

    fn read_into(&mut self, buffer: &mut [u8], scratch: &mut [u8]) -> io::Result<(usize, bool)> {
        let kept = match &self.layer {
            Layer::Rustls(session) => session.partial().len(),
            _ => self.partial.len(),
        };
        // No record has more data than bytes, so what comes fits.
        let room = scratch.len().min(buffer.len());
        let came = match self.below.receive(&mut scratch[kept..room])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            came => came,
        };
        let empties = came < room - kept;
        let produced = match &mut self.layer {
            Layer::Records(records) => {
                scratch[..kept].copy_from_slice(&self.partial);
                let opened = records.open(&scratch[..kept + came], buffer);
                self.end = opened.end;
                self.keep_partial(&scratch[opened.consumed..kept + came]);
                opened.produced
            }
            Layer::Rustls(session) => {
                let mut data = Vec::new();
                let read = session.read_tls(&scratch[kept..kept + came], &mut data);
                self.end = match read {
                    Ok(()) => session.peer_has_closed().then_some(StreamEnd::Closed),
                    Err(rustls::Error::AlertReceived(alert)) => Some(StreamEnd::Alerted(alert.into())),
                    Err(_) => Some(StreamEnd::Refused(super::record::Alert::DecodeError)),
                };
                buffer[..data.len()].copy_from_slice(&data);
                data.len()
            }
            Layer::Nothing => return outcome(StreamEnd::Alerted(0)),
        };
        self.respond(scratch);
        match (produced, self.end) {
            (0, Some(end)) => outcome(end),
            (0, None) => Err(io::ErrorKind::Interrupted.into()),
            (_, end) => Ok((produced, empties && end.is_none())),
        }
    }

    /// Keeps the beginning of a record, in an allocation that goes when the rest has come.
    fn keep_partial(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Sends the alerts that came of reading, as far as the connection below takes them.
    fn respond(&mut self, scratch: &mut [u8]) {
        let length = match (&mut self.layer, self.end) {
            (Layer::Records(records), Some(StreamEnd::Refused(alert))) => records.seal_alert(alert, scratch),
            (Layer::Records(records), _) => records.seal_refusal(scratch),
            (Layer::Rustls(session), _) if session.wants_write() => {
                let mut cipher = Vec::new();
                session.flush(&mut cipher);
                self.keep(&cipher, 0);
                0
            }
            _ => 0,
        };
        if length > 0 {
            self.keep(&scratch[..length], 0);
        }
        if self.unsent.as_ref().is_some_and(|unsent| unsent.data == 0) {
            // An error is met again by the next write.
            let _ = self.flush();
        }
    }

    /// Keeps records that hold `data` bytes of data, behind those that are kept.
    fn keep(&mut self, records: &[u8], data: usize) {
        if !records.is_empty() {
            let unsent = self.unsent.get_or_insert_with(|| Box::new(Unsent { bytes: Vec::new(), written: 0, data: 0 }));
            unsent.bytes.extend_from_slice(records);
            unsent.data += data;
        }
    }

    /// Writes kept records, as far as they are taken at once. Returns the bytes of data that count as written by that.
    fn flush(&mut self) -> io::Result<usize> {
        let Some(unsent) = &mut self.unsent else { return Ok(0) };
        let rest = &unsent.bytes[unsent.written..];
        // Behind the `close_notify` is the FIN.
        let written = if self.closing { self.below.send_more(rest) } else { self.below.send(rest) }?;
        unsent.written += written;
        let left = unsent.bytes.len() - unsent.written;
        // One byte of data at least is left as long as one of the records is, so that the caller comes again.
        let data = unsent.data.min(left);
        let counted = std::mem::replace(&mut unsent.data, data) - data;
        if left == 0 {
            self.unsent = None;
        }
        Ok(counted)
    }

    /// Seals bytes and sends them, as [`io::Write::write`]. The next call must begin with the bytes that this one did
    /// not take: some of them may be sealed.
    ///
    /// # Errors
    /// As [`io::Write::write`].
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_by(T::send, data)
    }

    /// Does the same for data behind which more comes soon, or [`shutdown_write`](Self::shutdown_write), or
    /// [`say_goodbye`](Self::say_goodbye) and dropping the stream.
    ///
    /// # Errors
    /// As [`io::Write::write`].
    pub fn write_more(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_by(T::send_more, data)
    }

    fn write_by(&mut self, send: impl FnOnce(&mut T, &[u8]) -> io::Result<usize>, data: &[u8]) -> io::Result<usize> {
        if self.unsent.is_some() {
            let counted = self.flush()?;
            match &self.unsent {
                Some(_) if counted == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                // Another call brings what follows.
                _ if counted > 0 => return Ok(counted),
                _ => {}
            }
        }
        if data.is_empty() || self.closing {
            return if self.closing { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(0) };
        }
        SCRATCH.with_borrow_mut(|scratch| self.seal_and_write(send, data, scratch))
    }

    fn seal_and_write(
        &mut self,
        send: impl FnOnce(&mut T, &[u8]) -> io::Result<usize>,
        data: &[u8],
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let mut own;
        let (taken, records) = match &mut self.layer {
            Layer::Records(records) => {
                // The connection has to end: nothing can change the keys of TLS 1.2.
                let sealed = records.seal(data, scratch).map_err(|_| io::ErrorKind::BrokenPipe)?;
                (sealed.taken, &scratch[..sealed.written])
            }
            Layer::Rustls(session) => {
                let taken = data.len().min(MOST_AT_ONCE);
                own = Vec::new();
                session.write(&data[..taken], &mut own);
                (taken, &own[..])
            }
            Layer::Nothing => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let written = match send(&mut self.below, records) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        if written == records.len() {
            return Ok(taken);
        }
        // As in `flush`.
        let left = records.len() - written;
        let kept = taken.min(left);
        let unsent = Unsent { bytes: records[written..].to_vec(), written: 0, data: kept };
        self.unsent = Some(Box::new(unsent));
        if taken > kept { Ok(taken - kept) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Tells the other side that nothing more comes: by a `close_notify`, and a FIN behind it.
    ///
    /// # Errors
    /// `WouldBlock`: it has to be called again when the connection below is writable. Others as of a write.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        if !self.closing {
            self.closing = true;
            let close = SCRATCH.with_borrow_mut(|scratch| match &mut self.layer {
                Layer::Records(records) => {
                    let length = records.seal_close(scratch);
                    scratch[..length].to_vec()
                }
                Layer::Rustls(session) => {
                    let mut cipher = Vec::new();
                    session.close(&mut cipher);
                    cipher
                }
                Layer::Nothing => Vec::new(),
            });
            self.keep(&close, 0);
        }
        while self.unsent.is_some() {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                flushed => drop(flushed?),
            }
        }
        self.below.shutdown_write()
    }

    /// Says that nothing more comes, as far as that can be said at once, before the stream is dropped.
    pub fn say_goodbye(&mut self) {
        if !self.closing && !matches!(self.end, Some(StreamEnd::Refused(_) | StreamEnd::Alerted(_))) {
            // The other side may be gone already.
            let _ = self.shutdown_write();
        }
    }
}

/// Outcome of reading at the end of the stream.
fn outcome(end: StreamEnd) -> io::Result<(usize, bool)> {
    match end {
        StreamEnd::Closed => Ok((0, true)),
        StreamEnd::Alerted(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        StreamEnd::Refused(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

thread_local! {
    /// Scratch of a worker: records on their way in or out, between two calls of the system.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Data that is sealed at once: four records, and what is left of a worker's buffer.
const MOST_AT_ONCE: usize = 65 * 1024;
/// The same as records.
const SCRATCH_BYTES: usize = MOST_AT_ONCE + 512;
/// Least length of a buffer to read into: one record and a part of another fit into it.
pub const LEAST_BUFFER: usize = LONGEST_RECORD + 1024;

#[cfg(test)]
mod tests;
