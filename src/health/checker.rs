//! The checkers: one light task per backend, which checks it again and again and reports each outcome.
//!
//! A checker also opens the trial of an ejected backend when that is due, because it is awake anyway.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::probe::{CheckError, Probe};

/// Receiver of the outcomes of one backend's checks.
pub trait Subject: Send + Sync {
    /// A check ended: passed, or failed.
    ///
    /// Called from the checker's task, one call at a time; it must not block. One last call may come while
    /// [`Checkers::sync`] takes the target away.
    fn report(&self, outcome: Result<(), CheckError>);

    /// Does what is due about the backend besides checks; returns the next moment to call this. Called after each
    /// check, when a check is wanted, and at the moments that it returns.
    fn attend(&self) -> Option<std::time::Instant> {
        None
    }
}

/// One backend to be checked.
#[derive(Clone)]
pub struct CheckedBackend {
    /// The upstream's name: with the backend's name, the target's identity.
    pub upstream: Arc<str>,
    /// The backend's name.
    pub name: Box<str>,
    /// The backend's address.
    pub address: SocketAddr,
    /// The check; shared by the targets of an upstream.
    pub probe: Arc<Probe>,
    /// From the start of one check to the start of the next, give or take 10 %.
    pub interval: Duration,
    /// Notified when a check is wanted before the next one is due. It then comes at once, or a tenth of the interval
    /// after the start of the last one. The same for the same identity.
    pub check_wanted: Arc<Notify>,
    /// Receiver of the outcomes.
    pub subject: Arc<dyn Subject>,
}

/// The checkers of all targets. Dropped, it ends them all.
///
/// Checks at once take at most a quarter of the process's file descriptors, 4,096 at the most; more wait their turn,
/// and their timeouts begin when it comes. A check that panics counts as failed, and its checker goes on.
pub struct Checkers {
    checkers: HashMap<Identity, Checker>,
    turns: Turns,
}

type Identity = (Arc<str>, Box<str>);

impl Checkers {
    /// No checkers yet.
    pub fn new() -> Self {
        Self::examining(at_once(), |probe, address| async move { probe.run(address).await }.boxed())
    }

    /// Checkers that call `examine` for a check, `at_once` at a time.
    fn examining(
        at_once: usize,
        examine: impl Fn(Arc<Probe>, SocketAddr) -> BoxFuture<'static, Result<(), CheckError>> + Send + Sync + 'static,
    ) -> Self {
        let turns = Turns { examine: Arc::new(examine), at_once, permits: Arc::new(Semaphore::new(at_once)) };
        Self { checkers: HashMap::new(), turns }
    }

    /// Checks every target once, and reports the outcomes.
    ///
    /// With `n` checks at once it takes no longer than the longest timeout for each `n` targets, and only where as many
    /// are silent: nobody counts as up because its turn came too late.
    pub async fn first_round(&mut self, targets: &[CheckedBackend]) {
        for target in targets {
            let checker = self.checkers.entry(target.identity()).or_insert_with(|| Checker::idle(target));
            checker.watched.tell(&target.subject);
        }
        let (checkers, turns) = (&self.checkers, &self.turns);
        stream::iter(targets)
            .for_each_concurrent(turns.at_once, |target| async move {
                let Some(turn) = turns.wait().await else { return };
                let checking = turns.take(&target.probe, target.address);
                // The probe keeps its own time; this is for one that does not.
                let limit = target.probe.timeout() + GRACE;
                let outcome = timeout(limit, checking).await;
                drop(turn);
                if let Some(checker) = checkers.get(&target.identity()) {
                    checker.watched.report(outcome.unwrap_or(Err(CheckError::NoAnswer(target.probe.timeout()))));
                }
            })
            .await;
    }

