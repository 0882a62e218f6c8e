//! Messages from outside: pushed into open tunnels by a hook's task, or by a program around the gateway.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Direction;
use super::message::Message;
use super::tunnel::{KeyTag, TunnelId};

/// Sends messages into open tunnels of this process, and ends them. Cheap to clone.
///
/// It reaches tunnels on routes with at least one hook: others keep nothing to be found by.
#[derive(Clone)]
pub struct Injector {
    outlet: Arc<dyn Outlet>,
}

/// Which tunnels are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum To {
    /// This one.
    Tunnel(TunnelId),
    /// Those whose requests had this affinity key.
    Key(KeyTag),
    /// Those of this route, named `host path`.
    Route(Arc<str>),
    /// All.
    All,
}

/// What is done to each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// This message is put in, behind what has passed in that direction. No hook sees it.
    Message(Direction, Message),
    /// The tunnel is ended with a Close frame to both sides.
    Close {
        /// As in [`Verdict::Close`](super::Verdict::Close).
        code: u16,
        /// As in [`Verdict::Close`](super::Verdict::Close).
        reason: String,
    },
}

/// What carries items to the tunnels.
pub trait Outlet: Send + Sync {
    /// Has `item` done to the tunnels meant; each part of the gateway that holds tunnels tells `done` for how many it was done,
    /// and drops it.
    fn deliver(&self, to: To, item: Item, done: mpsc::UnboundedSender<usize>);
}

impl Injector {
    /// An injector over what carries items to the tunnels.
    #[doc(hidden)]
    pub fn new(outlet: Arc<dyn Outlet>) -> Self {
        Self { outlet }
    }

    /// Does `item` to the tunnels meant, and returns for how many it was done. A tunnel that is ending takes nothing more, and
    /// neither does one whose receiver has left 64 KiB unread.
    pub async fn send(&self, to: To, item: Item) -> usize {
        let (done, mut counts) = mpsc::unbounded_channel();
        self.outlet.deliver(to, item, done);
        let mut sum = 0;
        while let Some(count) = counts.recv().await {
            sum += count;
        }
        sum
    }

    /// As [`send`](Self::send), without waiting for the count.
    pub fn post(&self, to: To, item: Item) {
        let (done, _) = mpsc::unbounded_channel();
        self.outlet.deliver(to, item, done);
    }
}

impl fmt::Debug for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Injector")
    }
}

impl From<TunnelId> for To {
    fn from(id: TunnelId) -> Self {
        Self::Tunnel(id)
    }
}
