//! Waits of one request for backends that are away, and the reasons for which it is not carried out after a wait.

use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::Destination;
use crate::upstream::PlaceInLine;

/// Waits of one request.
#[derive(Default)]
pub(super) struct Holds {
    /// Place of the request in the order of arrival at its upstream.
    pub(super) arrival: Option<PlaceInLine>,
    /// Time spent waiting, which no backend is charged with.
    pub(super) waited: Duration,
    /// Number of backends that could not be connected to, and that were waited for.
    pub(super) refusals: usize,
    /// The upstream with the members that have come since the request began.
    pub(super) renewed: Option<Arc<Destination>>,
}

/// Reason for which a request that waited is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHeld {
    /// The client left.
    Left,
    /// The process ends.
    Draining,
}
