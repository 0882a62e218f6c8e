//! A tunnel as its worker keeps it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use log::error;
use prometheus::IntGauge;

use crate::access_log::AccessLog;
use crate::tunnel::pair::{Pair, Sealing, TunnelStream};
use crate::tunnel::record::Record;
use crate::upstream::BackendState;
use crate::ws::{Side, Sides};

/// A tunnel, its identity, and its place in the worker's queues.
pub(in crate::tunnel) struct Tunnel {
    pub(super) pair: Pair<TunnelStream>,
    pub(super) record: Record,
    pub(super) queued: Queued,
    /// Its last turn moved much: it waits for its turn among the others of its kind.
    pub(super) heavy: bool,
    /// A call of its code panicked: the next one that does ends it at once.
    pub(super) panicked: bool,
    /// Sides that the poller watches for room to write, too.
    pub(super) watched_for_room: Sides<bool>,
    /// A successor refused it in a handover, or could not be given it.
    pub(super) refused: bool,
    /// Bytes kept for its two ends when its worker last counted them.
    pub(super) counted_kept: u32,
}

/// The next class of jemalloc has 512 bytes: one field too many costs each tunnel a seventh more.
/// Tests know one more kind of stream, and compare the size by `pair/tests/room.rs`.
#[cfg(not(test))]
const _: () = assert!(size_of::<Tunnel>() <= 448);

/// The queue of a worker that a tunnel stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    /// None: it waits for an event.
    No,
    /// The queue of tunnels that are driven in the next turn.
    Ready,
    /// The queue of tunnels that moved a full buffer when they were last driven: one of them is driven in a turn.
    Bulk,
}

impl Tunnel {
    pub(super) fn new(pair: Pair<TunnelStream>, record: Record) -> Self {
        let [heavy, panicked, refused] = [false; 3];
        let watched_for_room = Sides::default();
        Self { pair, record, queued: Queued::No, heavy, panicked, watched_for_room, refused, counted_kept: 0 }
    }

    /// The part that seals it: that of the end which is the hardest to move.
    pub(super) fn sealing(&self) -> Sealing {
        let [client, backend] = Side::ALL.map(|side| self.pair.stream(side).sealing());
        client.max(backend)
    }

    /// The gauge that counts it while a worker has it.
    pub(super) fn counted_open(&self) -> &IntGauge {
        &self.record.metrics.open[self.sealing() as usize]
    }

    /// Logs and counts the outcome of its re-attachment, if there is one.
    pub(super) fn tell(&mut self, log: &AccessLog) {
        if let Some(told) = self.pair.take_told() {
            self.record.log_reattached(log, &told);
        }
    }

    /// Calls code of the tunnel. A panic is caught, logged once, and begins the tunnel's end with Close 1011; a second
    /// one leaves nothing to be done in order.
    ///
    /// # Errors
    /// The tunnel has to be removed as it is.
    #[inline]
    pub(super) fn guarded<T>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Self) -> T,
    ) -> Result<Option<T>, BrokenTunnel> {
        match catch_unwind(AssertUnwindSafe(|| call(self))) {
            Ok(done) => Ok(Some(done)),
            Err(panic) => self.note_panic(now, panic).map(|()| None),
        }
    }

    #[cold]
    fn note_panic(&mut self, now: Instant, panic: Box<dyn Any + Send>) -> Result<(), BrokenTunnel> {
        if std::mem::replace(&mut self.panicked, true) {
            return Err(BrokenTunnel(panic));
        }
        error!("request {}: its tunnel ends, the gateway panicked on it: {}", self.record.request_id, text(&*panic));
        catch_unwind(AssertUnwindSafe(|| self.pair.fail(now))).map_err(BrokenTunnel)
    }
}

/// The panic after which a tunnel cannot even be ended in order.
pub(super) struct BrokenTunnel(#[expect(dead_code, reason = "dropped where the tunnel is")] Box<dyn Any + Send>);

/// Calls code that may panic where nothing can be done about it but to say so.
pub(super) fn caught<T>(of: &str, call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| error!("{of} panicked: {}", text(&*panic))).ok()
}

/// The text of a panic.
pub(super) fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text")
}

/// Selection of tunnels.
#[derive(Clone)]
pub enum Scope {
    /// Every tunnel.
    All,
    /// The tunnels that lead to a backend, be it at an address that it had before.
    Backend(Arc<BackendState>),
    /// The tunnels that lead to a backend at its address.
    Address(Arc<BackendState>),
    /// The tunnels that cannot go on in another process, as [`Tunnels::freeze`](crate::tunnel::Tunnels::freeze) found.
    Staying,
}

impl Scope {
    pub(super) fn holds(&self, tunnel: &Tunnel) -> bool {
        match self {
            Self::All => true,
            Self::Backend(backend) => backend.is_same(tunnel.record.backend()),
            Self::Address(backend) => Arc::ptr_eq(backend, tunnel.record.backend()),
            Self::Staying => tunnel.refused || tunnel.pair.inspector().is_some_and(|inspector| inspector.stays()),
        }
    }
}
