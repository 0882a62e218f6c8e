//! Tunnels: the two-way byte streams that upgrades open, on worker threads of their own.
//!
//! A tunnel stays on its worker for life, and a worker is one thread: its state needs no locks. An idle tunnel holds no
//! buffer and wakes nobody; limits that have to do with time are looked at when the earliest of them is due.

mod accept;
mod activity;
mod addresses;
pub mod deadlines;
mod inspect;
mod key_mark;
mod new_tunnel;
mod pair;
mod rates;
mod reason;
pub mod reattach;
mod record;
mod request_id;
mod sends;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::access_log::AccessLog;
use crate::config::Engine;
use crate::counted::counted;
use crate::hook::{Item, Outlet, To};
use crate::metrics::WorkerMetrics;
pub use accept::{Connection, ConnectionCounts, Handshake, Host, Listener, ListeningSocket, Redial, Shaken, Socket};
pub use activity::{Activity, ChangeSignal, UnderWay};
pub use addresses::Addresses;
use inspect::Farewells;
pub use key_mark::KeyMark;
pub use new_tunnel::{Hooked, NewTunnel};
pub use rates::RateTable;
pub use reason::Reason;
use reattach::{Asker, Heads};
pub use record::{ClientTls, Rare, Record};
pub use request_id::RequestId;
pub use worker::{
    Batch, Frozen, Judged, Look, Passport, RuleVerdict, Scope, Seen, Spot, Standing, Surroundings, TunnelRule,
};
use worker::{Handle, MemoryLimits, WorkerCommand};

/// The workers, and every open tunnel on them. Dropping it ends them all.
pub struct Tunnels {
    workers: Vec<Handle>,
    farewells: Farewells,
    limits: Arc<MemoryLimits>,
    changes: ChangeSignal,
    metrics: WorkerMetrics,
    heads: Heads,
}

/// Place from which the next slice of tunnels is shown; the default is the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct NextSlice {
    worker: usize,
    slot: usize,
}

impl Tunnels {
    /// Starts `threads` workers (at least one) that write to `log`. Calls of hooks that wait go on on the Tokio runtime
    /// that this is called on; without one, tunnels with hooks are refused.
    ///
    /// # Errors
    /// A poller or a thread cannot be made.
    pub fn start(threads: usize, log: &AccessLog) -> io::Result<Self> {
        Self::start_by(Engine::Auto, threads, log)
    }

    /// Does the same with a choice of how workers send.
    ///
    /// # Errors
    /// As for [`start`](Self::start); or the system does not allow what was chosen.
    pub fn start_by(engine: Engine, threads: usize, log: &AccessLog) -> io::Result<Self> {
        if engine == Engine::IoUring {
            let refused = |error| io::Error::other(format!("the system allows no io_uring, as `engine` asks: {error}"));
            sends::probe().map_err(refused)?;
        }
        let (farewells, changes, metrics) = (Farewells::new(), ChangeSignal::default(), WorkerMetrics::new());
        let limits = Arc::default();
        let workers = Handle::start(threads.max(1), engine, log, &farewells, &limits, &changes, &metrics)?;
        Ok(Self { workers, farewells, limits, changes, metrics, heads: Heads::default() })
    }

