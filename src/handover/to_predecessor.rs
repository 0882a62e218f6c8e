//! The connection to the predecessor, as the successor has it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::claim::Claim;
use super::message::{
    CLAIMS_SINCE, FromPredecessor, FromSuccessor, OLDEST_PROTOCOL, PROTOCOL, Readable, RefusedTunnel,
};
use super::wire::Wire;
use super::{HandoverError, PeerProcess};
use crate::discovery::SavedMembers;
use crate::drain::DrainedBackend;
use crate::snapshot::SavedHooks;
use crate::tls::tickets::SavedTicketKeys;
use crate::tunnel::Passport;
use crate::unix_socket;

/// Connection to the predecessor. Its methods take over step by step.
pub struct ToPredecessor {
    wire: Wire,
    protocol: u32,
    /// Number of the latest batch.
    batch: u64,
    /// Permission to accept; `None` with protocol 1, and once it was used.
    entry: Option<Claim>,
    /// Claim to the latest batch; `None` with protocol 1, and once it was used.
    claim: Option<Claim>,
}

/// The first answer of the predecessor.
pub struct Welcome {
    /// The connection, for what follows.
    pub predecessor: ToPredecessor,
    /// The predecessor.
    pub process: PeerProcess,
    /// The listening sockets, each with the address that the predecessor's configuration names for it.
    pub sockets: Vec<(SocketAddr, OwnedFd)>,
    /// Backends that the operator drains.
    pub drained: Vec<DrainedBackend>,
    /// Members of upstreams that have them from a source of their own.
    pub members: Vec<SavedMembers>,
    /// Keys of session tickets that the predecessor drew.
    pub ticket_keys: Option<SavedTicketKeys>,
    /// Its last events, as it writes them.
    pub history: Option<serde_json::Value>,
}

/// A message of the predecessor's, once this process serves.
pub enum Received {
    /// A batch of tunnels, and states of hooks. The predecessor has them still.
    Tunnels(Vec<Offered>, Vec<SavedHooks>),
    /// This process may [take](ToPredecessor::take) the batch.
    Commit,
    /// This process is the gateway from now on.
    Done,
    /// The handover has failed; the predecessor remains the gateway, with all that was not taken.
    Abort(String),
    /// The connection has ended: the predecessor is gone. This process may [take](ToPredecessor::take) the batch that
    /// it was ready for.
    Gone,
}

/// A tunnel that the predecessor offers.
pub struct Offered {
    /// Its passport, or the reason why this release cannot read it.
    pub passport: Result<Passport, String>,
    /// The client's socket and the backend's.
    pub sockets: [OwnedFd; 2],
}

