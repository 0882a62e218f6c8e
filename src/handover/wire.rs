//! Frames over a Unix stream socket: a length, the descriptors that travel with it, and a JSON value.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt,
};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::HandoverError;

/// One end of a handover's connection. Every call blocks for a bounded time, unless it is told to wait without end.
///
/// A call that runs out of time loses nothing: the next call goes on where it stopped, in the middle of a frame too.
pub(super) struct Wire {
    stream: UnixStream,
    /// The value of a frame whose length was sent. Keys of tunnels may be in there, so it is zeroed when it was sent.
    outgoing: Zeroizing<Vec<u8>>,
    /// Bytes of `outgoing` that were sent.
    sent: usize,
    incoming: Incoming,
    /// Process that sent the latest frame, as the kernel names it. It need not be the process that connected: that one
    /// may have gone into the background since.
    sender: Option<Pid>,
}

/// The part of the next frame that was read so far.
#[derive(Default)]
struct Incoming {
    length: [u8; 4],
    read_of_length: usize,
    descriptors: VecDeque<OwnedFd>,
    /// The value, as long as `length` says; `None` until all of `length` is read.
    value: Option<Vec<u8>>,
    read_of_value: usize,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        sockopt::set_socket_passcred(&stream, true)?;
        Ok(Self { stream, outgoing: Zeroizing::default(), sent: 0, incoming: Incoming::default(), sender: None })
    }

    /// Process that sent the latest frame.
    pub(super) fn sender(&self) -> Option<Pid> {
        self.sender
    }

    /// A copy of the socket, non-blocking, to wait for it elsewhere.
    pub(super) fn socket(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Tells whether a frame was sent in part.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Sends a value, with copies of `descriptors`. `name` names the value in errors.
    ///
    /// # Errors
    /// [`HandoverError::Full`]: the other process did not read in time. The rest of the value, if a part of it was
    /// sent, is kept for [`flush`](Self::flush).
    pub(super) fn send(
        &mut self,
        name: &'static str,
        value: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(), HandoverError> {
        let until = Instant::now() + within;
        self.flush_until(name, until, within)?;
        let mut json = Zeroizing::new(Vec::with_capacity(USUAL_VALUE));
        serde_json::to_writer(&mut *json, value).map_err(|error| HandoverError::Gone(error.into()))?;
        let length = u32::try_from(json.len()).map_err(|_| HandoverError::Gone(io::ErrorKind::InvalidData.into()))?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
            }
            // Four bytes go into the socket whole or not at all, and the descriptors with them.
            let length = length.to_be_bytes();
            Ok(retry_on_intr(|| sendmsg(&self.stream, &[IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL))?)
        };
        while self.again(send(), PollFlags::OUT, Some(until)).map_err(|error| full(error, name, within))?.is_none() {}
        (self.outgoing, self.sent) = (json, 0);
        self.flush_until(name, until, within)
    }

    /// Sends what is left of a value that was sent in part.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(super) fn flush(&mut self, within: Duration) -> Result<(), HandoverError> {
        self.flush_until("the rest of a message", Instant::now() + within, within)
    }

    fn flush_until(&mut self, name: &'static str, until: Instant, within: Duration) -> Result<(), HandoverError> {
        while self.has_unsent() {
            let written = (&self.stream).write(&self.outgoing[self.sent..]);
            let written = self.again(written, PollFlags::OUT, Some(until));
            self.sent += written.map_err(|error| full(error, name, within))?.unwrap_or_default();
        }
        self.outgoing = Zeroizing::default();
        self.sent = 0;
        Ok(())
    }

    /// Receives the next value, and the descriptors that came with it. `expected` names it in errors; `within: None`
    /// waits without end.
    ///
    /// # Errors
    /// [`HandoverError::Silent`]: it did not come in time.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        expected: &'static str,
        within: Option<Duration>,
    ) -> Result<(T, VecDeque<OwnedFd>), HandoverError> {
        let until = within.map(|within| Instant::now() + within);
        let silent =
            |error| timed_out(error, || HandoverError::Silent { expected, within: within.unwrap_or_default() });
        let json = loop {
            let read = self.read_more();
            if let Some(Some(json)) = self.again(read, PollFlags::IN, until).map_err(silent)? {
                break Zeroizing::new(json);
            }
        };
        let descriptors = std::mem::take(&mut self.incoming).descriptors;
        let value = serde_json::from_slice(&json).map_err(|error| HandoverError::Unexpected {
            expected,
            heard: format!("{:?} ({error})", String::from_utf8_lossy(&json[..json.len().min(SHOWN)])),
        })?;
        Ok((value, descriptors))
    }

    /// Reads once; the value, where it is complete.
    fn read_more(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.incoming.value.is_none() {
            self.read_length()?;
        }
        let Incoming { value: Some(value), read_of_value, .. } = &mut self.incoming else { return Ok(None) };
        if *read_of_value < value.len() {
            match (&self.stream).read(&mut value[*read_of_value..])? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, CLOSED)),
                read => *read_of_value += read,
            }
        }
        Ok(if *read_of_value == value.len() { self.incoming.value.take() } else { None })
    }

    /// Passes a result on. Where the socket was not ready, waits until it is, and returns `None`: the call is to be
    /// made again.
    fn again<T>(&self, result: io::Result<T>, ready: PollFlags, until: Option<Instant>) -> io::Result<Option<T>> {
        match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) => {}
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&self.stream, ready)], left.as_ref()) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            // A process that is stopped and goes on finds its call interrupted (signal(7)).
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read_length(&mut self) -> io::Result<()> {
        let Incoming { length, read_of_length, descriptors, value, .. } = &mut self.incoming;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmCredentials(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut length[*read_of_length..])];
        let received = retry_on_intr(|| recvmsg(&self.stream, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC))?;
        if received.bytes == 0 {
            // In the middle of a frame it is no orderly end.
            let kind =
                if *read_of_length == 0 { io::ErrorKind::ConnectionAborted } else { io::ErrorKind::UnexpectedEof };
            return Err(io::Error::new(kind, CLOSED));
        }
        *read_of_length += received.bytes;
        for message in beside.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                RecvAncillaryMessage::ScmCredentials(sender) => self.sender = Some(sender.pid),
                _ => {}
            }
        }
        if *read_of_length == length.len() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST_VALUE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it announced a value that is too long"));
            }
            *value = Some(vec![0; length]);
        }
        Ok(())
    }
}

fn full(error: io::Error, name: &'static str, within: Duration) -> HandoverError {
    timed_out(error, || HandoverError::Full { name, within })
}

fn timed_out(error: io::Error, late: impl FnOnce() -> HandoverError) -> HandoverError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
        _ => HandoverError::Gone(error),
    }
}

const CLOSED: &str = "it closed the connection";
/// Linux's `SCM_MAX_FD`.
const MOST_DESCRIPTORS: usize = 253;
/// A batch of tunnels that each keep 65 KiB both ways, in base64, three times over.
const LONGEST_VALUE: usize = 64 << 20;
/// Bytes that a batch seldom exceeds: a buffer that grows leaves copies of what it held.
const USUAL_VALUE: usize = 256 * 1024;
/// Bytes that an error shows of a value that makes no sense.
const SHOWN: usize = 100;
