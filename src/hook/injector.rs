//! Messages from outside: a hook's task, or the program around the gateway, pushes them into open tunnels.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Direction;
use super::message::Message;
use super::tunnel::{KeyTag, TunnelId};

/// Sends messages into open tunnels of this process, and ends them. Cheap to clone.
///
/// Reaches tunnels on routes with at least one hook. Other tunnels are not indexed.
#[derive(Clone)]
pub struct Injector {
    outlet: Arc<dyn Outlet>,
}

/// Addressee of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum To {
    /// The tunnel with this id.
    Tunnel(TunnelId),
    /// Tunnels whose requests had this affinity key.
    Key(KeyTag),
    /// Tunnels of this route, named `host path`.
    Route(Arc<str>),
    /// Every tunnel.
    All,
}

/// Action on each tunnel that is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Puts this message in, behind what has passed in that direction. No hook sees it.
    Message(Direction, Message),
    /// Ends the tunnel with a Close frame to both sides.
    Close {
        /// As in [`Verdict::Close`](super::Verdict::Close).
        code: u16,
        /// As in [`Verdict::Close`](super::Verdict::Close).
        reason: String,
    },
    /// Lets a client go on that a hook [holds](super::Reattach::hold_client), behind these messages for its backend.
    GoOn(Vec<Message>),
}

/// Carries items to the tunnels.
pub trait Outlet: Send + Sync {
    /// Delivers `item` to the tunnels that `to` addresses. Each worker sends the number of its tunnels that took it by
    /// `done`, and then drops its sender.
    fn deliver(&self, to: To, item: Item, done: mpsc::UnboundedSender<usize>);
}

impl Injector {
    /// An injector that delivers by `outlet`.
    #[doc(hidden)]
    pub fn new(outlet: Arc<dyn Outlet>) -> Self {
        Self { outlet }
    }

    /// Delivers `item` to the tunnels that `to` addresses, and returns how many took it. A tunnel that is ending takes
    /// nothing more, and neither does one whose receiver has left 64 KiB unread.
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

#[cfg(test)]
mod to_nobody {
    use std::sync::LazyLock;

    use super::*;

    struct Nobody;

    impl Outlet for Nobody {
        fn deliver(&self, _: To, _: Item, _: mpsc::UnboundedSender<usize>) {}
    }

    static INJECTOR: LazyLock<Injector> = LazyLock::new(|| Injector::new(Arc::new(Nobody)));

    impl Injector {
        /// An injector of a gateway without tunnels, for tests.
        pub(crate) fn to_nobody() -> &'static Self {
            &INJECTOR
        }
    }
}
