//! The connection to a successor, as the predecessor has it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::message::{FromPredecessor, FromSuccessor, ListeningSocket, OLDEST_PROTOCOL, PROTOCOL};
use super::wire::Wire;
use super::{BATCH, HandoverError};
use crate::snapshot::SavedHooks;
use crate::tunnel::Frozen;

/// Connection to a successor. Its methods hand over step by step; each blocks for a bounded time.
pub struct ToSuccessor {
    wire: Wire,
    successor: SuccessorProcess,
    protocol: u32,
}

/// The process that asks to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessorProcess {
    /// Its process id.
    pub pid: u32,
    /// Its version of Longhaul.
    pub version: String,
}

impl ToSuccessor {
    /// Reads `hello` and chooses the newest protocol that both processes speak.
    ///
    /// # Errors
    /// [`HandoverError`]; a successor without a common protocol has been told so.
    pub fn greet(stream: UnixStream) -> Result<Self, HandoverError> {
        let mut wire = Wire::new(stream).map_err(HandoverError::Gone)?;
        let (FromSuccessor::Hello { oldest, newest, version, pid }, _) = wire.receive("hello", Some(WORD_WITHIN))?
        else {
            return Err(HandoverError::Unexpected { expected: "hello", heard: "another word".into() });
        };
        let protocol = newest.min(PROTOCOL);
        if protocol < oldest.max(OLDEST_PROTOCOL) {
            let reason = format!(
                "no common protocol: longhaul {version} speaks {oldest} to {newest}, longhaul {} speaks {OLDEST_PROTOCOL} to {PROTOCOL}",
                env!("CARGO_PKG_VERSION"),
            );
            wire.send(&FromPredecessor::Refused { reason: reason.clone() }, &[])?;
            return Err(HandoverError::Refused(reason));
        }
        Ok(Self { wire, successor: SuccessorProcess { pid, version }, protocol })
    }

    /// The process that asks to take over.
    pub fn successor(&self) -> &SuccessorProcess {
        &self.successor
    }

    /// Sends copies of the listening sockets, each with the address that the configuration names for it.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn welcome(&mut self, sockets: &[(SocketAddr, impl AsFd)]) -> Result<(), HandoverError> {
        let named = sockets.iter().map(|(configured, _)| ListeningSocket { configured: *configured }).collect();
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.wire.send(&FromPredecessor::Welcome { protocol: self.protocol, version, sockets: named }, &descriptors)
    }

    /// Waits until the successor accepts, for [`START_WITHIN`] at most: its start includes a round of health checks.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn wait_serving(&mut self) -> Result<(), HandoverError> {
        match self.wire.receive("serving", Some(START_WITHIN))? {
            (FromSuccessor::Serving, _) => Ok(()),
            (other, _) => Err(HandoverError::Unexpected { expected: "serving", heard: format!("{other:?}") }),
        }
    }

    /// Offers a batch of at most [`BATCH`] tunnels, and waits until the successor could go on with them.
    ///
    /// # Errors
    /// [`HandoverError`]: the successor has not touched them and will not.
    pub fn offer(&mut self, batch: &[Frozen]) -> Result<(), HandoverError> {
        debug_assert!(batch.len() <= BATCH, "the descriptors of a batch have to fit one message");
        let now = Instant::now();
        let passports = batch.iter().map(|frozen| frozen.passport(now)).collect();
        let sockets: Vec<BorrowedFd<'_>> = batch.iter().flat_map(Frozen::sockets).collect();
        self.wire.send(&FromPredecessor::Tunnels { passports, hooks: Vec::new() }, &sockets)?;
        self.wait_ready()
    }

    /// Offers the states that hooks have of their own, and waits until the successor has them.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn offer_hooks(&mut self, hooks: Vec<SavedHooks>) -> Result<(), HandoverError> {
        self.wire.send(&FromPredecessor::Tunnels { passports: Vec::new(), hooks }, &[])?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<(), HandoverError> {
        match self.wire.receive("ready", Some(WORD_WITHIN))? {
            (FromSuccessor::Ready, _) => Ok(()),
            (other, _) => Err(HandoverError::Unexpected { expected: "ready", heard: format!("{other:?}") }),
        }
    }

    /// Gives the batch that was offered away for good.
    ///
    /// # Errors
    /// [`HandoverError`]: the successor is dead and has not touched the batch. One that hangs is killed to make sure of it.
    pub fn commit(&mut self) -> Result<(), HandoverError> {
        self.wire.send(&FromPredecessor::Commit, &[])?;
        let failure = match self.taken(WORD_WITHIN) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if let Some(pid) = self.wire.sender() {
            // It may have gone by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // What it said before it died is still to be read.
        self.taken(DEATH_WITHIN).map_err(|_| failure)
    }

    fn taken(&mut self, within: Duration) -> Result<(), HandoverError> {
        match self.wire.receive("taken", Some(within))? {
            (FromSuccessor::Taken, _) => Ok(()),
            (other, _) => Err(HandoverError::Unexpected { expected: "taken", heard: format!("{other:?}") }),
        }
    }

    /// Has the successor answer for everything from here on. Further batches may follow.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn done(&mut self) -> Result<(), HandoverError> {
        self.wire.send(&FromPredecessor::Done, &[])
    }

    /// Gives up: whatever was not committed stays here.
    pub fn abort(mut self, reason: &str) {
        // A successor that is gone need not be told.
        let _ = self.wire.send(&FromPredecessor::Abort { reason: reason.to_owned() }, &[]);
    }
}

/// How long a word may take that costs the other process nothing but to say it.
const WORD_WITHIN: Duration = Duration::from_secs(2);
/// How long the system may take to end a process that was killed.
const DEATH_WITHIN: Duration = Duration::from_secs(10);
/// How long a successor may take from the listening sockets to `serving`.
pub const START_WITHIN: Duration = Duration::from_secs(30);
