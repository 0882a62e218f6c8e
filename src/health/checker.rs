//! The checkers: one light task per backend, which checks it again and again and reports each outcome.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::probe::{Failure, Probe};

/// Whom the outcomes of a backend's checks are told to.
pub trait Subject: Send + Sync {
    /// A check ended: passed, or failed for a reason that fits into a log line.
    ///
    /// `first`: the first outcome for this target since it is among those checked. Called from the checker's task, one
    /// call at a time; it must not block. One last call may come while [`Checkers::sync`] takes the target away.
    fn report(&self, outcome: Result<(), String>, first: bool);
}

/// One backend to be checked.
#[derive(Clone)]
pub struct Target {
    /// The upstream's name: with the address, the target's identity.
    pub upstream: Arc<str>,
    /// The backend's address.
    pub address: SocketAddr,
    /// What a check does; shared by the targets of an upstream.
    pub probe: Arc<Probe>,
    /// From the start of one check to the start of the next, give or take 10 %.
    pub interval: Duration,
    /// Whom the outcomes are told to.
    pub subject: Arc<dyn Subject>,
}

/// The checkers of all targets. Dropped, it ends them all.
///
/// At most 256 checks run at once; more wait their turn, and their timeouts begin when it comes. A check that panics
/// counts as failed, and its checker goes on.
pub struct Checkers {
    checkers: HashMap<Identity, Checker>,
    turns: Turns,
}

type Identity = (Arc<str>, SocketAddr);

impl Checkers {
    /// No checkers yet.
    pub fn new() -> Self {
        Self::examining(|probe, address| async move { probe.run(address).await }.boxed())
    }

    /// Checkers that call `examine` for a check.
    fn examining(
        examine: impl Fn(Arc<Probe>, SocketAddr) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static,
    ) -> Self {
        let turns = Turns { examine: Arc::new(examine), permits: Arc::new(Semaphore::new(MAX_AT_ONCE)) };
        Self { checkers: HashMap::new(), turns }
    }

    /// Checks all targets once, at most 256 at a time, and reports the outcomes.
    ///
    /// It takes no longer than the longest timeout among them, however many they are: a target whose turn came too late
    /// for its whole timeout, and whose check was not done by then, is not reported at all; its first outcome comes from
    /// its checker, once [`sync`](Self::sync) has started that.
    pub async fn first_round(&mut self, targets: &[Target]) {
        let Some(longest) = targets.iter().map(|target| target.probe.timeout()).max() else { return };
        let end = Instant::now() + longest;
        for target in targets {
            let checker = self.checkers.entry(target.identity()).or_insert_with(|| Checker::idle(target));
            checker.watched.tell(&target.subject);
        }
        let checkers = &self.checkers;
        let turns = &self.turns;
        stream::iter(targets)
            .for_each_concurrent(MAX_AT_ONCE, |target| async move {
                let outcome = turns.take_until(&target.probe, target.address, end).await;
                if let (Some(outcome), Some(checker)) = (outcome, checkers.get(&target.identity())) {
                    checker.watched.report(outcome);
                }
            })
            .await;
    }

    /// Makes `targets` the ones that are checked.
    ///
    /// Starts a checker for each new one and stops those no longer named. One that is checked already keeps its
    /// rhythm, unless its check, timeout or interval changed; its outcomes go to the new subject. A target of which
    /// nothing is known is checked at once; checks after that, and of all others, come at a random time within the
    /// interval, so that they spread evenly.
    ///
    /// # Panics
    /// Outside a Tokio runtime, on which the checkers are to run.
    pub fn sync(&mut self, targets: impl IntoIterator<Item = Target>) {
        let mut before = std::mem::take(&mut self.checkers);
        for target in targets {
            let checker = match before.remove(&target.identity()) {
                Some(checker) if checker.suits(&target) => {
                    checker.watched.tell(&target.subject);
                    checker
                }
                Some(changed) => {
                    changed.watched.tell(&target.subject);
                    Checker::start(&target, Arc::clone(&changed.watched), self.turns.clone())
                }
                None => Checker::start(&target, Arc::new(Watched::new(&target)), self.turns.clone()),
            };
            self.checkers.insert(target.identity(), checker);
        }
    }
}

impl Default for Checkers {
    fn default() -> Self {
        Self::new()
    }
}

impl Target {
    fn identity(&self) -> Identity {
        (Arc::clone(&self.upstream), self.address)
    }
}

/// One target and the task that checks it. Dropped, it ends the task.
struct Checker {
    probe: Arc<Probe>,
    interval: Duration,
    watched: Arc<Watched>,
    /// `None` between the first round and the first sync.
    task: Option<JoinHandle<()>>,
}