    /// Makes `targets` the ones that are checked.
    ///
    /// Starts a checker for each new one and stops those no longer named. One that is checked already keeps its
    /// rhythm, unless its check, timeout or interval changed; its outcomes go to the new subject. A target of which
    /// nothing is known, or that has another address, is checked at once; checks after that, and of all others, come at
    /// a random time within the interval, so that they spread evenly.
    ///
    /// # Panics
    /// Outside a Tokio runtime, on which the checkers are to run.
    pub fn sync(&mut self, targets: impl IntoIterator<Item = CheckedBackend>) {
        let mut before = std::mem::take(&mut self.checkers);
        for target in targets {
            let checker = match before.remove(&target.identity()) {
                Some(checker) if checker.suits(&target) => {
                    checker.watched.tell(&target.subject);
                    checker
                }
                Some(changed) if changed.address == target.address => {
                    changed.watched.tell(&target.subject);
                    Checker::start(&target, Arc::clone(&changed.watched), self.turns.clone())
                }
                _ => Checker::start(&target, Arc::new(Watched::new(&target)), self.turns.clone()),
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

impl CheckedBackend {
    fn identity(&self) -> Identity {
        (Arc::clone(&self.upstream), self.name.clone())
    }
}

/// One target and the task that checks it. Dropped, it ends the task.
struct Checker {
    address: SocketAddr,
    probe: Arc<Probe>,
    interval: Duration,
    watched: Arc<Watched>,
    /// `None` between the first round and the first sync.
    task: Option<JoinHandle<()>>,
}

impl Checker {
    fn idle(target: &CheckedBackend) -> Self {
        Self::with(target, Arc::new(Watched::new(target)), None)
    }

    fn start(target: &CheckedBackend, watched: Arc<Watched>, turns: Turns) -> Self {
        let life = Life { target: target.clone(), watched: Arc::clone(&watched), turns };
        Self::with(target, watched, Some(tokio::spawn(life.check_for_ever())))
    }

    fn with(target: &CheckedBackend, watched: Arc<Watched>, task: Option<JoinHandle<()>>) -> Self {
        Self { address: target.address, probe: Arc::clone(&target.probe), interval: target.interval, watched, task }
    }

    /// True when the task runs and does what `target` asks for. The task has ended only if its runtime has.
    fn suits(&self, target: &CheckedBackend) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
            && self.probe == target.probe
            && self.interval == target.interval
            && self.address == target.address
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// State of a checker's task.
struct Life {
    target: CheckedBackend,
    watched: Arc<Watched>,
    turns: Turns,
}

impl Life {
    /// Checks at once where no outcome is known yet, then at a random time within the interval, and from then on with
    /// `interval` from one start to the next: longer only if a check has to wait its turn, shorter if one is wanted.
    async fn check_for_ever(self) {
        let CheckedBackend { interval, check_wanted, .. } = &self.target;
        let mut last = None;
        if !self.watched.judged.load(Ordering::Relaxed) {
            last = self.check().await;
        }
        let mut next = Instant::now() + interval.mul_f64(rand::random::<f64>());
        let mut attend = self.watched.attend();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    let Some(started) = self.check().await else { return };
                    last = Some(started);
                    next = started + interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
                }
                () = check_wanted.notified() => {
                    let soonest = last.map_or(Instant::now(), |last| last + interval.mul_f64(SOONER));
                    next = next.min(soonest);
                }
                () = sleep_until(attend.unwrap_or(next)), if attend.is_some() => {}
            }
            attend = self.watched.attend();
        }
    }

    /// Waits for a turn, checks and reports; the moment the check began.
    async fn check(&self) -> Option<Instant> {
        let turn = self.turns.wait().await?;
        let started = Instant::now();
        let outcome = self.turns.take(&self.target.probe, self.target.address).await;
        drop(turn);
        self.watched.report(outcome);
        Some(started)
    }
}

/// The part of a checker that outlives its task when the settings change.
struct Watched {
    identity: Identity,
    subject: Mutex<Arc<dyn Subject>>,
    /// True once an outcome about the backend was reported.
    judged: AtomicBool,
}

impl Watched {
    fn new(target: &CheckedBackend) -> Self {
        let subject = Mutex::new(Arc::clone(&target.subject));
        Self { identity: target.identity(), subject, judged: AtomicBool::new(false) }
    }

    /// Sends outcomes to `subject` from now on.
    fn tell(&self, subject: &Arc<dyn Subject>) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(subject);
    }

    fn report(&self, outcome: Result<(), CheckError>) {
        // A check for which the gateway itself was short of something says nothing about the backend.
        if outcome.as_ref().err().and_then(CheckError::local).is_none() {
            self.judged.store(true, Ordering::Relaxed);
        }
        self.call((), |subject| subject.report(outcome));
    }

    fn attend(&self) -> Option<Instant> {
        self.call(None, |subject| subject.attend()).map(Instant::from_std)
    }

    fn call<T>(&self, otherwise: T, call: impl FnOnce(&dyn Subject) -> T) -> T {
        let subject = Arc::clone(&self.subject.lock().unwrap_or_else(PoisonError::into_inner));
        catch_unwind(AssertUnwindSafe(|| call(&*subject))).unwrap_or_else(|_| {
            let (upstream, name) = &self.identity;
            log::error!("upstream {upstream}: the outcome of the check of {name} was lost in a panic");
            otherwise
        })
    }
}

/// The way a check is run: in its turn, and so that a panic stays inside it.
#[derive(Clone)]
struct Turns {
    examine: Arc<Examine>,
    at_once: usize,
    permits: Arc<Semaphore>,
}

type Examine = dyn Fn(Arc<Probe>, SocketAddr) -> BoxFuture<'static, Result<(), CheckError>> + Send + Sync;

impl Turns {
    /// Waits for a turn, which lasts until the result is dropped.
    async fn wait(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // An error would mean that the semaphore was closed, which nobody does.
        self.permits.acquire().await.ok()
    }

    /// Checks once, in a turn.
    async fn take(&self, probe: &Arc<Probe>, address: SocketAddr) -> Result<(), CheckError> {
        // In an async block, so that a panic before the first poll is caught as well.
        let check = async { (self.examine)(Arc::clone(probe), address).await };
        AssertUnwindSafe(check).catch_unwind().await.unwrap_or(Err(CheckError::Panicked))
    }
}

/// Most checks at once: a quarter of the file descriptors that the process may have. The rest is its clients'.
fn at_once() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    usize::try_from(limit.unwrap_or(u64::MAX) / 4).unwrap_or(MOST_AT_ONCE).clamp(1, MOST_AT_ONCE)
}

/// Each check takes a descriptor and a few KiB; with so many at once 10,000 silent backends are known in three
/// timeouts.
const MOST_AT_ONCE: usize = 4096;
/// Part of the interval that lies at least between the start of a check and the next one that is wanted.
const SOONER: f64 = 0.1;
/// Time that a probe of the first round is given beyond its timeout.
const GRACE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
