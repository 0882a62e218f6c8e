//! Tunnels: the two-way byte streams that upgrades open, on worker threads of their own.
//!
//! A tunnel stays on its worker for life, and a worker is one thread: its state needs no locks. An idle tunnel holds no
//! buffer and wakes nobody; limits that have to do with time are looked at when the earliest of them is due.

mod arrival;
mod doors;
mod end;
mod flow;
mod frozen;
mod hooked;
mod inspect;
mod mailbox;
mod pair;
mod reason;
mod record;
mod rule;
mod worker;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::access_log::AccessLog;
use crate::config::TunnelLimits;
use crate::hook::{self, Chain, Contexts, Item, Outlet, To};
use crate::upstream::BackendState;
use crate::ws::Sides;
use crate::ws::deflate::Agreement;
pub use arrival::{Connection, Handshake, Host, Shaken, Socket};
use doors::Peer;
pub use frozen::{Batch, Frozen, Passport, Place};
use inspect::{Caller, LastWords};
use mailbox::Mailbox;
pub use reason::Reason;
pub use record::Record;
pub use rule::{Judged, Rule, Standing, Verdict};
use worker::{Command, Tunnel, WAKE, Worker};

/// The workers, and every open tunnel on them. Dropping it ends them all.
pub struct Tunnels {
    workers: Vec<Handle>,
    last_words: LastWords,
}

/// A tunnel to be opened: both handshakes are done.
pub struct NewTunnel {
    /// Towards the client.
    pub client: Socket,
    /// Towards the backend.
    pub backend: Socket,
    /// Bytes that came with the handshake, by the side that sent them.
    pub early: Sides<Vec<u8>>,
    /// The limits it lives under.
    pub limits: TunnelLimits,
    /// Who is connected with whom.
    pub record: Record,
    /// The hooks of its route; `None` where that has none.
    pub hooks: Option<Hooked>,
}

/// What hooks have of a tunnel that is to be opened.
pub struct Hooked {
    /// The hooks, as they were when the request began.
    pub chain: Arc<Chain>,
    /// What they keep of the request, and of the tunnel from now on.
    pub contexts: Contexts,
    /// The tunnel as they see it, with an id of its own.
    pub tunnel: hook::Tunnel,
    /// What the gateway itself agreed on about permessage-deflate; `None` where it left that to client and backend (no hook
    /// sees messages), or where messages are never compressed.
    pub agreement: Option<Agreement>,
}

/// What is shown a tunnel and its age; called on the workers' threads, it must not block.
pub type Look = dyn Fn(&Record, Duration) + Send + Sync;

/// Which tunnels are meant.
#[derive(Clone)]
pub enum Scope {
    /// Every one.
    All,
    /// Those that lead to this backend.
    Backend(Arc<BackendState>),
    /// Those of which [`Tunnels::freeze`] found that they cannot go on in another process.
    Staying,
}

impl Scope {
    fn holds(&self, tunnel: &Tunnel) -> bool {
        match self {
            Self::All => true,
            Self::Backend(backend) => Arc::ptr_eq(backend, tunnel.record.backend()),
            Self::Staying => tunnel.pair.inspector().is_some_and(|inspector| inspector.stays()),
        }
    }
}

struct Handle {
    mailbox: Arc<Mailbox>,
    caller: Option<Arc<Caller>>,
    count: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Tunnels {
    /// Starts `threads` workers (at least one) that write to `log`. Hooks that wait do so on the Tokio runtime that this is
    /// called on; called on none, tunnels with hooks are refused.
    ///
    /// # Errors
    /// A poller or a thread cannot be made.
    pub fn start(threads: usize, log: &AccessLog) -> io::Result<Self> {
        let last_words = LastWords::new();
        let start = |number| Handle::start(number, log.clone(), &last_words);
        let workers = (0..threads.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, last_words })
    }

    /// Opens a tunnel on the worker that has the fewest.
    pub fn open(&self, tunnel: NewTunnel) {
        let worker = self.freest();
        worker.count.fetch_add(1, Ordering::Relaxed);
        worker.command(Command::Open(Box::new(tunnel)));
    }

    /// Has the workers accept clients on these sockets (listening, non-blocking), for `host` to receive; until
    /// [`accept_no_more`](Self::accept_no_more).
    pub fn accept(&self, sockets: &[Arc<TcpListener>], host: &Arc<dyn Host>) {
        let peer = |worker: &Handle| Peer { mailbox: Arc::clone(&worker.mailbox), count: Arc::clone(&worker.count) };
        let peers: Arc<[Peer]> = self.workers.iter().map(peer).collect();
        for worker in &self.workers {
            let (sockets, host, peers) = (sockets.to_vec(), Arc::clone(host), Arc::clone(&peers));
            worker.command(Command::Accept { sockets, host, peers });
        }
    }

    /// Has the workers let go of the sockets they accept on. Clients that were accepted and have said nothing yet are received
    /// by `host` at once.
    pub fn accept_no_more(&self) {
        self.workers.iter().for_each(|worker| worker.command(Command::AcceptNoMore));
    }

