//! The handover's protocol by hand: frames of JSON with descriptors beside them, as they are on the wire.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde_json::{Value, json};

use crate::support::PATIENCE;

/// One end of a handover's connection.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
}

/// A word of the protocol, with the descriptors that came along.
pub(crate) struct Said {
    pub(crate) value: Value,
    pub(crate) descriptors: VecDeque<OwnedFd>,
}

impl Said {
    /// The word it begins with.
    pub(crate) fn word(&self) -> &str {
        self.value["say"].as_str().unwrap()
    }
}

impl Raw {
    pub(crate) fn of(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Knocks at a gateway's door.
    pub(crate) fn connect(path: &Path) -> Self {
        Self::of(UnixStream::connect(path).unwrap())
    }

    /// Both ends for a relay, a successor's that knocks and its predecessor's, and the successor's `hello`. A
    /// predecessor waits two seconds for that word, and a process may take longer to start: so it has come before the
    /// predecessor is knocked at.
    pub(crate) fn between(knocked: &UnixListener, door: &Path) -> (Self, Self, Said) {
        let mut successor = Self::of(knocked.accept().unwrap().0);
        let hello = successor.hear().unwrap();
        (successor, Self::connect(door), hello)
    }

    /// A successor of this protocol's first version, up to the welcome.
    pub(crate) fn welcomed(path: &Path) -> (Self, Said) {
        let mut raw = Self::connect(path);
        raw.say(json!({ "say": "hello", "oldest": 1, "newest": 1, "version": "0.1.0", "pid": std::process::id() }));
        let welcome = raw.hear().unwrap();
        assert_eq!(welcome.word(), "welcome", "{}", welcome.value);
        (raw, welcome)
    }

    /// A successor that says it serves and does not.
    pub(crate) fn serving(path: &Path) -> Self {
        let (mut raw, _) = Self::welcomed(path);
        raw.say(json!({ "say": "serving" }));
        raw
    }

    /// Says a value; the other process may be gone.
    pub(crate) fn try_say(&mut self, value: &Value, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(value).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(beside.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        retry_on_intr(|| sendmsg(&self.stream, &[IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL))?;
        (&self.stream).write_all(&text)
    }

    pub(crate) fn say(&mut self, value: Value) {
        self.try_say(&value, &[]).unwrap();
    }

    /// Passes on what another end said.
    pub(crate) fn pass_on(&mut self, said: &Said) {
        let descriptors: Vec<_> = said.descriptors.iter().map(AsFd::as_fd).collect();
        self.try_say(&said.value, &descriptors).unwrap();
    }

    /// The next value; an error when the other process is gone.
    pub(crate) fn hear(&mut self) -> io::Result<Said> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        // A process that is stopped and goes on finds its call interrupted (signal(7)).
        let mut parts = [IoSliceMut::new(&mut length)];
        let received = retry_on_intr(|| recvmsg(&self.stream, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC))?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert_eq!(received.bytes, 4, "the length goes into the socket whole");
        let mut descriptors = VecDeque::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        (&self.stream).read_exact(&mut text)?;
        Ok(Said { value: serde_json::from_slice(&text).unwrap(), descriptors })
    }
}
