//! The handover: a new process asks the running one for its listening sockets, serves, and then gets its tunnels.
//!
//! Both talk over a Unix stream socket, the predecessor's `upgrade_sock`, in frames of JSON with descriptors beside
//! them (`wire`). The exchange, with what each side may count on:
//!
//! | sender | message | afterwards |
//! |---|---|---|
//! | successor | `hello` with the protocols it speaks | nothing has changed |
//! | predecessor | `welcome`: sockets, their entry, drained backends; or `refused` | only the predecessor accepts |
//! | successor | `serving`, once it has taken the entry and accepts | both accept; the predecessor stops accepting |
//! | predecessor | `tunnels` without any, where hooks have a state of their own that goes on | as with tunnels, below |
//! | predecessor | `tunnels`: a frozen batch, its sockets, its `Claim` | neither moves their bytes |
//! | successor | `ready`: it can go on with them, but for those it refuses | still neither does |
//! | predecessor | `commit` | either may take the claim; the first one has the batch |
//! | successor | `taken`: it took the claim; or `late`: the predecessor did | the holder moves bytes; the next batch |
//! | predecessor | `done` | the successor is the gateway from now on |
//!
//! The claim is what makes silence harmless. A successor that does not answer in time (it is stopped, or starved) may
//! have read `commit` or not, and may wake up at any moment. The predecessor takes the claim: where it gets it, the
//! batch is put back and served at once, and the successor will find the claim taken whenever it wakes up. Where it
//! does not get it, the batch is the successor's. Nobody has to be killed to know.
//!
//! Until the successor has taken the entry, any failure ends the handover: the predecessor revokes the entry, says
//! `abort`, and nothing has changed. From then on the successor may have clients, and is never killed. A silent one is
//! waited for (`PATIENCE`) while the predecessor accepts and serves what it has. A successor that is gone is the end of
//! the stream: batches it has not said `taken` of are put back, and the predecessor remains the gateway. A successor
//! that finds the predecessor gone without an `abort` goes on with the batch it was ready for, if it gets the claim.
//!
//! Protocol 2 knows no tunnels that speak TLS: with such a successor they stay.
//!
//! Protocol 1 (release 0.1) has no claims, and `serving` alone tells of the entry. A predecessor that hands over to
//! such a successor kills one that hangs between `commit` and `taken` of the first batch, and from the second batch on
//! waits for it.

mod claim;
mod entry;
mod message;
mod to_predecessor;
mod to_successor;
mod wire;

pub use entry::EntryClaim;
pub use message::{PROTOCOL, RefusedTunnel};
pub use to_predecessor::{Offered, Received, ToPredecessor, Welcome};
pub use to_successor::{Handed, PATIENCE, START_WITHIN, ToSuccessor};

use std::io;
use std::time::Duration;

/// The process at the other end of a handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// Its process id.
    pub pid: u32,
    /// Its version of Longhaul.
    pub version: String,
}

/// Why a handover did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// No process listens, or one that cannot be trusted.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The connection broke: as a rule, the other process has ended.
    #[error("the other process is gone: {0}")]
    Gone(io::Error),
    /// The other process sent no message in time.
    #[error("the other process did not say `{expected}` within {}", humantime::format_duration(*.within))]
    Silent {
        /// The message that was expected.
        expected: &'static str,
        /// The time limit.
        within: Duration,
    },
    /// The other process read no message in time.
    #[error("the other process did not read `{name}` within {}", humantime::format_duration(*.within))]
    Full {
        /// The message that was sent.
        name: &'static str,
        /// The time limit.
        within: Duration,
    },
    /// The other process sent another message than the expected one.
    #[error("the other process said {heard} where `{expected}` was expected")]
    Unexpected {
        /// The message that was expected.
        expected: &'static str,
        /// The message that came.
        heard: String,
    },
    /// The other process refused, or gave up.
    #[error("{0}")]
    Refused(String),
}

impl HandoverError {
    /// Tells whether the other process may only be slow or stopped.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Full { .. })
    }
}

/// Bound of the tunnels that change processes together: their descriptors have to fit one message (253 on Linux,
/// `SCM_MAX_FD`), and the fewer they are, the shorter each one stands still.
pub const BATCH: usize = 32;
