//! Frames over a Unix stream socket: a header, the descriptors that travel with it, and a JSON value.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt,
};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::HandoverError;

/// One end of a handover's connection. Blocks, for as long as it is told to at the most.
pub(super) struct Wire {
    stream: UnixStream,
    /// Who sent the latest value, as the kernel says. It need not be the process that connected: that one may have gone
    /// into the background since.
    sender: Option<Pid>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        // A process that takes nothing in for so long hangs.
        stream.set_write_timeout(Some(WRITE_WITHIN))?;
        sockopt::set_socket_passcred(&stream, true)?;
        Ok(Self { stream, sender: None })
    }

    /// The process that sent the latest value.
    pub(super) fn sender(&self) -> Option<Pid> {
        self.sender
    }

    /// Sends a value, with copies of `descriptors`.
    pub(super) fn send(&mut self, value: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
        let json = serde_json::to_vec(value).map_err(|error| HandoverError::Gone(error.into()))?;
        let length = u32::try_from(json.len()).map_err(|_| HandoverError::Gone(io::ErrorKind::InvalidData.into()))?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
            }
            // Four bytes go into the socket whole or not at all, and the descriptors with them.
            let length = length.to_be_bytes();
            retry_on_intr(|| sendmsg(&self.stream, &[IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL))?;
            (&self.stream).write_all(&json)
        };
        send().map_err(HandoverError::Gone)
    }

    /// The next value and the descriptors that came with it; `expected` names it in errors. `None` waits without end.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        expected: &'static str,
        within: Option<Duration>,
    ) -> Result<(T, VecDeque<OwnedFd>), HandoverError> {
        let timed_out = |error: io::Error| match (error.kind(), within) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(within)) => {
                HandoverError::Silent { expected, within }
            }
            _ => HandoverError::Gone(error),
        };
        self.stream.set_read_timeout(within).map_err(HandoverError::Gone)?;
        let (length, descriptors) = self.header().map_err(timed_out)?;
        let mut json = vec![0; length];
        (&self.stream).read_exact(&mut json).map_err(timed_out)?;
        let value = serde_json::from_slice(&json).map_err(|error| HandoverError::Unexpected {
            expected,
            heard: format!("{:?} ({error})", String::from_utf8_lossy(&json[..json.len().min(SHOWN)])),
        })?;
        Ok((value, descriptors))
    }

    fn header(&mut self) -> io::Result<(usize, VecDeque<OwnedFd>)> {
        let mut header = [0; 4];
        let mut have = 0;
        let mut descriptors = VecDeque::new();
        while have < header.len() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmCredentials(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut header[have..])];
            // Where a timeout is set, a process that is stopped and goes on finds its call interrupted (signal(7)).
            let received = retry_on_intr(|| recvmsg(&self.stream, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC))?;
            if received.bytes == 0 {
                // In the middle of a frame it is no orderly end.
                let kind = if have == 0 { io::ErrorKind::ConnectionAborted } else { io::ErrorKind::UnexpectedEof };
                return Err(io::Error::new(kind, "it closed the connection"));
            }
            have += received.bytes;
            for message in beside.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                    RecvAncillaryMessage::ScmCredentials(sender) => self.sender = Some(sender.pid),
                    _ => {}
                }
            }
        }
        let length = u32::from_be_bytes(header) as usize;
        if length > LONGEST_VALUE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it announced a value that is too long"));
        }
        Ok((length, descriptors))
    }
}

/// Linux's `SCM_MAX_FD`.
const MOST_DESCRIPTORS: usize = 253;
/// A batch of tunnels that each keep 65 KiB both ways, in base64, three times over.
const LONGEST_VALUE: usize = 64 << 20;
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// How much of a value that makes no sense is shown.
const SHOWN: usize = 100;
