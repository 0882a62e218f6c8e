//! Waiting for something to happen at the sockets of a worker.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventFlags};

use crate::tunnel::pair::Readiness;

/// Events of the last wait, at sockets that are registered with mio.
///
/// The wait is a system call of its own instead of mio's. That one goes through glibc, where `epoll_wait` is a point at
/// which a thread can be cancelled: at every message the preparations for that took more instructions than looking at
/// what was reported (`benches/counts.rs`).
pub(super) struct Events(Vec<Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(MOST))
    }

    /// Waits until something happens, for `timeout` at the most, in whole milliseconds, rounded up. A signal ends the
    /// wait, too.
    pub(super) fn wait(&mut self, poller: &Registry, timeout: Option<Duration>) -> io::Result<()> {
        self.0.clear();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(LONGEST)).ok());
        match epoll::wait(poller, spare_capacity(&mut self.0), timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(()),
            waited => Ok(waited.map(drop)?),
        }
    }

    /// The tokens of the sockets, and how each is ready.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> {
        self.0.iter().map(|event| (Token(event.data.u64() as usize), readiness_of(event.flags)))
    }
}

#[inline]
fn readiness_of(flags: EventFlags) -> Readiness {
    let hung_up = flags.intersects(HUNG_UP);
    // Whatever closes the way out is seen on the way in, too. Who only sends no more still receives.
    Readiness { readable: hung_up || flags.intersects(READABLE), writable: flags.intersects(WRITABLE), hung_up }
}

const READABLE: EventFlags = EventFlags::IN.union(EventFlags::PRI);
const BROKEN: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
const HUNG_UP: EventFlags = EventFlags::RDHUP.union(BROKEN);
const WRITABLE: EventFlags = EventFlags::OUT.union(BROKEN);
/// Longest wait. A longer one would take a system call that Linux has since 5.11.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Most events of one wait; the next one reports the others.
const MOST: usize = 1024;
