//! Closes tunnels whose token has expired: by one task for all tunnels of a hook, without a timer for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::debug;
use tokio::sync::Notify;
use tokio::time;

use crate::hook::{Injector, Item, To, TunnelId};

/// The moments at which tunnels are to be closed, and the code that they are closed with.
#[derive(Debug)]
pub(super) struct Expiry {
    code: u16,
    leeway: u64,
    deadlines: Mutex<Deadlines>,
    /// Wakes the task when a deadline was added before all others, or when this was dropped.
    changed: Arc<Notify>,
}

/// Deadlines in seconds since 1970, each with the number of times that its tunnel was told to close. There is one for
/// each open tunnel of the hook, and for a few minutes one for each tunnel that another process has taken over.
#[derive(Debug, Default)]
struct Deadlines(BTreeMap<(u64, TunnelId), u32>);

impl Expiry {
    /// Closes tunnels with this code, `leeway` seconds after their tokens expired.
    pub(super) fn new(code: u16, leeway: u64) -> Self {
        Self { code, leeway, deadlines: Mutex::default(), changed: Arc::default() }
    }

    /// Closes the tunnel when its token is no longer accepted.
    pub(super) fn arm(&self, expires: u64, tunnel: TunnelId) {
        let earliest = self.lock().insert(expires.saturating_add(self.leeway), tunnel, 0);
        if earliest {
            self.changed.notify_one();
        }
    }

    /// Forgets the tunnel, which has ended.
    pub(super) fn disarm(&self, expires: u64, tunnel: TunnelId) {
        self.lock().0.remove(&(expires.saturating_add(self.leeway), tunnel));
    }

    /// Closes tunnels when they are due, until `self` is dropped elsewhere. Must be called on a Tokio runtime.
    pub(super) fn start(self: &Arc<Self>, injector: Injector) {
        let changed = Arc::clone(&self.changed);
        tokio::spawn(run(Arc::downgrade(self), changed, injector));
    }

    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        // Nothing in here can panic halfway through a change.
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl Deadlines {
    /// Returns true for a deadline before all others.
    fn insert(&mut self, due: u64, tunnel: TunnelId, told: u32) -> bool {
        let earliest = self.0.keys().next().is_none_or(|(first, _)| due < *first);
        self.0.insert((due, tunnel), told);
        earliest
    }

    /// Removes and returns the deadlines that are due at `now`, the time since 1970.
    fn due(&mut self, now: Duration) -> Vec<(TunnelId, u32)> {
        let mut due = Vec::new();
        while let Some(first) = self.0.first_entry().filter(|first| Duration::from_secs(first.key().0) <= now) {
            let ((_, tunnel), told) = first.remove_entry();
            due.push((tunnel, told));
        }
        due
    }

    /// Time until the next deadline. It has an upper bound, because the clock may be set meanwhile.
    fn pause(&self, now: Duration) -> Option<Duration> {
        let (first, _) = self.0.keys().next()?;
        Some(Duration::from_secs(*first).saturating_sub(now).min(LONGEST_PAUSE))
    }
}

async fn run(expiry: Weak<Expiry>, changed: Arc<Notify>, injector: Injector) {
    loop {
        let Some(this) = expiry.upgrade() else { return };
        let (due, code) = (this.lock().due(since_1970()), this.code);
        drop(this);
        for (tunnel, told) in due {
            close(&expiry, &injector, tunnel, code, told).await;
        }
        let Some(this) = expiry.upgrade() else { return };
        let pause = this.lock().pause(since_1970());
        drop(this);
        match pause {
            Some(pause) => drop(time::timeout(pause, changed.notified()).await),
            None => changed.notified().await,
        }
    }
}

/// Closes a tunnel. Where no worker has the tunnel, another try follows later: the tunnel may be on its way to another
/// process, and may come back.
async fn close(expiry: &Weak<Expiry>, injector: &Injector, tunnel: TunnelId, code: u16, told: u32) {
    let item = Item::Close { code, reason: REASON.to_owned() };
    if injector.send(To::Tunnel(tunnel), item).await > 0 {
        return;
    }
    if told == MOST_TRIES {
        debug!("tunnel {tunnel}, whose token has expired, is not here any more");
    } else if let Some(expiry) = expiry.upgrade() {
        let later = since_1970().as_secs() + (1 << told);
        expiry.lock().insert(later, tunnel, told + 1);
    }
}

fn since_1970() -> Duration {
    // A clock before 1970 has no token expire.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Reason text of the Close frame.
const REASON: &str = "token expired";

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Most tries to close a tunnel. The pauses between them double from a second; together they are about four minutes,
/// longer than a handover takes.
const MOST_TRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_once_and_the_earliest_sets_the_pause() {
        let (first, second) = (TunnelId::random(), TunnelId::random());
        let mut deadlines = Deadlines::default();
        assert!(deadlines.insert(20, second, 0));
        assert!(deadlines.insert(10, first, 0));
        assert!(!deadlines.insert(30, TunnelId::random(), 0));
        assert_eq!(deadlines.pause(Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert!(deadlines.due(Duration::from_millis(9_999)).is_empty());
        assert_eq!(deadlines.due(Duration::from_secs(20)), [(first, 0), (second, 0)]);
        assert!(deadlines.due(Duration::from_secs(20)).is_empty());
    }

    #[test]
    fn the_clock_is_looked_at_once_a_minute() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.pause(Duration::ZERO), None);
        deadlines.insert(u64::MAX, TunnelId::random(), 0);
        assert_eq!(deadlines.pause(Duration::ZERO), Some(LONGEST_PAUSE));
    }
}
