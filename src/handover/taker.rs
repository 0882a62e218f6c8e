//! The successor's side.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::message::{FromPredecessor, FromSuccessor, OLDEST_PROTOCOL, PROTOCOL};
use super::wire::Wire;
use crate::snapshot::SavedHooks;
use crate::tunnel::Passport;

/// Takes over from a predecessor, step by step.
pub struct Taker {
    wire: Wire,
}

/// What a predecessor says once its successor serves.
pub enum Heard {
    /// A batch of tunnels, each with the client's socket and the backend's, and the states of hooks. Not ours yet.
    Tunnels(Vec<(Passport, [OwnedFd; 2])>, Vec<SavedHooks>),
    /// The batch is ours.
    Commit,
    /// We answer for everything from here on.
    Done,
    /// The handover has failed; the predecessor goes on, and what it did not commit is its own.
    Abort(String),
    /// The predecessor is gone without a word: a batch that we were ready for is ours.
    Gone,
}

impl Taker {
    /// Asks the process that listens on `path`; its listening sockets come back, each with the address that its
    /// configuration names for it.
    ///
    /// # Errors
    /// [`Failure`]: nobody listens there, or there is no common protocol.
    pub fn connect(path: &Path) -> Result<(Self, Vec<(SocketAddr, OwnedFd)>), Failure> {
        let stream = UnixStream::connect(path).map_err(Failure::Gone)?;
        let mut wire = Wire::new(stream).map_err(Failure::Gone)?;
        let hello = FromSuccessor::Hello {
            oldest: OLDEST_PROTOCOL,
            newest: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        wire.send(&hello, &[])?;
        match wire.receive("welcome", Some(WELCOME_WITHIN))? {
            (FromPredecessor::Welcome { sockets, .. }, descriptors) if sockets.len() == descriptors.len() => {
                let sockets = sockets.into_iter().map(|named| named.configured).zip(descriptors);
                Ok((Self { wire }, sockets.collect()))
            }
            (FromPredecessor::Refused { reason }, _) => Err(Failure::Refused(reason)),
            (other, _) => Err(Failure::Unexpected { expected: "welcome", heard: format!("{other:?}") }),
        }
    }

    /// Says that this process accepts on the listening sockets.
    ///
    /// # Errors
    /// [`Failure::Gone`].
    pub fn serving(&mut self) -> Result<(), Failure> {
        self.wire.send(&FromSuccessor::Serving, &[])
    }

    /// Says that this process could go on with the batch it was offered.
    ///
    /// # Errors
    /// [`Failure::Gone`].
    pub fn ready(&mut self) -> Result<(), Failure> {
        self.wire.send(&FromSuccessor::Ready, &[])
    }

    /// Says that the batch which was committed is ours, before its first byte is moved.
    ///
    /// # Errors
    /// [`Failure::Gone`]: the predecessor is gone, so the batch is ours all the more.
    pub fn taken(&mut self) -> Result<(), Failure> {
        self.wire.send(&FromSuccessor::Taken, &[])
    }

    /// Waits for the predecessor's next word, without end: it may have requests to serve for long.
    ///
    /// # Errors
    /// [`Failure::Unexpected`]: what it says makes no sense.
    pub fn hear(&mut self) -> Result<Heard, Failure> {
        let (said, mut descriptors) = match self.wire.receive("tunnels", None) {
            Ok(received) => received,
            Err(Failure::Gone(_)) => return Ok(Heard::Gone),
            Err(failure) => return Err(failure),
        };
        match said {
            FromPredecessor::Tunnels { passports, hooks } if passports.len() * 2 == descriptors.len() => {
                let mut next = || descriptors.pop_front().expect("there are two for each passport");
                let tunnels = passports.into_iter().map(|passport| (passport, [next(), next()]));
                Ok(Heard::Tunnels(tunnels.collect(), hooks))
            }
            FromPredecessor::Commit => Ok(Heard::Commit),
            FromPredecessor::Done => Ok(Heard::Done),
            FromPredecessor::Abort { reason } => Ok(Heard::Abort(reason)),
            other => Err(Failure::Unexpected { expected: "tunnels", heard: format!("{other:?}") }),
        }
    }
}

/// A predecessor answers between two commands of its operator's.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
