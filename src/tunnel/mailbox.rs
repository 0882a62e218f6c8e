//! How a worker is told something from outside its thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use mio::Waker;

use super::worker::Command;

/// Where commands for a worker are put.
pub(super) struct Mailbox {
    commands: Sender<Command>,
    waker: Waker,
    /// Items from outside that it has not come to.
    undelivered: AtomicUsize,
    /// Clients on their way to being tunnels there; counted by whoever puts them there.
    pub(super) arriving: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new(commands: Sender<Command>, waker: Waker) -> Self {
        Self { commands, waker, undelivered: AtomicUsize::new(0), arriving: AtomicUsize::new(0) }
    }

    pub(super) fn put(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::error!("a tunnel worker is gone; what it was asked to do is lost");
            return;
        }
        if let Err(error) = self.waker.wake() {
            log::error!("a tunnel worker cannot be woken: {error}");
        }
    }

    /// Puts an item from outside; not where the worker is too far behind.
    pub(super) fn deliver(&self, item: Command) {
        if self.undelivered.fetch_add(1, Ordering::Relaxed) >= MOST_UNDELIVERED {
            self.delivered();
            log::warn!("a tunnel worker is {MOST_UNDELIVERED} messages of hooks behind, one is dropped");
            return;
        }
        self.put(item);
    }

    /// Notes that the worker came to an item.
    pub(super) fn delivered(&self) {
        self.undelivered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Items are small or share their payload; a worker that is so far behind will not catch up with whoever sends them.
const MOST_UNDELIVERED: usize = 65_536;
