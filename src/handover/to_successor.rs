//! The connection to a successor, as the predecessor has it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tokio::io::Interest;

use super::claim::Claim;
use super::entry::EntryClaim;
use super::message::{
    CLAIMS_SINCE, FromPredecessor, FromSuccessor, OLDEST_PROTOCOL, PROTOCOL, PassedSocket, Readable, RefusedTunnel,
    TLS_SINCE,
};
use super::wire::Wire;
use super::{BATCH, HandoverError, PeerProcess};
use crate::discovery::SavedMembers;
use crate::drain::DrainedBackend;
use crate::snapshot::SavedHooks;
use crate::tls::tickets::SavedTicketKeys;
use crate::tunnel::Frozen;

/// Connection to a successor. Its methods hand over step by step; each blocks for a bounded time.
pub struct ToSuccessor {
    wire: Wire,
    successor: PeerProcess,
    protocol: u32,
    entry: EntryClaim,
    /// Number of the latest batch; 0 with protocol 1, which numbers none.
    batch: u64,
    /// The answer that a silent successor still owes.
    owed: Option<Owed>,
    /// Set once the successor has taken a batch.
    has_taken: bool,
    /// Time that an answer about the next batch may take.
    answer_within: Duration,
}

/// Result of handing a batch to the successor.
#[derive(Debug)]
pub enum Handed {
    /// The successor has the batch, but for the tunnels that it refused.
    Taken {
        /// The tunnels that it refused.
        refused: Vec<RefusedTunnel>,
        /// Its silence, where it took the batch without an answer.
        silent: Option<HandoverError>,
    },
    /// The successor is silent. This process has the batch, and the successor will not take it when it goes on.
    Withdrawn(HandoverError),
}

