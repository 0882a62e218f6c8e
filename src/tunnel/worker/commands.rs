//! Commands to a worker.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::frozen::{Batch, Frozen};
use super::rule::{Judged, TunnelRule};
use super::seen::{Look, Spot};
use super::tunnel::Scope;
use crate::hook::{Item, To, TunnelId};
use crate::tunnel::accept::{Accepted, Host, ListeningSocket};
use crate::tunnel::inspect::CallOutcome;
use crate::tunnel::new_tunnel::NewTunnel;
use crate::tunnel::rates::RateTable;
use crate::tunnel::reason::Reason;
use crate::tunnel::reattach::Asker;

/// A command to a worker.
pub(in crate::tunnel) enum WorkerCommand {
    /// Opens a tunnel, which the sender has counted.
    Open(Box<NewTunnel>),
    /// Ends the tunnels in a scope, evenly spread over a time.
    End { scope: Scope, reason: Reason, over: Duration },
    /// Takes tunnels off, as they stand, this many at the most, those with TLS among them or not.
    Freeze { most: usize, with_tls: bool, reply: Sender<Batch> },
    /// Takes a frozen tunnel on, which the sender has counted.
    Thaw(Frozen),
    /// Calls off ends in a scope that were announced for a reason.
    Spare { scope: Scope, reason: Reason },
    /// Shows tunnels from a slot on, for a fraction of a millisecond; replies with the slot to go on from, or `None`
    /// where none is left.
    Visit { look: Arc<Look>, from: usize, done: oneshot::Sender<Option<usize>> },
    /// Ends the tunnels that are still in their places at these moments, for an operator; replies how many.
    Close { ends: Arc<[(Spot, Instant)]>, code: u16, words: Option<Arc<str>>, done: oneshot::Sender<usize> },
    /// Lets a rule decide over every tunnel, and over tunnels that open later.
    Judge { rule: Arc<TunnelRule>, done: oneshot::Sender<Judged> },
    /// Holds clients to these rates, those of tunnels that open later too.
    LimitRates(Arc<RateTable>),
    /// Carries an item of a hook to the tunnels meant.
    Deliver { to: To, item: Item, done: UnboundedSender<usize> },
    /// Reports the outcome of a hook's call that waited.
    Hear { tunnel: TunnelId, outcome: CallOutcome },
    /// Lets this asker find the next backends of tunnels.
    ReattachBy(Arc<dyn Asker>),
    /// Accepts clients for a host.
    Accept { sockets: Arc<[ListeningSocket]>, host: Arc<dyn Host> },
    /// Begins the handshake of a client that another worker accepted, and the sender has counted.
    Receive(Accepted),
    /// Polls the handshake in a slot.
    Poll(usize),
    /// Accepts no more clients.
    AcceptNoMore,
    /// Ends the thread, and with it every tunnel left.
    Stop,
    /// Panics, as a fault of the worker itself would.
    #[cfg(test)]
    Panic,
}
