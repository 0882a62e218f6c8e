//! The line of clients before one backend.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::bucket::TokenBucket;
use super::pace::BackendPace;
use crate::config::{self, HandshakeRate};

/// Order of arrival at an upstream.
pub(super) type Ticket = u64;

/// A backend, as its line sees it.
pub trait QueuedBackend: fmt::Debug + Send + Sync + 'static {
    /// Name within the upstream.
    fn name(&self) -> &str;

    /// Number of open tunnels, and of handshakes that may become tunnels. Handshakes that wait for their turn are
    /// included.
    fn claims(&self) -> usize;

    /// True while the backend takes new clients. Results of checks count where it `is_checked`.
    fn takes_new(&self, is_checked: bool) -> bool;
}

/// The line of one backend.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) backend: Weak<dyn QueuedBackend>,
    pub(super) bucket: TokenBucket,
    /// The rate of `handshakes: auto`; `None` with another rate.
    pub(super) pace: Option<BackendPace>,
    /// Clients that wait for their turn.
    pub(super) waiting: BTreeSet<Ticket>,
    /// Clients that are to be sent away. They waited when the backend stopped taking clients.
    pub(super) leaving: BTreeSet<Ticket>,
    /// The backend took clients when it was last looked at.
    pub(super) open: bool,
}

impl Line {
    pub(super) fn new<B: QueuedBackend>(backend: &Arc<B>, admission: config::Admission, now: Instant) -> Self {
        let mut line = Self {
            backend: weak(backend),
            bucket: TokenBucket::new(None, admission.burst, now),
            pace: None,
            waiting: BTreeSet::new(),
            leaving: BTreeSet::new(),
            open: true,
        };
        line.enforce(Some(admission), now);
        line
    }

    pub(super) fn enforce(&mut self, admission: Option<config::Admission>, now: Instant) {
        let handshakes = admission.map_or(HandshakeRate::Off, |admission| admission.handshakes);
        let rate = match handshakes {
            HandshakeRate::Off => None,
            HandshakeRate::PerSecond(rate) => Some(rate),
            HandshakeRate::Auto => Some(self.pace.get_or_insert_with(|| BackendPace::new(now)).rate()),
        };
        if handshakes != HandshakeRate::Auto {
            self.pace = None;
        }
        self.bucket.change(rate, admission.unwrap_or_default().burst, now);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    /// Tunnels of the backend, and handshakes that were admitted. Clients that are about to join the line are among
    /// them.
    pub(super) fn held(&self) -> usize {
        self.backend.upgrade().map_or(0, |backend| backend.claims().saturating_sub(self.len()))
    }

    pub(super) fn has_room(&self, most: Option<usize>) -> bool {
        most.is_none_or(|most| self.held() < most)
    }

    pub(super) fn is_open(&self, is_listed: bool, is_checked: bool) -> bool {
        is_listed && self.backend.upgrade().is_some_and(|backend| backend.takes_new(is_checked))
    }

    /// Notes whether the backend takes clients. When it stops, the clients in the line are sent away, once. A client
    /// that chooses the same backend again, for want of another one, waits for its turn.
    pub(super) fn look(&mut self, is_listed: bool, is_checked: bool) {
        let open = self.is_open(is_listed, is_checked);
        match (std::mem::replace(&mut self.open, open), open) {
            (true, false) => self.leaving.append(&mut self.waiting),
            (false, true) => self.waiting.append(&mut self.leaving),
            (true, true) | (false, false) => {}
        }
    }
}

fn weak<B: QueuedBackend>(backend: &Arc<B>) -> Weak<dyn QueuedBackend> {
    // A local of this type, because the result is not coerced through `Arc::downgrade`.
    let weak: Weak<B> = Arc::downgrade(backend);
    weak
}
