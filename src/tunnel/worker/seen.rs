//! Tunnels as they are shown to whoever looks at all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tunnel::Tunnel;
use crate::hook::{Chain, TunnelId};
use crate::tunnel::inspect::Inspector;
use crate::tunnel::pair::Sealing;
use crate::tunnel::reason::Reason;
use crate::tunnel::record::Record;
use crate::ws::{Side, Sides};

/// A look at a tunnel. Called on the workers' threads: it must not block.
pub type Look = dyn Fn(&Seen<'_>) + Send + Sync;

/// A tunnel at the moment it is looked at.
pub struct Seen<'t> {
    tunnel: &'t Tunnel,
    slot: usize,
    /// Moment of the look.
    pub now: Instant,
}

/// Place of a tunnel on its worker, by which it is found again without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub(super) slot: usize,
    pub(super) id: TunnelId,
}

impl<'t> Seen<'t> {
    pub(super) fn new(tunnel: &'t Tunnel, slot: usize, now: Instant) -> Self {
        Self { tunnel, slot, now }
    }

    /// Identity of the tunnel.
    pub fn record(&self) -> &'t Record {
        &self.tunnel.record
    }

    /// Place of the tunnel.
    pub fn spot(&self) -> Spot {
        Spot { slot: self.slot, id: self.tunnel.record.id }
    }

    /// Time since the tunnel opened, in a process before this one included.
    pub fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.tunnel.pair.since())
    }

    /// Time since bytes last came from either side.
    pub fn idle(&self) -> Duration {
        self.tunnel.pair.idle_for(self.now)
    }

    /// Bytes and messages passed on, by the side they came from.
    pub fn passed(&self) -> Sides<(u64, u64)> {
        Sides::from_fn(|side| self.tunnel.pair.passed(side))
    }

    /// Tells which sides speak TLS.
    pub fn tls(&self) -> Sides<bool> {
        Sides::from_fn(|side: Side| self.tunnel.pair.stream(side).sealing() != Sealing::None)
    }

    /// Hooks of the tunnel; `None` where it has none.
    pub fn hooks(&self) -> Option<&'t Arc<Chain>> {
        self.tunnel.pair.inspector().map(Inspector::chain)
    }

    /// Number of times that it was re-attached; `None` where it never can be.
    pub fn reattached(&self) -> Option<u32> {
        self.tunnel.pair.reattached()
    }

    /// Tells whether it is on its way from one backend to the next.
    pub fn is_between_backends(&self) -> bool {
        self.tunnel.pair.is_between_backends()
    }

    /// Moment and reason of an end that was announced, or has begun.
    pub fn announced(&self) -> Option<(Instant, Reason)> {
        self.tunnel.pair.announced()
    }
}
