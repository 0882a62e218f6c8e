//! Handle of a worker, for other threads.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mio::{Poll, Waker};

use super::commands::WorkerCommand;
use super::mailbox::{Inbox, Mailbox};
use super::tunnels::{MemoryLimits, Shared};
use super::{WAKE, Worker};
use crate::access_log::AccessLog;
use crate::config::Engine;
use crate::metrics::WorkerMetrics;
use crate::tunnel::activity::ChangeSignal;
use crate::tunnel::inspect::{Caller, Farewells};
use crate::tunnel::rates::RatedKeys;

/// A worker, as other threads see it.
pub(in crate::tunnel) struct Handle {
    mailbox: Arc<Mailbox>,
    /// Calls the hooks of its tunnels; `None` where there is no runtime to do so on.
    caller: Option<Arc<Caller>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The worker was told to stop.
    stopped: AtomicBool,
}

impl Handle {
    /// Starts `count` workers.
    pub(in crate::tunnel) fn start(
        count: usize,
        engine: Engine,
        log: &AccessLog,
        farewells: &Farewells,
        limits: &Arc<MemoryLimits>,
        changes: &ChangeSignal,
        metrics: &WorkerMetrics,
    ) -> io::Result<Vec<Self>> {
        let keys = Arc::new(RatedKeys::new());
        let ready = (0..count).map(|_| prepare(changes.clone())).collect::<io::Result<Vec<_>>>()?;
        let peers: Arc<[Arc<Mailbox>]> = ready.iter().map(|(_, mailbox, _)| Arc::clone(mailbox)).collect();
        let start = |(number, (poll, mailbox, inbox)): (usize, (Poll, Arc<Mailbox>, Inbox))| {
            let caller = tokio::runtime::Handle::try_current().ok().map(|runtime| {
                let mailbox = Arc::clone(&mailbox);
                let report = move |tunnel, outcome| mailbox.put(WorkerCommand::Hear { tunnel, outcome });
                Arc::new(Caller::new(runtime, farewells.clone(), Box::new(report)))
            });
            let registry = poll.registry().try_clone()?;
            let (peers, calls) = (Arc::clone(&peers), caller.clone());
            let (turns, kept) = (metrics.count_turns(number), metrics.kept().clone());
            let limits = Arc::clone(limits);
            let (log, changes) = (log.clone(), changes.clone());
            let keys = Arc::clone(&keys);
            let shared = Shared { engine, log, caller: caller.clone(), limits, kept, changes, keys };
            let work = move || {
                // Hooks may spawn wherever they are called.
                let _entered = calls.as_ref().map(|caller| caller.runtime().enter());
                Worker::new(poll, registry, inbox, peers, shared, turns).run();
            };
            let thread = std::thread::Builder::new().name(format!("tunnels-{number}")).spawn(work)?;
            Ok(Self { mailbox, caller, thread: Mutex::new(Some(thread)), stopped: AtomicBool::new(false) })
        };
        ready.into_iter().enumerate().map(start).collect()
    }

    /// Sends a command.
    pub(in crate::tunnel) fn command(&self, command: WorkerCommand) {
        self.mailbox.put(command);
    }

    /// Sends an item of a hook, unless the worker is too far behind.
    pub(in crate::tunnel) fn deliver(&self, item: WorkerCommand) {
        self.mailbox.deliver(item);
    }

    /// Sends a command that opens a tunnel, and counts the tunnel at once: whoever looks for tunnels must not overlook
    /// one on its way.
    pub(in crate::tunnel) fn add(&self, command: WorkerCommand) {
        self.mailbox.tunnels().fetch_add(1, Ordering::Relaxed);
        self.mailbox.put(command);
    }

    /// Number of its tunnels; none are left on a worker that has ended.
    pub(in crate::tunnel) fn count(&self) -> usize {
        if self.mailbox.is_closed() { 0 } else { self.mailbox.tunnels().load(Ordering::Relaxed) }
    }

    /// Calls the hooks of its tunnels.
    pub(in crate::tunnel) fn caller(&self) -> Option<Arc<Caller>> {
        self.caller.clone()
    }

    /// Tells whether the worker takes tunnels.
    pub(in crate::tunnel) fn is_open(&self) -> bool {
        !self.mailbox.is_closed()
    }

    /// Tells whether the worker ended without being told to.
    pub(in crate::tunnel) fn is_lost(&self) -> bool {
        self.mailbox.is_closed() && !self.stopped.load(Ordering::Acquire)
    }

    /// Tells the worker to stop; returns its thread, the first time.
    pub(in crate::tunnel) fn stop(&self) -> Option<JoinHandle<()>> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // A worker that ended before it was told to is lost, and stays so.
        self.stopped.store(self.is_open(), Ordering::Release);
        self.command(WorkerCommand::Stop);
        Some(thread)
    }
}

fn prepare(changes: ChangeSignal) -> io::Result<(Poll, Arc<Mailbox>, Inbox)> {
    let poll = Poll::new()?;
    let (mailbox, inbox) = Mailbox::new(Waker::new(poll.registry(), WAKE)?, changes);
    Ok((poll, mailbox, inbox))
}
