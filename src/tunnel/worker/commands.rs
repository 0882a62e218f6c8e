//! What a worker is asked to do, and does between two turns.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::{Tunnel, Worker};
use crate::hook::{Item, To, TunnelId};
use crate::tunnel::arrival::Host;
use crate::tunnel::doors::{Doors, Guest, Peer};
use crate::tunnel::frozen::{self, Batch, Frozen};
use crate::tunnel::inspect::Outcome;
use crate::tunnel::reason::Reason;
use crate::tunnel::record::Record;
use crate::tunnel::rule::{self, Judged, Rule};
use crate::tunnel::{Look, NewTunnel, Scope};
use crate::ws::{Side, Sides};

/// What a worker is asked to do.
pub(in crate::tunnel) enum Command {
    /// Takes a tunnel on.
    Open(Box<NewTunnel>),
    /// Ends the tunnels in a scope, evenly spread over a time.
    End { scope: Scope, reason: Reason, over: Duration },
    /// Takes tunnels off, as they stand, this many at the most.
    Freeze { most: usize, reply: Sender<Batch> },
    /// Takes a frozen tunnel on; as with `Open`, whoever sends it has counted it.
    Thaw(Frozen),
    /// Calls off ends in a scope that were announced for a reason.
    Spare { scope: Scope, reason: Reason },
    /// Shows every tunnel.
    Visit { look: Arc<Look>, done: oneshot::Sender<()> },
    /// Has a rule decide over every tunnel, and over those to come.
    Judge { rule: Arc<Rule>, done: oneshot::Sender<Judged> },
    /// Does what comes from outside to the tunnels meant.
    Deliver { to: To, item: Item, done: UnboundedSender<usize> },
    /// Acts on what came of a hook's call that waited.
    Hear { tunnel: TunnelId, outcome: Outcome },
    /// Accepts clients for a host; `peers` are all workers that do.
    Accept { sockets: Vec<Arc<TcpListener>>, host: Arc<dyn Host>, peers: Arc<[Peer]> },
    /// Receives a client that another worker accepted.
    Receive { guest: Guest, host: Arc<dyn Host> },
    /// Accepts no more clients.
    AcceptNoMore,
    /// Ends the thread, and with it every tunnel left.
    Stop,
}

impl Worker {
    /// Does what was asked; says whether the worker is to go on.
    pub(super) fn obey(&mut self, now: Instant) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(tunnel)) => self.open(*tunnel, now),
                Ok(Command::End { scope, reason, over }) => self.end(&scope, reason, over, now),
                Ok(Command::Freeze { most, reply }) => {
                    let batch = self.freeze(most);
                    // Whoever asked and went away has its tunnels put back.
                    if let Err(returned) = reply.send(batch) {
                        for frozen in returned.0.frozen {
                            self.count.fetch_add(1, Ordering::Relaxed);
                            self.thaw(frozen);
                        }
                    }
                }
                Ok(Command::Thaw(frozen)) => self.thaw(frozen),
                Ok(Command::Spare { scope, reason }) => self.spare(&scope, reason),
                Ok(Command::Visit { look, done }) => {
                    self.tunnels.iter().for_each(|(_, tunnel)| look(&tunnel.record, now.duration_since(tunnel.since)));
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Ok(Command::Judge { rule, done }) => {
                    let judged = self.judge(rule, now);
                    // Whoever asked may have gone.
                    let _ = done.send(judged);
                }
                Ok(Command::Deliver { to, item, done }) => {
                    self.mailbox.delivered();
                    let count = self.deliver(&to, &item, now);
                    // Whoever sent it may not want to know.
                    let _ = done.send(count);
                }
                Ok(Command::Hear { tunnel, outcome }) => self.hear(tunnel, outcome, now),
                Ok(Command::Accept { sockets, host, peers }) => self.accept(Doors::new(sockets, host, peers)),
                Ok(Command::Receive { guest, host }) => self.receive(guest, &host, now),
                Ok(Command::AcceptNoMore) => self.accept_no_more(now),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Accounts for the tunnels that are cut off when the worker stops.
    pub(super) fn stop(&mut self, now: Instant) {
        let slots: Vec<usize> = self.tunnels.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.tunnels[slot].pair.stop();
            self.remove(slot, now);
        }
    }

    /// Takes tunnels off between two turns, when each is consistent: what was read is written or kept.
    fn freeze(&mut self, most: usize) -> Batch {
        let (slots, busy, staying) = frozen::choose(&mut self.tunnels, most);
        let frozen = slots.into_iter().map(|slot| {
            let mut tunnel = self.tunnels.remove(slot);
            self.leave(&tunnel, slot);
            if std::mem::take(&mut tunnel.queued) {
                self.ready.retain(|other| *other != slot);
            }
            for side in Side::ALL {
                // A socket that cannot be taken off the poller's list leaves it when its last copy is closed.
                let _ = self.poll.registry().deregister(tunnel.pair.stream_mut(side));
            }
            self.count.fetch_sub(1, Ordering::Relaxed);
            Frozen(tunnel)
        });
        Batch { frozen: frozen.collect(), busy, staying }
    }

    /// Takes on a frozen tunnel that is counted already.
    fn thaw(&mut self, Frozen(mut tunnel): Frozen) {
        tunnel.pair.forget_readiness();
        // A rule may have come while it was off; what an earlier one announced stays.
        if tunnel.pair.changing().is_none() {
            rule::judge_opening(self.rule.as_deref(), &mut tunnel, Instant::now());
        }
        let slot = self.take_on(tunnel, Sides::default());
        self.open_hooks(slot, Instant::now());
    }

    /// When a tunnel that opens now is to end again, because its handshake was under way when ends were announced.
    pub(super) fn late_end(&self, record: &Record, now: Instant) -> Option<(Instant, Reason)> {
        match self.ending {
            Some((by, reason)) => Some((now + by.saturating_duration_since(now).mul_f64(rand::random()), reason)),
            None => record.backend().is_draining().then_some((now, Reason::BackendDrained)),
        }
    }

    fn spare(&mut self, scope: &Scope, reason: Reason) {
        let tunnels = self.tunnels.iter_mut().map(|(_, tunnel)| tunnel);
        tunnels.filter(|tunnel| scope.holds(tunnel)).for_each(|tunnel| tunnel.pair.spare(reason));
    }

    fn end(&mut self, scope: &Scope, reason: Reason, over: Duration, now: Instant) {
        if matches!(scope, Scope::All) {
            self.ending = Some((now + over, reason));
        }
        let mut chosen: Vec<&mut Box<Tunnel>> =
            self.tunnels.iter_mut().map(|(_, tunnel)| tunnel).filter(|tunnel| scope.holds(tunnel)).collect();
        for (share, tunnel) in rule::spread(chosen.len()).zip(&mut chosen) {
            tunnel.pair.plan_end(now + over.mul_f64(share), reason);
        }
        if !chosen.is_empty() {
            self.check_by(Some(now));
        }
    }
}