    /// Limits the bytes that unfinished messages of tunnels with hooks may take on each worker; no limit before the
    /// first call.
    pub fn limit_hook_memory(&self, bytes: u64) {
        self.limits.hook.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Limits the bytes that may be kept for all clients of the process; `None`, as before the first call, is no limit.
    /// A tenth above it, tunnels with the largest unfinished messages are not read.
    pub fn limit_memory(&self, bytes: Option<u64>) {
        let most = bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(i64::MAX);
        self.limits.kept.store(most, Ordering::Relaxed);
    }

    /// Holds clients to the rates of their tunnels' upstreams, those of open tunnels too. No rate is limited before the
    /// first call.
    pub fn limit_rates(&self, rates: RateTable) {
        let rates = Arc::new(rates);
        for worker in &self.workers {
            worker.command(WorkerCommand::LimitRates(Arc::clone(&rates)));
        }
    }

    /// Told when a tunnel opens on a worker, when a worker's last tunnel leaves it, and when a call of a hook ends.
    pub fn changes(&self) -> &ChangeSignal {
        &self.changes
    }

    /// Heads of requests that tunnels keep.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Measures of the workers, which are in no registry yet.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// Opens a tunnel on the worker that has the fewest.
    pub fn open(&self, tunnel: NewTunnel) {
        self.freest().add(WorkerCommand::Open(Box::new(tunnel)));
    }

    /// Accepts clients on `sockets` until [`accept_no_more`](Self::accept_no_more); `host` makes their handshakes.
    pub fn accept(&self, sockets: &[ListeningSocket], host: &Arc<dyn Host>) {
        let sockets: Arc<[ListeningSocket]> = sockets.into();
        for worker in &self.workers {
            worker.command(WorkerCommand::Accept { sockets: Arc::clone(&sockets), host: Arc::clone(host) });
        }
    }

    /// Lets `asker` find the next backends of tunnels that may be re-attached. Before the first call they end with
    /// their backends.
    pub fn reattach_by(&self, asker: &Arc<dyn Asker>) {
        self.workers.iter().for_each(|worker| worker.command(WorkerCommand::ReattachBy(Arc::clone(asker))));
    }

    /// Stops accepting, and lets go of the sockets. Connections that have not sent a byte yet are returned to their
    /// host.
    pub fn accept_no_more(&self) {
        self.workers.iter().for_each(|worker| worker.command(WorkerCommand::AcceptNoMore));
    }

    /// Takes up to `most` tunnels off their worker as they stand; none when none are left. Blocks until the worker has
    /// done it.
    ///
    /// Tunnels that hooks are busy with are left for later. Tunnels that cannot go on in another process stay. Both are
    /// counted when nothing is left to take.
    /// Without `with_tls` tunnels that speak TLS are among those that stay.
    pub fn freeze(&self, most: usize, with_tls: bool) -> Batch {
        let mut left = Batch::default();
        for worker in self.workers.iter().filter(|worker| worker.count() > 0) {
            let (reply, frozen) = mpsc::channel();
            worker.command(WorkerCommand::Freeze { most, with_tls, reply });
            match frozen.recv() {
                Ok(batch) if !batch.frozen.is_empty() => return batch,
                Ok(batch) => {
                    left.busy += batch.busy;
                    left.staying += batch.staying;
                }
                // A worker that is gone has no tunnels.
                Err(_) => {}
            }
        }
        left
    }

    /// Builds a tunnel of another process from its passport and its sockets. It opens with [`thaw`](Self::thaw).
    pub fn adopt(&self, mut passport: Passport, sockets: [OwnedFd; 2], place: Surroundings, now: Instant) -> Frozen {
        passport.share_head(&self.heads);
        Frozen::adopt(passport, sockets, place, self.freest().caller(), now)
    }

    /// Takes on a frozen tunnel of this or another process; bytes flow again.
    pub fn thaw(&self, frozen: Frozen) {
        self.freest().add(WorkerCommand::Thaw(frozen));
    }

    fn freest(&self) -> &Handle {
        let freest = self.workers.iter().filter(|worker| worker.is_open()).min_by_key(|worker| worker.count());
        freest.or(self.workers.first()).expect("at least one worker was started")
    }

    /// Ends the tunnels in `scope` with the Close frame of `reason`, evenly spread over the time `over`.
    ///
    /// With [`Scope::All`] tunnels that open later, from handshakes under way, end within the rest of the time.
    pub fn end(&self, scope: &Scope, reason: Reason, over: Duration) {
        for worker in &self.workers {
            worker.command(WorkerCommand::End { scope: scope.clone(), reason, over });
        }
    }

    /// Calls off the ends in `scope` that were announced for `reason` and have not begun.
    pub fn spare(&self, scope: &Scope, reason: Reason) {
        for worker in &self.workers {
            worker.command(WorkerCommand::Spare { scope: scope.clone(), reason });
        }
    }

    /// Shows every open tunnel to `look`, on the workers' threads, between turns in which they see to their tunnels.
    /// Returns when all have been shown.
    pub async fn visit(&self, look: Arc<Look>) {
        futures::future::join_all(self.workers.iter().map(|worker| visit(worker, &look))).await;
    }

    /// Shows some tunnels of one worker to `look`, as many as take a fraction of a millisecond. `from` is the place
    /// that the call before returned. Returns the place where the next call goes on; `None` when every tunnel was
    /// shown.
    pub async fn visit_slice(&self, look: &Arc<Look>, from: NextSlice) -> Option<NextSlice> {
        let worker = self.workers.get(from.worker)?;
        Some(match visit_from(worker, look, from.slot).await {
            Some(slot) => NextSlice { slot, ..from },
            None => NextSlice { worker: from.worker + 1, slot: 0 },
        })
    }

    /// Ends tunnels at the moments given with Close frames of an operator's. Returns how many end that were not ending
    /// already: those that have left their places do not.
    pub async fn close(&self, ends: &[(Spot, Instant)], code: u16, words: Option<&Arc<str>>) -> usize {
        let mut closed = 0;
        for some in ends.chunks(CLOSED_AT_ONCE) {
            let some: Arc<[_]> = some.into();
            for worker in &self.workers {
                let (done, answer) = oneshot::channel();
                worker.command(WorkerCommand::Close { ends: Arc::clone(&some), code, words: words.cloned(), done });
                // A worker that is gone has no tunnels to close.
                closed += answer.await.unwrap_or(0);
            }
        }
        closed
    }

    /// Lets `rule` decide over every open tunnel now, over tunnels that open later, and once more when an end that it
    /// announced is due; until another rule takes its place. Returns when the open ones have been judged.
    pub async fn judge(&self, rule: Arc<TunnelRule>) -> Judged {
        let judging: Vec<_> = self.workers.iter().map(|worker| judge(worker, &rule)).collect();
        let mut all = Judged::default();
        for judged in judging {
            // A worker that is gone has no tunnels to judge.
            all += judged.await.unwrap_or_default();
        }
        all
    }

    /// Ends the workers and with them every tunnel that is left; returns when each has been accounted for.
    pub fn stop(&self) {
        let threads: Vec<_> = self.workers.iter().filter_map(Handle::stop).collect();
        // Whoever lets go of the last tunnel with hooks may be a worker: that one cannot wait for itself.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A worker catches its own panics.
            let _ = thread.join();
        }
    }

