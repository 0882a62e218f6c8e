//! A handover that ended before its end, and the reason.

use std::fmt;

use crate::counted::counted;
use crate::handover::HandoverError;

/// A handover that ended before its end. This process remains the gateway.
#[derive(Debug)]
pub(in crate::server) struct StoppedHandover {
    /// Tunnels that had moved. They are the successor's, and end with it.
    pub(in crate::server) moved: usize,
    /// Tunnels that stayed, and go on here.
    pub(in crate::server) stayed: usize,
    /// The successor may have accepted clients, and ends by itself once they have left.
    pub(in crate::server) accepted: bool,
    /// This process was told to end, which ended the handover.
    pub(in crate::server) told_to_end: bool,
    pub(in crate::server) why: HandoverError,
}

impl StoppedHandover {
    pub(super) fn before_any(why: HandoverError, accepted: bool) -> Self {
        Self { moved: 0, stayed: 0, accepted, told_to_end: false, why }
    }

    pub(super) fn halfway(moved: usize, stayed: usize, why: HandoverError) -> Self {
        Self { moved, stayed, accepted: true, told_to_end: false, why }
    }

    pub(super) fn told_to_end() -> Self {
        let why = HandoverError::Refused(TOLD_TO_END.into());
        Self { moved: 0, stayed: 0, accepted: false, told_to_end: true, why }
    }
}

impl fmt::Display for StoppedHandover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moved, stayed, accepted, why, .. } = self;
        let moved = counted(*moved, "tunnel");
        match why {
            _ if !accepted => write!(f, "{why}"),
            HandoverError::Gone(_) => write!(
                f,
                "{moved} had moved to the new process and ended with it, {stayed} stayed: {why}; \
                 clients that it had accepted itself ended with it, too"
            ),
            _ => write!(
                f,
                "{moved} moved to the new process, {stayed} stayed: {why}; the new process is told to drain \
                 what it has, with the clients that it accepted itself, and to end"
            ),
        }
    }
}

/// Reason why a handover or an upgrade is given up when this process ends.
pub(in crate::server) const TOLD_TO_END: &str = "this process is told to end";
