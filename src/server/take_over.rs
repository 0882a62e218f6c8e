//! The successor's side of a handover: takes tunnels over, batch by batch, while this process already serves.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};
use tokio::sync::mpsc::UnboundedSender;

use super::speak_tls::SpeakTls;
use crate::counted::counted;
use crate::handover::{HandoverError, Offered, PeerProcess, Received, RefusedTunnel, ToPredecessor};
use crate::snapshot::{Running, SavedHooks};
use crate::tunnel::Frozen;

/// End of a handover, as the successor sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandoverEnd {
    /// This process is the gateway from now on. The text says from which process, for people.
    Done(String),
    /// The predecessor remains the gateway, for this reason.
    Aborted(String),
}

/// Starts a thread that takes tunnels over until the predecessor is gone. Must be called on the Tokio runtime that
/// hooks run on.
pub(super) fn begin(
    predecessor: ToPredecessor,
    process: PeerProcess,
    running: Arc<Running>,
    ended: UnboundedSender<HandoverEnd>,
) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("take-over".into());
    let runtime = tokio::runtime::Handle::current();
    let successor = Successor {
        predecessor,
        process,
        running,
        routes: HashMap::new(),
        pending: Vec::new(),
        saved: Vec::new(),
        taken: 0,
        tls: SpeakTls::default(),
    };
    let body = move || {
        // Hooks may spawn wherever they are called.
        let _entered = runtime.enter();
        successor.run(&ended);
    };
    thread.spawn(body).map(drop)
}

struct Successor {
    predecessor: ToPredecessor,
    /// The predecessor's process.
    process: PeerProcess,
    running: Arc<Running>,
    routes: HashMap<Box<str>, Arc<str>>,
    /// The batch that this process is ready for and does not own yet.
    pending: Vec<Frozen>,
    /// States of hooks that came with the batch.
    saved: Vec<SavedHooks>,
    taken: usize,
    /// Number of them that speak TLS.
    tls: SpeakTls,
}

impl Successor {
    fn run(mut self, ended: &UnboundedSender<HandoverEnd>) {
        let mut done = false;
        loop {
            let end = match self.predecessor.receive() {
                Ok(Received::Tunnels(batch, hooks)) => {
                    self.saved = hooks;
                    let refused = self.prepare(batch);
                    match self.predecessor.ready(refused) {
                        // A predecessor that is gone is noticed when the next message is read.
                        Ok(()) | Err(HandoverError::Gone(_)) => continue,
                        Err(failure) => HandoverEnd::Aborted(failure.to_string()),
                    }
                }
                Ok(Received::Commit) => {
                    self.take_pending();
                    continue;
                }
                Ok(Received::Done) => {
                    let summary = self.summary();
                    info!("{summary}");
                    HandoverEnd::Done(summary)
                }
                Ok(Received::Gone) if done => {
                    return info!("the predecessor has ended; {} came over", counted(self.taken, "tunnel"));
                }
                Ok(Received::Gone) => {
                    warn!("the predecessor is gone in the middle of the handover; this process goes on");
                    self.take_pending();
                    HandoverEnd::Done(format!("{}, which ended in the middle of it", self.summary()))
                }
                Ok(Received::Abort(reason)) => HandoverEnd::Aborted(reason),
                Err(failure) => HandoverEnd::Aborted(failure.to_string()),
            };
            let last = done || matches!(end, HandoverEnd::Aborted(_));
            done = true;
            // An operator that is gone ends the process anyway.
            if ended.send(end).is_err() || last {
                return;
            }
        }
    }

    fn summary(&self) -> String {
        let PeerProcess { pid, version } = &self.process;
        format!("took over {} from process {pid} (longhaul {version}){}", counted(self.taken, "tunnel"), self.tls)
    }

    /// Makes tunnels of a batch, which nobody drives yet; the ones it cannot make are refused.
    fn prepare(&mut self, batch: Vec<Offered>) -> Vec<RefusedTunnel> {
        let now = Instant::now();
        let mut refused = Vec::new();
        // A batch that was withdrawn may still be there: the predecessor goes on with it.
        self.pending.clear();
        for (index, Offered { passport, sockets }) in batch.into_iter().enumerate() {
            match passport {
                Ok(passport) => self.pending.push(self.running.adopt(passport, sockets, &mut self.routes, now)),
                Err(reason) => refused.push(RefusedTunnel { index, reason }),
            }
        }
        refused
    }

    /// Takes the pending batch, unless the predecessor has withdrawn it: restores the states of hooks, and lets the
    /// tunnels run.
    fn take_pending(&mut self) {
        if !self.predecessor.take() {
            self.pending.clear();
            self.saved.clear();
            return;
        }
        self.running.snapshot().restore_hooks(&std::mem::take(&mut self.saved));
        self.taken += self.pending.len();
        for frozen in self.pending.drain(..) {
            frozen.count_as_adopted();
            self.tls.count(frozen.tls());
            self.running.tunnels.thaw(frozen);
        }
    }
}