impl Checker {
    fn idle(target: &Target) -> Self {
        Self::with(target, Arc::new(Watched::new(target)), None)
    }

    fn start(target: &Target, watched: Arc<Watched>, turns: Turns) -> Self {
        let (probe, interval) = (Arc::clone(&target.probe), target.interval);
        let life = check_for_ever(target.address, probe, interval, Arc::clone(&watched), turns);
        Self::with(target, watched, Some(tokio::spawn(life)))
    }

    fn with(target: &Target, watched: Arc<Watched>, task: Option<JoinHandle<()>>) -> Self {
        Self { probe: Arc::clone(&target.probe), interval: target.interval, watched, task }
    }

    /// Whether the task runs and does what `target` asks for. It has ended only if its runtime has.
    fn suits(&self, target: &Target) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
            && self.probe == target.probe
            && self.interval == target.interval
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A checker's life: a check at once where there was none yet, one at a random time within the interval, and from then on
/// `interval` passes from one start to the next, and longer only if a check has to wait its turn.
async fn check_for_ever(
    address: SocketAddr,
    probe: Arc<Probe>,
    interval: Duration,
    watched: Arc<Watched>,
    turns: Turns,
) {
    if !watched.judged.load(Ordering::Relaxed) {
        let Some(turn) = turns.wait().await else { return };
        let outcome = turns.take(&probe, address).await;
        drop(turn);
        watched.report(outcome);
    }
    let mut next = Instant::now() + interval.mul_f64(rand::random::<f64>());
    loop {
        sleep_until(next).await;
        let Some(turn) = turns.wait().await else { return };
        next = Instant::now() + interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        let outcome = turns.take(&probe, address).await;
        drop(turn);
        watched.report(outcome);
    }
}

/// What outlives a checker's task when its settings change.
struct Watched {
    identity: Identity,
    subject: Mutex<Arc<dyn Subject>>,
    /// Whether an outcome was reported.
    judged: AtomicBool,
}

impl Watched {
    fn new(target: &Target) -> Self {
        let subject = Mutex::new(Arc::clone(&target.subject));
        Self { identity: target.identity(), subject, judged: AtomicBool::new(false) }
    }

    /// From now on, outcomes go to `subject`.
    fn tell(&self, subject: &Arc<dyn Subject>) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(subject);
    }

    fn report(&self, outcome: Result<(), Failure>) {
        let first = !self.judged.swap(true, Ordering::Relaxed);
        let subject = Arc::clone(&self.subject.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = outcome.map_err(|failure| failure.to_string());
        if catch_unwind(AssertUnwindSafe(|| subject.report(outcome, first))).is_err() {
            let (upstream, address) = &self.identity;
            log::error!("upstream {upstream}: the outcome of the check of {address} was lost in a panic");
        }
    }
}

/// How a check is run: when it is its turn, and so that a panic stays inside it.
#[derive(Clone)]
struct Turns {
    examine: Arc<Examine>,
    permits: Arc<Semaphore>,
}

type Examine = dyn Fn(Arc<Probe>, SocketAddr) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

impl Turns {
    /// Waits for a turn, which lasts until the result is dropped.
    async fn wait(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // An error would mean that the semaphore was closed, which nobody does.
        self.permits.acquire().await.ok()
    }

    /// Checks once, in a turn.
    async fn take(&self, probe: &Arc<Probe>, address: SocketAddr) -> Result<(), Failure> {
        // In an async block, so that a panic before the first poll is caught as well.
        let check = async { (self.examine)(Arc::clone(probe), address).await };
        AssertUnwindSafe(check).catch_unwind().await.unwrap_or(Err(Failure::Panicked))
    }

    /// Waits for a turn and checks once. `None` when `end` came before the check was done or its timeout over.
    async fn take_until(&self, probe: &Arc<Probe>, address: SocketAddr, end: Instant) -> Option<Result<(), Failure>> {
        let turn = timeout_at(end, self.wait()).await.ok()??;
        let left = end.saturating_duration_since(Instant::now());
        let outcome = match timeout_at(end, self.take(probe, address)).await {
            Ok(outcome) => Some(outcome),
            // Those that began with the round began a moment after its clock: nine tenths of a timeout are one.
            Err(_) if left >= probe.timeout().mul_f64(0.9) => Some(Err(Failure::NoAnswer(probe.timeout()))),
            Err(_) => None,
        };
        drop(turn);
        outcome
    }
}

/// Most checks at once: enough for thousands of backends that answer in milliseconds, and few enough to leave a
/// process's file descriptors (1,024 by default) to its clients.
const MAX_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