impl ToPredecessor {
    /// Connects to the process that listens at `path`.
    ///
    /// # Errors
    /// [`HandoverError`]: no process listens there, or one that cannot be trusted ([`unix_socket::connect`]), or the
    /// two have no protocol in common.
    pub fn connect(path: &Path) -> Result<Welcome, HandoverError> {
        let stream = unix_socket::connect(path).map_err(HandoverError::Unreachable)?;
        let mut wire = Wire::new(stream).map_err(HandoverError::Gone)?;
        let hello = FromSuccessor::Hello {
            oldest: OLDEST_PROTOCOL,
            newest: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        wire.send("hello", &hello, &[], WRITE_WITHIN)?;
        match wire.receive("welcome", Some(WELCOME_WITHIN))? {
            (
                FromPredecessor::Welcome { protocol, version, sockets, drained, members, ticket_keys, history },
                mut descriptors,
            ) if sockets.len() + claims(protocol) == descriptors.len() => {
                let entry = if claims(protocol) > 0 { descriptors.pop_back().map(Claim::received) } else { None };
                let sockets = sockets.into_iter().map(|named| named.configured).zip(descriptors).collect();
                let pid = wire.sender().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
                let process = PeerProcess { pid, version };
                let predecessor = Self { wire, protocol, batch: 0, entry, claim: None };
                Ok(Welcome { predecessor, process, sockets, drained, members, ticket_keys, history })
            }
            (FromPredecessor::Refused { reason }, _) => Err(HandoverError::Refused(reason)),
            (other, _) => Err(HandoverError::Unexpected { expected: "welcome", heard: format!("{other:?}") }),
        }
    }

    /// Takes the permission to accept. Must be called before anything is accepted. A predecessor that is gone changes
    /// nothing.
    ///
    /// # Errors
    /// The reason why the predecessor has given this process up, which must end.
    pub fn enter(&mut self) -> Result<(), String> {
        if self.entry.take().is_none_or(|entry| entry.take()) {
            return Ok(());
        }
        match self.wire.receive("abort", Some(WRITE_WITHIN)) {
            Ok((FromPredecessor::Abort { reason }, _)) => Err(reason),
            _ => Err("it has given this process up".to_owned()),
        }
    }

    /// Tells that this process accepts on the listening sockets.
    ///
    /// # Errors
    /// [`HandoverError::Gone`].
    pub fn serving(&mut self) -> Result<(), HandoverError> {
        self.wire.send("serving", &FromSuccessor::Serving, &[], WRITE_WITHIN)
    }

    /// Tells that this process can go on with the batch it was offered, but for the tunnels that it refuses.
    ///
    /// # Errors
    /// [`HandoverError::Gone`]; [`HandoverError::Unexpected`] where it refuses some, and the predecessor is of protocol
    /// 1, which knows no such thing.
    pub fn ready(&mut self, refused: Vec<RefusedTunnel>) -> Result<(), HandoverError> {
        if self.protocol < CLAIMS_SINCE
            && let Some(refusal) = refused.first()
        {
            let heard = format!("a tunnel that cannot be read ({})", refusal.reason);
            return Err(HandoverError::Unexpected { expected: "tunnels", heard });
        }
        self.wire.send("ready", &FromSuccessor::Ready { batch: self.batch, refused }, &[], WRITE_WITHIN)
    }

    /// Takes the batch that this process was ready for, and says so. `false`: the predecessor has withdrawn it, and
    /// goes on with its tunnels.
    ///
    /// Must be called before the first byte is moved. A predecessor that is gone changes nothing.
    pub fn take(&mut self) -> bool {
        let batch = self.batch;
        let taken = self.claim.take().is_none_or(|claim| claim.take());
        let answer = if taken { FromSuccessor::Taken { batch } } else { FromSuccessor::Late { batch } };
        let _ = self.wire.send("taken", &answer, &[], WRITE_WITHIN);
        taken
    }

    /// Waits for the next message, without a time limit: the predecessor may have long requests to serve.
    ///
    /// # Errors
    /// [`HandoverError::Unexpected`]: the message is not one of these.
    pub fn receive(&mut self) -> Result<Received, HandoverError> {
        let (message, mut descriptors) = match self.wire.receive("tunnels", None) {
            Ok(received) => received,
            Err(HandoverError::Gone(_)) => return Ok(Received::Gone),
            Err(failure) => return Err(failure),
        };
        match message {
            FromPredecessor::Tunnels { batch, passports, hooks }
                if passports.len() * 2 + claims(self.protocol) == descriptors.len() =>
            {
                self.batch = batch;
                let mut next = || descriptors.pop_front().expect("their number was compared");
                let offer = |Readable(passport)| Offered { passport, sockets: [next(), next()] };
                let tunnels = passports.into_iter().map(offer).collect();
                self.claim = descriptors.pop_front().map(Claim::received);
                Ok(Received::Tunnels(tunnels, hooks))
            }
            FromPredecessor::Commit => Ok(Received::Commit),
            FromPredecessor::Done => Ok(Received::Done),
            FromPredecessor::Abort { reason } => Ok(Received::Abort(reason)),
            other => Err(HandoverError::Unexpected { expected: "tunnels", heard: format!("{other:?}") }),
        }
    }
}

/// Number of the claims that come with a batch, and with the listening sockets.
fn claims(protocol: u32) -> usize {
    usize::from(protocol >= CLAIMS_SINCE)
}

/// Time limit of the predecessor's answer: it answers between two commands of its operator's.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Time that a message may take to fit into the socket.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