/// An answer that a silent successor owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// `serving`.
    Serving,
    /// `ready`.
    Ready,
    /// `taken` or `late`.
    Taken,
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
                "no common protocol: longhaul {version} speaks {oldest} to {newest}, \
                 longhaul {} speaks {OLDEST_PROTOCOL} to {PROTOCOL}",
                env!("CARGO_PKG_VERSION"),
            );
            wire.send("refused", &FromPredecessor::Refused { reason: reason.clone() }, &[], WRITE_WITHIN)?;
            return Err(HandoverError::Refused(reason));
        }
        Ok(Self {
            wire,
            successor: PeerProcess { pid, version },
            protocol,
            entry: EntryClaim::new().map_err(HandoverError::Gone)?,
            batch: 0,
            owed: None,
            has_taken: false,
            answer_within: if protocol >= CLAIMS_SINCE { PAUSE_WITHIN } else { WORD_WITHIN },
        })
    }

    /// The process that asks to take over.
    pub fn successor(&self) -> &PeerProcess {
        &self.successor
    }

    /// The successor's permission to accept.
    pub fn entry(&self) -> EntryClaim {
        self.entry.clone()
    }

    /// Sends copies of the listening sockets, each with the address that the configuration names for it, the entry to
    /// them, the backends that the operator drains, the members of upstreams that have a source of their own, the keys
    /// of session tickets, and the last events.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn welcome(
        &mut self,
        sockets: &[(SocketAddr, impl AsFd)],
        drained: Vec<DrainedBackend>,
        members: Vec<SavedMembers>,
        ticket_keys: Option<SavedTicketKeys>,
        history: Option<serde_json::Value>,
    ) -> Result<(), HandoverError> {
        let named = sockets.iter().map(|(configured, _)| PassedSocket { configured: *configured }).collect();
        let entry = self.has_claims().then(|| self.entry.clone());
        let mut descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        descriptors.extend(entry.as_ref().map(EntryClaim::as_fd));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (protocol, sockets) = (self.protocol, named);
        let welcome = FromPredecessor::Welcome { protocol, version, sockets, drained, members, ticket_keys, history };
        self.wire.send("welcome", &welcome, &descriptors, WRITE_WITHIN)
    }

    /// Waits until the successor accepts, for [`START_WITHIN`] at most: its start includes a round of health checks.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn wait_serving(&mut self) -> Result<(), HandoverError> {
        self.owed = Some(Owed::Serving);
        self.answer("serving", Owed::Serving, START_WITHIN)?;
        self.entry.note_used();
        Ok(())
    }

    /// Tells whether the successor takes tunnels that speak TLS.
    pub fn takes_tls(&self) -> bool {
        self.protocol >= TLS_SINCE
    }

    /// Hands over a batch of at most [`BATCH`] tunnels.
    ///
    /// # Errors
    /// [`HandoverError`]: the successor has not touched the batch and will not.
    pub fn hand(&mut self, batch: &[Frozen]) -> Result<Handed, HandoverError> {
        debug_assert!(batch.len() <= BATCH, "the descriptors of a batch have to fit one message");
        let now = Instant::now();
        let passports = batch.iter().map(|frozen| Readable(Ok(frozen.passport(now)))).collect();
        self.exchange(passports, Vec::new(), batch.iter().flat_map(Frozen::sockets).collect())
    }

    /// Hands over the states that hooks have of their own.
    ///
    /// # Errors
    /// As [`hand`](Self::hand).
    pub fn hand_hooks(&mut self, hooks: Vec<SavedHooks>) -> Result<Handed, HandoverError> {
        self.exchange(Vec::new(), hooks, Vec::new())
    }

    fn exchange(
        &mut self,
        passports: Vec<Readable>,
        hooks: Vec<SavedHooks>,
        descriptors: Vec<BorrowedFd<'_>>,
    ) -> Result<Handed, HandoverError> {
        let claim = Claim::new().map_err(HandoverError::Gone)?;
        let mut descriptors = descriptors;
        if self.has_claims() {
            descriptors.push(claim.as_fd());
            self.batch += 1;
        }
        let offer = FromPredecessor::Tunnels { batch: self.batch, passports, hooks };
        let handed = match self.ask("tunnels", &offer, &descriptors, Owed::Ready) {
            Ok(refused) => match self.ask("commit", &FromPredecessor::Commit, &[], Owed::Taken) {
                Ok(_) => Ok(Handed::Taken { refused, silent: None }),
                Err(failure) => self.settle(failure, &claim, refused),
            },
            // The successor may take a batch after `commit` only, so this process still has it.
            Err(failure) if failure.is_silence() => Ok(Handed::Withdrawn(failure)),
            Err(failure) => Err(failure),
        };
        match &handed {
            Ok(Handed::Taken { silent, .. }) => {
                self.has_taken = true;
                self.answer_within = if silent.is_none() { PAUSE_WITHIN } else { self.answer_within };
            }
            // A successor that is only slow gets more time for each new try.
            Ok(Handed::Withdrawn(_)) => self.answer_within *= 2,
            Err(_) => {}
        }
        handed
    }

    /// Decides which process has a batch about which `commit` was sent and no answer came.
    fn settle(
        &mut self,
        failure: HandoverError,
        claim: &Claim,
        refused: Vec<RefusedTunnel>,
    ) -> Result<Handed, HandoverError> {
        match failure {
            // It says `taken` before it moves a byte, and its last words have been read.
            HandoverError::Gone(_) => Err(failure),
            _ if !self.has_claims() => self.settle_without_claim(failure, refused),
            failure if !claim.take() => Ok(Handed::Taken { refused, silent: Some(failure) }),
            failure if failure.is_silence() => Ok(Handed::Withdrawn(failure)),
            failure => Err(failure),
        }
    }

    /// Decides the same with a successor of protocol 1. It cannot be told to leave a batch alone, so it is killed where
    /// it has no tunnels yet, and else waited for.
    fn settle_without_claim(
        &mut self,
        failure: HandoverError,
        refused: Vec<RefusedTunnel>,
    ) -> Result<Handed, HandoverError> {
        if !self.has_taken {
            if let Some(pid) = self.wire.sender() {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            // Its last words are still to be read.
            return match self.answer("taken", Owed::Taken, DEATH_WITHIN) {
                Ok(_) => Ok(Handed::Taken { refused, silent: None }),
                Err(_) => Err(HandoverError::Gone(io::Error::other(format!("it was killed: {failure}")))),
            };
        }
        match self.answer("taken", Owed::Taken, PATIENCE) {
            Ok(_) => Ok(Handed::Taken { refused, silent: None }),
            Err(gone @ HandoverError::Gone(_)) => Err(gone),
            Err(failure) => Ok(Handed::Taken { refused, silent: Some(failure) }),
        }
    }

    /// Sends a message and reads the answer to it.
    fn ask(
        &mut self,
        name: &'static str,
        message: &FromPredecessor,
        descriptors: &[BorrowedFd<'_>],
        owed: Owed,
    ) -> Result<Vec<RefusedTunnel>, HandoverError> {
        let within = self.answer_within;
        if let Err(failure) = self.wire.send(name, message, descriptors, within) {
            // A message that was sent in part is sent to its end later, and answered.
            self.owed = self.wire.has_unsent().then_some(owed);
            return Err(failure);
        }
        self.owed = Some(owed);
        self.answer(if owed == Owed::Ready { "ready" } else { "taken" }, owed, within)
    }

    /// Reads the answer that is owed.
    fn answer(
        &mut self,
        expected: &'static str,
        owed: Owed,
        within: Duration,
    ) -> Result<Vec<RefusedTunnel>, HandoverError> {
        let (answer, _) = self.wire.receive(expected, Some(within))?;
        match (answer, owed) {
            (FromSuccessor::Serving, Owed::Serving) => {
                self.owed = None;
                Ok(Vec::new())
            }
            (FromSuccessor::Ready { batch, refused }, Owed::Ready) if batch == self.batch => {
                self.owed = None;
                Ok(refused)
            }
            (FromSuccessor::Taken { batch }, Owed::Taken) if batch == self.batch => {
                self.owed = None;
                Ok(Vec::new())
            }
            (other, _) => Err(unexpected(expected, &other)),
        }
    }

    /// Waits until a silent successor takes or sends bytes, or is gone; [`catch_up`](Self::catch_up) then finds out.
    ///
    /// Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub async fn stirs(&self) -> io::Result<()> {
        let reads = self.owed.is_some() && !self.wire.has_unsent();
        let interest = if reads { Interest::READABLE } else { Interest::WRITABLE };
        let socket = tokio::net::UnixStream::from_std(self.wire.socket()?)?;
        socket.ready(interest).await.map(drop)
    }

    /// Reads the answer that a silent successor owes, so that the next batch can be handed over.
    ///
    /// # Errors
    /// [`HandoverError`]: it is silent still, or gone.
    pub fn catch_up(&mut self) -> Result<(), HandoverError> {
        self.wire.flush(WORD_WITHIN)?;
        let Some(owed) = self.owed else { return Ok(()) };
        let (answer, _) = self.wire.receive("an answer", Some(WORD_WITHIN))?;
        match (answer, owed) {
            (FromSuccessor::Serving, Owed::Serving) => {
                self.owed = None;
                Ok(())
            }
            (FromSuccessor::Ready { batch, .. }, Owed::Ready)
            | (FromSuccessor::Taken { batch } | FromSuccessor::Late { batch }, Owed::Taken)
                if batch == self.batch =>
            {
                self.owed = None;
                Ok(())
            }
            (other, _) => Err(unexpected("an answer", &other)),
        }
    }

    /// Makes the successor the gateway. Further batches may follow.
    ///
    /// # Errors
    /// [`HandoverError`].
    pub fn done(&mut self) -> Result<(), HandoverError> {
        self.wire.send("done", &FromPredecessor::Done, &[], WRITE_WITHIN)
    }

    /// Ends the handover: this process remains the gateway, and keeps the tunnels that the successor has not taken.
    pub fn abort(mut self, reason: &str) {
        // A successor that is gone need not be told.
        let _ = self.wire.send("abort", &FromPredecessor::Abort { reason: reason.to_owned() }, &[], WORD_WITHIN);
    }

    fn has_claims(&self) -> bool {
        self.protocol >= CLAIMS_SINCE
    }
}

fn unexpected(expected: &'static str, heard: &FromSuccessor) -> HandoverError {
    HandoverError::Unexpected { expected, heard: format!("{heard:?}") }
}

/// Time that a message may take which costs the other process nothing but to send it.
const WORD_WITHIN: Duration = Duration::from_secs(2);
/// The same for a batch: its tunnels stand still meanwhile, and can be put back. With protocol 1 once the successor has
/// taken one.
const PAUSE_WITHIN: Duration = Duration::from_millis(500);
/// Time that a message may take to fit into the socket.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Time that the system may take to end a process that was killed.
const DEATH_WITHIN: Duration = Duration::from_secs(10);
/// Time that a successor may take from the listening sockets to `serving`.
pub const START_WITHIN: Duration = Duration::from_secs(30);
/// Time that a successor may be silent which may have clients.
pub const PATIENCE: Duration = Duration::from_secs(60);
