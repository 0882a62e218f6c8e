//! Keys from a URL. They are fetched at the start, then at intervals, and when a token names a key that is not known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::Algorithm;
use log::{info, warn};
use reqwest::{Client, Url, header};
use tokio::sync::{Notify, watch};
use tokio::time::{self, Instant};

use super::keys::KeySet;
use crate::counted::counted;
use crate::stock::outgoing;

/// Source of keys, and the time between fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeySetSource {
    /// URL of a JWK Set.
    pub(super) url: Url,
    /// The authorities that an `https` URL is verified with; `None` for those of the system.
    pub(super) ca_file: Option<std::path::PathBuf>,
    /// The longest time that a fetch takes, and that a request waits for one.
    pub(super) timeout: Duration,
    /// The time from one fetch to the next.
    pub(super) refresh: Duration,
    /// The least time between fetches that unknown keys lead to.
    pub(super) cooldown: Duration,
    /// The algorithms that are accepted; `None` for all but the symmetric ones.
    pub(super) accepted: Option<Vec<Algorithm>>,
}

/// The keys of a URL. While the URL cannot be reached, the keys of the last fetch stay valid.
#[derive(Debug)]
pub(super) struct Remote {
    origin: KeySetSource,
    client: Client,
    state: watch::Sender<State>,
    /// Wakes the task when a request wants a fetch at once, or when this was dropped.
    wanted: Arc<Notify>,
    started: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct State {
    current: Option<Arc<Fetched>>,
    /// Number of fetches that have ended.
    fetches: u64,
    /// Moment at which the last fetch began or was asked for; `None` before the first.
    began: Option<Instant>,
    under_way: bool,
}

/// Keys, and the text that they were read from.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) text: Bytes,
}

impl Remote {
    /// The keys of `origin`. The first fetch begins with [`start`](Self::start).
    pub(super) fn new(origin: KeySetSource, client: Client) -> Self {
        Self {
            origin,
            client,
            state: watch::Sender::default(),
            wanted: Arc::default(),
            started: AtomicBool::new(false),
        }
    }

    /// URL of the keys.
    pub(super) fn origin(&self) -> &KeySetSource {
        &self.origin
    }

    /// Takes keys that the predecessor had, unless there are keys already. Returns true for keys that can be used.
    pub(super) fn seed(&self, text: Bytes) -> bool {
        let Ok(keys) = KeySet::jwks(&text, self.origin.accepted.as_deref()) else { return false };
        self.state.send_if_modified(|state| {
            let is_first = state.current.is_none();
            state.current.get_or_insert_with(|| Arc::new(Fetched { keys, text }));
            is_first
        });
        true
    }

    /// The keys as they are now.
    pub(super) fn current(&self) -> Option<Arc<Fetched>> {
        self.state.borrow().current.clone()
    }

    /// Starts the task that fetches, until `self` is dropped. Further calls do nothing: hooks of several configurations
    /// may share one `Remote`.
    pub(super) fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(run(Arc::downgrade(self), Arc::clone(&self.wanted)));
        }
    }

    /// The keys. Waits for the first fetch where there are none yet.
    pub(super) async fn keys(&self) -> Option<Arc<Fetched>> {
        if let Some(current) = self.current() {
            return Some(current);
        }
        self.wait_for(|state| state.current.is_some()).await;
        self.current()
    }

    /// Waits for keys newer than `known`, which lack the key of a token. Fetches them at once, unless the last fetch
    /// began less than the time of `cooldown` ago.
    pub(super) async fn after(&self, known: &Arc<Fetched>) -> Option<Arc<Fetched>> {
        let mut awaited = None;
        self.state.send_if_modified(|state| {
            let is_other = |current: &Arc<Fetched>| !Arc::ptr_eq(current, known);
            if state.current.as_ref().is_some_and(is_other) {
                return false;
            }
            let cools = state.began.is_some_and(|began| began.elapsed() < self.origin.cooldown);
            if state.under_way || !cools {
                awaited = Some(state.fetches + 1);
            }
            if awaited.is_some() && !state.under_way {
                (state.under_way, state.began) = (true, Some(Instant::now()));
                self.wanted.notify_one();
            }
            // Nobody waits for this part of the state.
            false
        });
        if let Some(awaited) = awaited {
            self.wait_for(|state| state.fetches >= awaited).await;
        }
        self.current().filter(|current| !Arc::ptr_eq(current, known))
    }

    async fn wait_for(&self, reached: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        // Too late or not: what counts is what is there afterwards.
        let _ = time::timeout(self.origin.timeout, state.wait_for(reached)).await;
    }

    /// Fetches once, and returns the time until the next fetch. `failures` counts the failures in a row.
    async fn fetch(&self, failures: &mut u32) -> Duration {
        self.state.send_if_modified(|state| {
            (state.under_way, state.began) = (true, Some(Instant::now()));
            false
        });
        let outcome = self.ask().await;
        let url = outgoing::shown(&self.origin.url);
        match &outcome {
            Ok(fetched) if *failures > 0 => {
                info!(
                    "keys for tokens came from {url}, {} of use, after {}",
                    fetched.keys.len(),
                    counted(*failures, "failure")
                );
            }
            Ok(_) => {}
            Err(why) if *failures == 0 => {
                let kept = if self.current().is_some() { "those known go on counting" } else { "there are none" };
                warn!("no keys for tokens came from {url}, {kept}: {why}");
            }
            Err(_) => {}
        }
        *failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
        self.state.send_modify(|state| {
            state.current = outcome.ok().map(Arc::new).or_else(|| state.current.take());
            state.fetches += 1;
            state.under_way = false;
        });
        match *failures {
            0 => self.origin.refresh,
            failures => FIRST_RETRY.saturating_mul(1 << failures.min(6)).min(self.origin.refresh),
        }
    }

    async fn ask(&self) -> Result<Fetched, String> {
        let request = self.client.get(self.origin.url.clone());
        let request = request.header(header::ACCEPT, "application/jwk-set+json, application/json");
        let text = outgoing::send(request, LONGEST_SET).await.map_err(|error| error.to_string())?;
        let keys = KeySet::jwks(&text, self.origin.accepted.as_deref()).map_err(|error| error.to_string())?;
        Ok(Fetched { keys, text: text.into() })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.wanted.notify_one();
    }
}

async fn run(remote: Weak<Remote>, wanted: Arc<Notify>) {
    let mut failures = 0;
    loop {
        let Some(this) = remote.upgrade() else { return };
        let pause = this.fetch(&mut failures).await;
        drop(this);
        let _ = time::timeout(pause, wanted.notified()).await;
    }
}

/// Pause after the first failure. It doubles with every further one, up to a minute, and is never more than `refresh`.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Most bytes of a JWK Set: far more than any provider publishes.
const LONGEST_SET: usize = 1024 * 1024;
