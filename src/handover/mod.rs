//! The handover: a new process asks the running one for its listening sockets, serves, and then gets its tunnels.
//!
//! Both talk over a Unix stream socket, the predecessor's `upgrade_sock`, in frames of JSON with descriptors beside them
//! (`wire`). The exchange, with what each side may count on:
//!
//! | who | says | then |
//! |---|---|---|
//! | successor | `hello` with the protocols it speaks | nothing has changed |
//! | predecessor | `welcome` with the listening sockets, or `refused` | both could accept; only the predecessor does |
//! | successor | `serving` | both accept; the predecessor stops accepting |
//! | predecessor | `tunnels` without any, where hooks have a state of their own that is to go on | as with tunnels, below |
//! | predecessor | `tunnels`: a batch, frozen, with its sockets | nobody moves their bytes |
//! | successor | `ready`: it could go on with all of them | still nobody does |
//! | predecessor | `commit` | it will not touch them again, unless the successor dies without an answer |
//! | successor | `taken` | they are the successor's, and their bytes flow; the next batch follows |
//! | predecessor | `done` | the successor answers for everything from here on |
//!
//! Until `taken` the predecessor can put a batch back as if nothing had been asked, and when anything goes wrong it does: it
//! accepts again and says `abort`. A successor that hangs between `commit` and `taken` might wake up and take the batch after
//! all, so it is killed first. A successor that finds the predecessor gone without an `abort` goes on with the batch it was
//! ready for, because nobody else will.

mod message;
mod to_predecessor;
mod to_successor;
mod wire;

pub use message::PROTOCOL;
pub use to_predecessor::{Received, ToPredecessor};
pub use to_successor::{START_WITHIN, SuccessorProcess, ToSuccessor};

use std::io;
use std::time::Duration;

/// Why a handover did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The connection broke: as a rule, the other process has ended.
    #[error("the other process is gone: {0}")]
    Gone(io::Error),
    /// The other process did not say in time what it had to.
    #[error("the other process did not say `{expected}` within {}", humantime::format_duration(*.within))]
    Silent {
        /// What was awaited.
        expected: &'static str,
        /// For how long.
        within: Duration,
    },
    /// The other process said something else than it had to.
    #[error("the other process said {heard} where `{expected}` was expected")]
    Unexpected {
        /// What was awaited.
        expected: &'static str,
        /// What came.
        heard: String,
    },
    /// The other process refused, or gave up.
    #[error("{0}")]
    Refused(String),
}

/// Tunnels that change processes together: their descriptors have to fit one message (253 on Linux, `SCM_MAX_FD`), and the
/// fewer they are, the shorter each one stands still.
pub const BATCH: usize = 32;
