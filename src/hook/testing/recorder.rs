//! Items that hooks send through the injector, kept for the test.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::hook::{Item, KeyTag, Outlet, To, Tunnel, TunnelId};

/// Something that was sent through the injector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Whom it was sent to.
    pub to: To,
    /// The item.
    pub item: Item,
    /// Number of open tunnels that were addressed.
    pub tunnels: usize,
}

/// Stands in for the workers of a gateway.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Record>);

/// As long as the test makes it that reads it.
#[derive(Default)]
struct Record {
    sent: Vec<Sent>,
    open: Vec<OpenTunnel>,
}

/// Properties by which an open tunnel is addressed.
struct OpenTunnel {
    id: TunnelId,
    key: Option<KeyTag>,
    route: std::sync::Arc<str>,
}

impl Recorder {
    pub(super) fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.record().sent)
    }

    pub(super) fn opened(&self, tunnel: &Tunnel) {
        let opened = OpenTunnel { id: tunnel.id, key: tunnel.key, route: tunnel.route.clone() };
        self.record().open.push(opened);
    }

    pub(super) fn ended(&self, id: TunnelId) {
        self.record().open.retain(|place| place.id != id);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Recorder {
    fn deliver(&self, to: To, item: Item, done: mpsc::UnboundedSender<usize>) {
        let mut record = self.record();
        let meant = |place: &&OpenTunnel| match &to {
            To::Tunnel(id) => place.id == *id,
            To::Key(key) => place.key == Some(*key),
            To::Route(route) => place.route == *route,
            To::All => true,
        };
        let tunnels = record.open.iter().filter(meant).count();
        record.sent.push(Sent { to, item, tunnels });
        // Nobody may be waiting for the count.
        let _ = done.send(tunnels);
    }
}
