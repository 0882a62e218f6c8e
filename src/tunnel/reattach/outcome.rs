//! Outcomes of re-attachments.

use std::time::Duration;

use crate::hook::Loss;

/// Outcome of a re-attachment; the `outcome` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReattachOutcome {
    /// The conversation goes on with another backend.
    Attached,
    /// The next backend answered with this status instead of 101.
    Refused(u16),
    /// The next backend chose another subprotocol.
    Protocol,
    /// The next backend agreed on another compression.
    Compression,
    /// No backend could be reached within `reattach.within`.
    Nobody,
    /// The old backend or the client took longer than `reattach.within` to come to the end of a message.
    Unfinished,
    /// The client has half of a message whose rest is lost.
    HalfMessage,
    /// The tunnel's backends failed too often in a row.
    TooOften,
    /// A hook refused.
    RefusedByHook,
    /// The route is gone.
    RouteGone,
    /// The client left while it was held, or the gateway ended the tunnel.
    Ended,
    /// A fault of the gateway's own.
    Fault,
}

impl ReattachOutcome {
    /// The `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Refused(_) => "refused",
            Self::Protocol => "protocol",
            Self::Compression => "compression",
            Self::Nobody => "nobody",
            Self::Unfinished => "unfinished",
            Self::HalfMessage => "half_message",
            Self::TooOften => "too_often",
            Self::RefusedByHook => "refused_by_hook",
            Self::RouteGone => "route_gone",
            Self::Ended => "ended",
            Self::Fault => "fault",
        }
    }
}

/// Outcome of a re-attachment, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) struct ReattachReport {
    pub(in crate::tunnel) loss: Loss,
    pub(in crate::tunnel) outcome: ReattachOutcome,
    /// Number of the re-attachment, from 1.
    pub(in crate::tunnel) number: u32,
    /// Time for which the client's messages were held.
    pub(in crate::tunnel) gap: Duration,
    /// A message of the client was dropped, because its beginning was not kept.
    pub(in crate::tunnel) dropped: bool,
}
