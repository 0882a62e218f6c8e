//! Messages of the handover.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::discovery::SavedMembers;
use crate::drain::DrainedBackend;
use crate::snapshot::SavedHooks;
use crate::tls::tickets::SavedTicketKeys;
use crate::tunnel::Passport;

/// The newest protocol of this release. A message may get new fields, with defaults; any other change makes a new
/// protocol.
///
/// Protocol 2 adds to each batch a number, a `Claim`, and the refusal of single tunnels. Protocol 3 adds tunnels that
/// speak TLS.
pub const PROTOCOL: u32 = 3;

/// The oldest protocol of this release.
pub(super) const OLDEST_PROTOCOL: u32 = 1;

/// The first protocol with claims.
pub(super) const CLAIMS_SINCE: u32 = 2;

/// The first protocol with tunnels that speak TLS.
pub(super) const TLS_SINCE: u32 = 3;

/// A message of the successor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// The first message: the protocols it speaks, its version and process id.
    Hello { oldest: u32, newest: u32, version: String, pid: u32 },
    /// The successor accepts on the listening sockets.
    Serving,
    /// The successor can go on with the batch, but for the tunnels that it refuses.
    Ready {
        #[serde(default, skip_serializing_if = "is_zero")]
        batch: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedTunnel>,
    },
    /// The successor has the batch; said before the first byte is moved.
    Taken {
        #[serde(default, skip_serializing_if = "is_zero")]
        batch: u64,
    },
    /// The successor was told to take the batch, and the predecessor had withdrawn it.
    Late { batch: u64 },
}

/// A message of the predecessor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// The listening sockets, whose descriptors come along in this order.
    Welcome {
        protocol: u32,
        version: String,
        sockets: Vec<PassedSocket>,
        /// Backends that the operator drains.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        drained: Vec<DrainedBackend>,
        /// Members of upstreams that have them from a source of their own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<SavedMembers>,
        /// Keys of session tickets that the predecessor drew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket_keys: Option<SavedTicketKeys>,
        /// The last events, for whoever asks the successor, which need not understand them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        history: Option<serde_json::Value>,
    },
    /// The predecessor hands nothing over.
    Refused { reason: String },
    /// A batch of tunnels, with two sockets for each, the client's first; then, with protocol 2, the claim. The states
    /// of hooks come before all tunnels, in a batch without any.
    Tunnels {
        #[serde(default, skip_serializing_if = "is_zero")]
        batch: u64,
        passports: Vec<Readable>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hooks: Vec<SavedHooks>,
    },
    /// The successor may take the batch.
    Commit,
    /// The successor is the gateway from now on; requests under way end where they are.
    Done,
    /// The handover has failed, and the predecessor remains the gateway.
    Abort { reason: String },
}

/// A listening socket on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PassedSocket {
    /// The address that the configuration names for it.
    pub(super) configured: SocketAddr,
}

/// A tunnel that the successor refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedTunnel {
    /// Its index in the batch.
    pub index: usize,
    /// The reason, for the predecessor's log.
    pub reason: String,
}

/// A passport, or the reason why this release cannot read it.
#[derive(Debug)]
pub(super) struct Readable(pub(super) Result<Passport, String>);

impl Serialize for Readable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(passport) => passport.serialize(serializer),
            Err(reason) => Err(serde::ser::Error::custom(reason)),
        }
    }
}

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(serde_json::from_value(value).map_err(|error| error.to_string())))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
