//! Activities that can be counted, and waited for until none is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// Tells waiting tasks that a count changed in a way that may matter to them; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ChangeSignal {
    notify: Arc<Notify>,
}

impl ChangeSignal {
    /// Wakes every task that waits.
    pub(super) fn tell(&self) {
        self.notify.notify_waiters();
    }

    /// Waits until `done` holds. It is asked now, and at every change.
    pub async fn wait_until(&self, done: impl Fn() -> bool) {
        loop {
            let changed = self.next();
            tokio::pin!(changed);
            // Before the question, so that no change between the two is missed.
            changed.as_mut().enable();
            if done() {
                return;
            }
            changed.await;
        }
    }

    /// Waits for the next change.
    pub fn next(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

/// Number of activities of one kind that are under way.
#[derive(Debug)]
pub struct Activity {
    count: AtomicUsize,
    changes: ChangeSignal,
}

impl Activity {
    /// None yet. The end of the last one is told to `changes`.
    pub fn new(changes: ChangeSignal) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), changes })
    }

    /// Counts one as under way for as long as the guard lives.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.count.fetch_add(1, SeqCst);
        UnderWay { activity: Arc::clone(self) }
    }

    /// Number of those under way.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Waits until none is under way.
    pub async fn idle(&self) {
        self.changes.wait_until(|| self.count() == 0).await;
    }
}

/// One activity under way, counted while it lives.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct UnderWay {
    activity: Arc<Activity>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.activity.count.fetch_sub(1, SeqCst) == 1 {
            self.activity.changes.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_last_one_wakes_whoever_waits() {
        let activity = Activity::new(ChangeSignal::default());
        let (first, second) = (activity.begin(), activity.begin());
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.idle().await }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        assert_eq!(activity.count(), 0);
    }
}
