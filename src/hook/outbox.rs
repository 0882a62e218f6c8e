//! Items that a hook does to its own tunnel during a call, kept in order until the call returns.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;

use super::injector::Item;

/// Collects the items of calls that a worker makes itself. Clones are the same outbox.
#[derive(Clone, Default)]
pub struct Outbox {
    /// `Some` while the worker is in a call.
    items: Arc<Mutex<Option<Vec<Item>>>>,
}

impl Outbox {
    /// Makes a call, and returns the items that were put in meanwhile.
    pub fn collect<T>(&self, call: impl FnOnce() -> T) -> (T, Vec<Item>) {
        *self.lock() = Some(Vec::new());
        let done = call();
        let items = self.lock().take().unwrap_or_default();
        (done, items)
    }

    /// Puts an item in; gives it back where no call is being made.
    pub(super) fn put(&self, item: Item) -> Option<Item> {
        match &mut *self.lock() {
            Some(items) if items.len() < MOST_ITEMS => items.push(item),
            Some(_) => warn!("a hook sends more than {MOST_ITEMS} messages in one call: one is dropped"),
            None => return Some(item),
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Item>>> {
        // Nothing panics between two consistent states.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

/// Items kept of one call. A receiver that has left 64 KiB unread takes no more of them anyway.
const MOST_ITEMS: usize = 4_096;