    /// Number of workers that ended without being told to: a process that has lost one is not ready.
    pub fn lost_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_lost()).count()
    }

    /// Ends the loop of the first worker, as a fault of its own would.
    #[cfg(test)]
    pub(crate) fn lose_a_worker(&self) {
        self.workers[0].command(WorkerCommand::Panic);
    }

    /// Returns when the hooks of every tunnel that has ended know of it, after 5 s at the most.
    pub async fn hooks_told(&self) {
        match self.farewells.said(FAREWELLS_WITHIN).await {
            0 => {}
            left => log::warn!("hooks of {} that ended are still busy with that", counted(left, "tunnel")),
        }
    }

    /// Number of open tunnels.
    pub fn count(&self) -> usize {
        self.workers.iter().map(Handle::count).sum()
    }
}

impl Outlet for Tunnels {
    fn deliver(&self, to: To, item: Item, done: UnboundedSender<usize>) {
        for worker in &self.workers {
            worker.deliver(WorkerCommand::Deliver { to: to.clone(), item: item.clone(), done: done.clone() });
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn visit(worker: &Handle, look: &Arc<Look>) {
    let mut next = Some(0);
    while let Some(from) = next {
        next = visit_from(worker, look, from).await;
    }
}

/// Shows a slice; returns the slot to go on from. A worker that is gone has no tunnels to show.
async fn visit_from(worker: &Handle, look: &Arc<Look>, from: usize) -> Option<usize> {
    let (done, next) = oneshot::channel();
    worker.command(WorkerCommand::Visit { look: Arc::clone(look), from, done });
    next.await.ok().flatten()
}

fn judge(worker: &Handle, rule: &Arc<TunnelRule>) -> oneshot::Receiver<Judged> {
    let (done, judged) = oneshot::channel();
    worker.command(WorkerCommand::Judge { rule: Arc::clone(rule), done });
    judged
}

/// Tunnels whose ends are announced in one turn of a worker, which takes some 50 µs.
const CLOSED_AT_ONCE: usize = 256;
/// Time that the process may take to end for hooks that are told of their tunnels' ends.
const FAREWELLS_WITHIN: Duration = Duration::from_secs(5);