    /// Takes up to `most` tunnels off their worker as they stand; none when there are none left. Blocks until the worker
    /// has come to it.
    ///
    /// Those that hooks are busy with are left for later, and those that cannot go on in another process stay; how many is
    /// said when nothing is left to take.
    pub fn freeze(&self, most: usize) -> Batch {
        let mut left = Batch::default();
        for worker in self.workers.iter().filter(|worker| worker.count.load(Ordering::Relaxed) > 0) {
            let (reply, frozen) = mpsc::channel();
            worker.command(Command::Freeze { most, reply });
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

    /// A tunnel of another process, to go on in this one with the sockets that came with its passport. It is not open yet:
    /// see [`thaw`](Self::thaw).
    pub fn adopt(&self, passport: Passport, sockets: [OwnedFd; 2], place: Place, now: Instant) -> Frozen {
        Frozen::adopt(passport, sockets, place, self.freest().caller.clone(), now)
    }

    /// Takes a frozen tunnel on, its own or another process's; bytes flow again.
    pub fn thaw(&self, frozen: Frozen) {
        let worker = self.freest();
        // Counted at once: the next to freeze must not overlook it on its way.
        worker.count.fetch_add(1, Ordering::Relaxed);
        worker.command(Command::Thaw(frozen));
    }

    fn freest(&self) -> &Handle {
        let freest = self.workers.iter().min_by_key(|worker| worker.count.load(Ordering::Relaxed));
        freest.expect("at least one worker was started")
    }

    /// Ends the tunnels in `scope` with the Close frame of `reason`, evenly spread over the time `over`.
    ///
    /// With [`Scope::All`] those that open later, from handshakes under way, end within what is left of the time.
    pub fn end(&self, scope: &Scope, reason: Reason, over: Duration) {
        for worker in &self.workers {
            worker.command(Command::End { scope: scope.clone(), reason, over });
        }
    }

    /// Calls off the ends in `scope` that were announced for `reason` and have not begun.
    pub fn spare(&self, scope: &Scope, reason: Reason) {
        for worker in &self.workers {
            worker.command(Command::Spare { scope: scope.clone(), reason });
        }
    }

    /// Shows every open tunnel, with its age, to `look`: on the workers' threads, between two turns. Returns when all
    /// have been shown.
    pub async fn visit(&self, look: Arc<Look>) {
        let visits: Vec<_> = self.workers.iter().map(|worker| worker.visit(Arc::clone(&look))).collect();
        for visited in visits {
            // A worker that is gone has no tunnels to show.
            let _ = visited.await;
        }
    }

    /// Has `rule` decide over every open tunnel now, over those that open later, and once more when an end that it
    /// announced is due; until another rule takes its place. Returns when the open ones have been judged.
    pub async fn judge(&self, rule: Arc<Rule>) -> Judged {
        let judging: Vec<_> = self.workers.iter().map(|worker| worker.judge(Arc::clone(&rule))).collect();
        let mut all = Judged::default();
        for judged in judging {
            // A worker that is gone has no tunnels to judge.
            all += judged.await.unwrap_or_default();
        }
        all
    }

    /// Ends the workers and with them every tunnel that is left; returns when each has been accounted for.
    pub fn stop(&self) {
        let threads: Vec<_> = self.workers.iter().filter_map(Handle::take_thread).collect();
        for (worker, _) in &threads {
            worker.command(Command::Stop);
        }
        for (_, thread) in threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }

    /// Returns when the hooks of every tunnel that has ended know of it, after 5 s at the most.
    pub async fn hooks_told(&self) {
        match self.last_words.said(LAST_WORDS_WITHIN).await {
            0 => {}
            left => log::warn!("hooks of {left} tunnels that have ended are still busy with that"),
        }
    }

    /// How many tunnels are open.
    pub fn count(&self) -> usize {
        self.workers.iter().map(|worker| worker.count.load(Ordering::Relaxed)).sum()
    }
}

impl Outlet for Tunnels {
    fn deliver(&self, to: To, item: Item, done: UnboundedSender<usize>) {
        for worker in &self.workers {
            worker.mailbox.deliver(Command::Deliver { to: to.clone(), item: item.clone(), done: done.clone() });
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Handle {
    fn start(number: usize, log: AccessLog, last_words: &LastWords) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (commands, received) = mpsc::channel();
        let mailbox = Arc::new(Mailbox::new(commands, waker));
        let caller = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let mailbox = Arc::clone(&mailbox);
            let report = move |tunnel, outcome| mailbox.put(Command::Hear { tunnel, outcome });
            Arc::new(Caller::new(runtime, last_words.clone(), Box::new(report)))
        });
        let count = Arc::new(AtomicUsize::new(0));
        let (registry, counted) = (poll.registry().try_clone()?, Arc::clone(&count));
        let (own, calls) = (Arc::clone(&mailbox), caller.clone());
        let work = move || Worker::new(poll, registry, received, own, counted, log, calls).run();
        let thread = std::thread::Builder::new().name(format!("tunnels-{number}")).spawn(work)?;
        Ok(Self { mailbox, caller, count, thread: Mutex::new(Some(thread)) })
    }

    fn take_thread(&self) -> Option<(&Self, JoinHandle<()>)> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((self, thread))
    }

    fn visit(&self, look: Arc<Look>) -> oneshot::Receiver<()> {
        let (done, visited) = oneshot::channel();
        self.command(Command::Visit { look, done });
        visited
    }

    fn judge(&self, rule: Arc<Rule>) -> oneshot::Receiver<Judged> {
        let (done, judged) = oneshot::channel();
        self.command(Command::Judge { rule, done });
        judged
    }

    fn command(&self, command: Command) {
        self.mailbox.put(command);
    }
}

/// How long the process may take to end for hooks that are told of their tunnels' ends.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);
