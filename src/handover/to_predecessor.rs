//! The connection to the predecessor, as the successor has it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::HandoverError;
use super::message::{FromPredecessor, FromSuccessor, OLDEST_PROTOCOL, PROTOCOL};
use super::wire::Wire;
use crate::snapshot::SavedHooks;
use crate::tunnel::Passport;

/// Connection to the predecessor. Its methods take over step by step.
pub struct ToPredecessor {
    wire: Wire,
}

/// A message of the predecessor's, once this process serves.
pub enum Received {
    /// A batch of tunnels, each with the client's socket and the backend's, and states of hooks. The predecessor owns them still.
    Tunnels(Vec<(Passport, [OwnedFd; 2])>, Vec<SavedHooks>),
    /// This process owns the batch.
    Commit,
    /// This process is the gateway from now on.
    Done,
    /// The handover has failed; the predecessor remains the gateway and owns what it did not commit.
    Abort(String),
    /// The connection has ended: the predecessor is gone, and this process owns the batch that it was ready for.
    Gone,
}

impl ToPredecessor {
    /// Connects to the process that listens at `path`, and gets its listening sockets, each with the address that its
    /// configuration names for it.
    ///
    /// # Errors
    /// [`HandoverError`]: no process listens there, or the two have no protocol in common.
    pub fn connect(path: &Path) -> Result<(Self, Vec<(SocketAddr, OwnedFd)>), HandoverError> {
        let stream = UnixStream::connect(path).map_err(HandoverError::Gone)?;
        let mut wire = Wire::new(stream).map_err(HandoverError::Gone)?;
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
            (FromPredecessor::Refused { reason }, _) => Err(HandoverError::Refused(reason)),
            (other, _) => Err(HandoverError::Unexpected { expected: "welcome", heard: format!("{other:?}") }),
        }
    }

    /// Tells that this process accepts on the listening sockets.
    ///
    /// # Errors
    /// [`HandoverError::Gone`].
    pub fn serving(&mut self) -> Result<(), HandoverError> {
        self.wire.send(&FromSuccessor::Serving, &[])
    }

    /// Tells that this process can go on with the batch it was offered.
    ///
    /// # Errors
    /// [`HandoverError::Gone`].
    pub fn ready(&mut self) -> Result<(), HandoverError> {
        self.wire.send(&FromSuccessor::Ready, &[])
    }

    /// Tells that this process owns the batch that was committed. Must be sent before the first byte is moved.
    ///
    /// # Errors
    /// [`HandoverError::Gone`]: the predecessor is gone. This process owns the batch all the same.
    pub fn taken(&mut self) -> Result<(), HandoverError> {
        self.wire.send(&FromSuccessor::Taken, &[])
    }

    /// Waits for the next message, without a time limit: the predecessor may have long requests to serve.
    ///
    /// # Errors
    /// [`HandoverError::Unexpected`]: the message is not one of these.
    pub fn receive(&mut self) -> Result<Received, HandoverError> {
        let (said, mut descriptors) = match self.wire.receive("tunnels", None) {
            Ok(received) => received,
            Err(HandoverError::Gone(_)) => return Ok(Received::Gone),
            Err(failure) => return Err(failure),
        };
        match said {
            FromPredecessor::Tunnels { passports, hooks } if passports.len() * 2 == descriptors.len() => {
                let mut next = || descriptors.pop_front().expect("there are two for each passport");
                let tunnels = passports.into_iter().map(|passport| (passport, [next(), next()]));
                Ok(Received::Tunnels(tunnels.collect(), hooks))
            }
            FromPredecessor::Commit => Ok(Received::Commit),
            FromPredecessor::Done => Ok(Received::Done),
            FromPredecessor::Abort { reason } => Ok(Received::Abort(reason)),
            other => Err(HandoverError::Unexpected { expected: "tunnels", heard: format!("{other:?}") }),
        }
    }
}

/// Time limit of the predecessor's answer: it answers between two commands of its operator's.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
