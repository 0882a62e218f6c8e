//! The successor's side of a handover: tunnels come in, batch by batch, while this process serves already.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};
use tokio::sync::mpsc::UnboundedSender;

use crate::handover::{Heard, Taker};
use crate::snapshot::{Running, SavedHooks};
use crate::tunnel::Frozen;

/// How the predecessor parted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// This process answers for everything.
    Done,
    /// The predecessor goes on, and this process is not needed.
    Aborted(String),
}

/// Takes tunnels over, on a thread of its own, until the predecessor is gone. To be called on the runtime that hooks are called
/// on.
pub(super) fn begin(taker: Taker, running: Arc<Running>, parted: UnboundedSender<Succession>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("succession".into());
    let runtime = tokio::runtime::Handle::current();
    let heir = Heir { taker, running, routes: HashMap::new(), pending: Vec::new(), saved: Vec::new(), taken: 0 };
    let body = move || {
        // Hooks may spawn wherever they are called.
        let _entered = runtime.enter();
        heir.run(&parted);
    };
    thread.spawn(body).map(drop)
}

struct Heir {
    taker: Taker,
    running: Arc<Running>,
    routes: HashMap<Box<str>, Arc<str>>,
    /// The batch that we are ready for and that is not ours yet.
    pending: Vec<Frozen>,
    /// The states of hooks that came with it.
    saved: Vec<SavedHooks>,
    taken: usize,
}

impl Heir {
    fn run(mut self, parted: &UnboundedSender<Succession>) {
        let mut done = false;
        loop {
            let word = match self.taker.hear() {
                Ok(Heard::Tunnels(batch, hooks)) => {
                    let now = Instant::now();
                    let adopt = |(passport, sockets)| self.running.adopt(passport, sockets, &mut self.routes, now);
                    self.pending = batch.into_iter().map(adopt).collect();
                    self.saved = hooks;
                    // A predecessor that is gone is met again when it is listened to.
                    let _ = self.taker.ready();
                    continue;
                }
                Ok(Heard::Commit) => {
                    let _ = self.taker.taken();
                    self.settle();
                    continue;
                }
                Ok(Heard::Done) => {
                    info!("took over {} tunnels", self.taken);
                    Succession::Done
                }
                Ok(Heard::Gone) if done => return info!("the predecessor has ended; {} tunnels came over", self.taken),
                Ok(Heard::Gone) => {
                    warn!("the predecessor is gone in the middle of the handover; this process goes on");
                    self.settle();
                    Succession::Done
                }
                Ok(Heard::Abort(reason)) => Succession::Aborted(reason),
                Err(failure) => Succession::Aborted(failure.to_string()),
            };
            let last = done || matches!(word, Succession::Aborted(_));
            done = true;
            // An operator that is gone ends the process anyway.
            if parted.send(word).is_err() || last {
                return;
            }
        }
    }

    /// Lets hooks have their states, and the bytes of the pending batch flow.
    fn settle(&mut self) {
        self.running.snapshot().restore_hooks(&std::mem::take(&mut self.saved));
        self.taken += self.pending.len();
        for frozen in self.pending.drain(..) {
            frozen.count_as_adopted();
            self.running.tunnels.thaw(frozen);
        }
    }
}
