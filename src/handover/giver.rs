//! The predecessor's side.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::message::{FromPredecessor, FromSuccessor, ListeningSocket, OLDEST_PROTOCOL, PROTOCOL};
use super::wire::Wire;
use super::{BATCH, Failure};
use crate::snapshot::SavedHooks;
use crate::tunnel::Frozen;

/// Hands over to a successor, step by step. Every step blocks, for a bounded time.
pub struct Giver {
    wire: Wire,
    successor: Successor,
    protocol: u32,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its process id.
    pub pid: u32,
    /// Its release.
    pub version: String,
}

impl Giver {
    /// Hears who asks, and finds a protocol that both speak.
    ///
    /// # Errors
    /// [`Failure`]; where there is no common protocol, the successor has been told.
    pub fn greet(stream: UnixStream) -> Result<Self, Failure> {
        let mut wire = Wire::new(stream).map_err(Failure::Gone)?;
        let (FromSuccessor::Hello { oldest, newest, version, pid }, _) = wire.receive("hello", Some(WORD_WITHIN))?
        else {
            return Err(Failure::Unexpected { expected: "hello", heard: "another word".into() });
        };
        let protocol = newest.min(PROTOCOL);
        if protocol < oldest.max(OLDEST_PROTOCOL) {
            let reason = format!(
                "no common protocol: longhaul {version} speaks {oldest} to {newest}, longhaul {} speaks {OLDEST_PROTOCOL} to {PROTOCOL}",
                env!("CARGO_PKG_VERSION"),
            );
            wire.send(&FromPredecessor::Refused { reason: reason.clone() }, &[])?;
            return Err(Failure::Refused(reason));
        }
        Ok(Self { wire, successor: Successor { pid, version }, protocol })
    }

    /// Who asks.
    pub fn successor(&self) -> &Successor {
        &self.successor
    }

    /// Hands out copies of the listening sockets, each with the address that the configuration names for it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn welcome(&mut self, sockets: &[(SocketAddr, impl AsFd)]) -> Result<(), Failure> {
        let named = sockets.iter().map(|(configured, _)| ListeningSocket { configured: *configured }).collect();
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.wire.send(&FromPredecessor::Welcome { protocol: self.protocol, version, sockets: named }, &descriptors)
    }

    /// Waits until the successor serves.
    ///
    /// # Errors
    /// [`Failure`]; its start, first round of health checks included, may take [`START_WITHIN`].
    pub fn wait_serving(&mut self) -> Result<(), Failure> {
        match self.wire.receive("serving", Some(START_WITHIN))? {
            (FromSuccessor::Serving, _) => Ok(()),
            (other, _) => Err(Failure::Unexpected { expected: "serving", heard: format!("{other:?}") }),
        }
    }

    /// Offers a batch of at most [`BATCH`] tunnels, and waits until the successor could go on with them.
    ///
    /// # Errors
    /// [`Failure`]: the successor has not touched them and will not.
    pub fn offer(&mut self, batch: &[Frozen]) -> Result<(), Failure> {
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
    /// [`Failure`].
    pub fn offer_hooks(&mut self, hooks: Vec<SavedHooks>) -> Result<(), Failure> {
        self.wire.send(&FromPredecessor::Tunnels { passports: Vec::new(), hooks }, &[])?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<(), Failure> {
        match self.wire.receive("ready", Some(WORD_WITHIN))? {
            (FromSuccessor::Ready, _) => Ok(()),
            (other, _) => Err(Failure::Unexpected { expected: "ready", heard: format!("{other:?}") }),
        }
    }

    /// Gives the batch that was offered away for good.
    ///
    /// # Errors
    /// [`Failure`]: the successor is dead and has not touched the batch. One that hangs is killed to make sure of it.
    pub fn commit(&mut self) -> Result<(), Failure> {
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

    fn taken(&mut self, within: Duration) -> Result<(), Failure> {
        match self.wire.receive("taken", Some(within))? {
            (FromSuccessor::Taken, _) => Ok(()),
            (other, _) => Err(Failure::Unexpected { expected: "taken", heard: format!("{other:?}") }),
        }
    }

    /// Has the successor answer for everything from here on. Further batches may follow.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn done(&mut self) -> Result<(), Failure> {
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
