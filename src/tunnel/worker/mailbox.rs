//! Mailbox of a worker: commands from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use log::{error, warn};
use mio::Waker;

use super::commands::WorkerCommand;
use crate::tunnel::activity::ChangeSignal;

/// The end of a worker's mailbox that others put commands in.
///
/// Bounds: items of hooks are limited by [`MOST_UNDELIVERED`]; other commands are as many as there are handshakes,
/// reloads and calls of hooks under way, each of which has a bound of its own.
pub(super) struct Mailbox {
    commands: Sender<WorkerCommand>,
    waker: Waker,
    /// Items of hooks that the worker has not come to.
    undelivered: AtomicUsize,
    /// The worker's tunnels.
    tunnels: Arc<AtomicUsize>,
    /// The worker's handshakes, and clients on their way there.
    handshakes: Arc<AtomicUsize>,
    /// The worker takes no more commands.
    closed: AtomicBool,
    /// Told when the number of tunnels changes.
    changes: ChangeSignal,
}

/// The worker's end of its mailbox.
pub(super) struct Inbox {
    received: Receiver<WorkerCommand>,
    mailbox: Arc<Mailbox>,
}

impl Mailbox {
    pub(super) fn new(waker: Waker, changes: ChangeSignal) -> (Arc<Self>, Inbox) {
        let (commands, received) = channel();
        let (tunnels, handshakes) = (Arc::default(), Arc::default());
        let (undelivered, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mailbox = Arc::new(Self { commands, waker, undelivered, tunnels, handshakes, closed, changes });
        (Arc::clone(&mailbox), Inbox { received, mailbox })
    }

    /// Puts a command in and wakes the worker. A worker that has ended drops the command.
    pub(super) fn put(&self, command: WorkerCommand) {
        if self.closed.load(Ordering::Acquire) || self.commands.send(command).is_err() {
            return;
        }
        if let Err(error) = self.waker.wake() {
            error!("a tunnel worker cannot be woken: {error}");
        }
    }

    /// Puts an item of a hook in, unless the worker is too far behind.
    pub(super) fn deliver(&self, item: WorkerCommand) {
        if self.undelivered.fetch_add(1, Ordering::Relaxed) >= MOST_UNDELIVERED {
            self.undelivered.fetch_sub(1, Ordering::Relaxed);
            warn!("a tunnel worker is {MOST_UNDELIVERED} messages of hooks behind, one is dropped");
            return;
        }
        self.put(item);
    }

    /// Counter of the worker's tunnels.
    pub(super) fn tunnels(&self) -> &Arc<AtomicUsize> {
        &self.tunnels
    }

    /// Counter of the worker's handshakes, and of clients on their way there.
    pub(super) fn handshakes(&self) -> &Arc<AtomicUsize> {
        &self.handshakes
    }

    /// The worker's tunnels, and the handshakes that may become some.
    pub(super) fn load(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed) + self.handshakes.load(Ordering::Relaxed)
    }

    /// Tells whether the worker takes no more commands.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Inbox {
    /// The next command. Those that were put in when everybody else has gone tell the worker to stop.
    pub(super) fn next(&self) -> Option<WorkerCommand> {
        match self.received.try_recv() {
            Ok(command) => {
                if matches!(command, WorkerCommand::Deliver { .. }) {
                    self.mailbox.undelivered.fetch_sub(1, Ordering::Relaxed);
                }
                Some(command)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(WorkerCommand::Stop),
        }
    }

    /// The worker's mailbox.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Takes no more commands; those that came before can still be taken.
    pub(super) fn close(&self) {
        self.mailbox.closed.store(true, Ordering::Release);
        self.mailbox.changes.tell();
    }
}

/// Items are small or share their payload; a worker that is so far behind will not catch up with whoever sends them.
const MOST_UNDELIVERED: usize = 65_536;
