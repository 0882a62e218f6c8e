//! The queue of events that are to be sent. It is bounded, keeps the order of each tunnel's events, and counts the
//! outcome of every event.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use log::{info, warn};
use prometheus::{IntCounterVec, Opts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::endpoint::{NotTaken, WebhookEndpoint};
use super::event::{EventKind, WebhookEvent};
use crate::hook::TunnelId;
use crate::stock::outgoing;

/// Events that wait to be sent, in lanes. A lane sends one event after the other, and all events of a tunnel take the
/// same lane.
#[derive(Debug)]
pub(super) struct EventQueue {
    endpoint: Arc<WebhookEndpoint>,
    lanes: Vec<mpsc::UnboundedSender<Job>>,
    /// Receiving ends of the lanes, until the tasks start that send their events.
    idle: Mutex<Vec<mpsc::UnboundedReceiver<Job>>>,
    room: Arc<Semaphore>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Job {
    event: WebhookEvent,
    /// Its place in the queue, free again when it is dropped.
    place: OwnedSemaphorePermit,
    done: oneshot::Sender<()>,
}

/// Counters of events, by outcome.
#[derive(Debug)]
pub(super) struct Ledger {
    hook: String,
    route: String,
    url: String,
    lost: AtomicU64,
    failing: AtomicBool,
}

/// Counter of events. It is a static because it is registered with the default registry, which is one of the process.
static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let about = "Events of webhooks, by what became of them.";
    let events = IntCounterVec::new(Opts::new("longhaul_webhook_events_total", about), &LABELS);
    let events = events.expect("name and labels are valid");
    // A program that has a family of this name keeps it, and these are counted unseen.
    let _ = prometheus::register(Box::new(events.clone()));
    events
});

const LABELS: [&str; 4] = ["hook", "route", "event", "outcome"];

impl EventQueue {
    /// A queue for at most this many events.
    pub(super) fn new(endpoint: Arc<WebhookEndpoint>, length: usize, ledger: Arc<Ledger>) -> Self {
        let (lanes, idle) = (0..LANES).map(|_| mpsc::unbounded_channel()).unzip();
        Self { endpoint, lanes, idle: Mutex::new(idle), room: Arc::new(Semaphore::new(length)), ledger }
    }

    /// Starts the tasks that send queued events. Must be called on a Tokio runtime. Events that are queued when `self`
    /// is dropped are still sent.
    pub(super) fn start(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in idle {
            tokio::spawn(work(lane, Arc::clone(&self.endpoint), Arc::clone(&self.ledger)));
        }
    }

    /// Queues an event. The receiver that is returned resolves when the event was sent or given up. Returns `None` when
    /// the queue is full.
    pub(super) fn push(&self, tunnel: TunnelId, event: WebhookEvent) -> Option<oneshot::Receiver<()>> {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            self.ledger.lost(event.kind, "dropped", "too many events are waiting");
            return None;
        };
        let (done, told) = oneshot::channel();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tunnel);
        // The remainder is below LANES, and fits.
        let lane = (hash % LANES as u64) as usize;
        // A lane ends with its queue or its runtime, and then nobody is there to send anything.
        self.lanes[lane].send(Job { event, place, done }).is_ok().then_some(told)
    }
}

async fn work(mut lane: mpsc::UnboundedReceiver<Job>, endpoint: Arc<WebhookEndpoint>, ledger: Arc<Ledger>) {
    while let Some(Job { event, place, done }) = lane.recv().await {
        let outcome = endpoint.deliver(&event).await;
        ledger.enter(event.kind, &outcome);
        drop(place);
        // Whoever queued it need not wait.
        let _ = done.send(());
    }
}

impl Ledger {
    /// A ledger of the hook of this name and route.
    pub(super) fn new(hook: &str, route: &str, endpoint: &WebhookEndpoint) -> Self {
        Self {
            hook: hook.to_owned(),
            route: route.to_owned(),
            url: outgoing::shown(&endpoint.url),
            lost: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// Counts what became of an event that was sent.
    pub(super) fn enter(&self, kind: EventKind, outcome: &Result<(), NotTaken>) {
        match outcome {
            Ok(()) => {
                self.count(kind, "delivered");
                if self.failing.swap(false, Ordering::Relaxed) {
                    let lost = self.lost.swap(0, Ordering::Relaxed);
                    info!("events reach {} again; {lost} were lost", self.url);
                }
            }
            Err(why @ NotTaken::Refused(_)) => self.lost(kind, "refused", &why.to_string()),
            Err(why @ NotTaken::Failed(_)) => self.lost(kind, "failed", &why.to_string()),
            Err(why @ NotTaken::Busy) => self.lost(kind, "dropped", &why.to_string()),
        }
    }

    /// Counts an event that was lost. Only the first one in a row is logged, because an endpoint that is down loses all
    /// of them for one reason.
    fn lost(&self, kind: EventKind, outcome: &str, why: &str) {
        self.count(kind, outcome);
        self.lost.fetch_add(1, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!("an event was lost that {} was to get, and more may be: {why}", self.url);
        }
    }

    fn count(&self, kind: EventKind, outcome: &str) {
        EVENTS.with_label_values(&[&self.hook, &self.route, kind.as_str(), outcome]).inc();
    }
}

/// Number of lanes, and so the most requests that are under way at the same time.
const LANES: usize = 16;
