//! Reports the drain of a backend to the client that asked for it, also across a handover.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::control::{CommandFailure, HandedOver, Reply, Responder};
use crate::counted::counted;
use crate::drain::BackendDrain;

/// The process that has the gateway's tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// This process.
    #[default]
    Here,
    /// Both processes: tunnels are moving to a successor.
    Moving,
    /// Both processes, because a handover stopped halfway: a successor that was told to end may still have tunnels.
    Split,
    /// A successor with this process id; a few may have stayed here.
    There(u32),
}

/// Reports the progress of a backend's drain until nothing is left there, in this process. Sends the client on to the
/// successor once that has the tunnels.
pub(super) async fn follow(drain: BackendDrain, whereabouts: watch::Receiver<Whereabouts>, responder: Responder) {
    let mut looks = tokio::time::interval(REPORT);
    let reply = loop {
        looks.tick().await;
        let now = Instant::now();
        let progress = drain.progress(now);
        // Read after the count: tunnels that have moved since are still in it.
        let tunnels_are = *whereabouts.borrow();
        if responder.is_gone() {
            return;
        } else if drain.is_undone() {
            break Reply::failed(CommandFailure::Refused, format!("the drain of {} was called off", drain.name()));
        } else if (progress.tunnels, progress.requests) == (0, 0) {
            match tunnels_are {
                Whereabouts::Here => break Reply::done(format!("{} has nothing left", drain.name())),
                Whereabouts::Moving => {}
                Whereabouts::Split => break split(&drain),
                Whereabouts::There(pid) => break ask_there(&drain, pid, now),
            }
        } else if drain.is_due(now) {
            let left = format!("{} and {}", counted(progress.tunnels, "tunnel"), counted(progress.requests, "request"));
            break Reply::failed(
                CommandFailure::Failed,
                format!("{} still has {left}, and gets nothing new", drain.name()),
            );
        }
        responder.progress(progress);
    };
    responder.finish(reply);
}

fn split(drain: &BackendDrain) -> Reply {
    let message = format!(
        "{} has nothing left here; the new process of an upgrade that stopped halfway may still have tunnels to it, \
         until it has drained",
        drain.name()
    );
    Reply::done(message)
}

/// The reply to a client that has to ask the successor. Its details say so to the client of this release.
fn ask_there(drain: &BackendDrain, pid: u32, now: Instant) -> Reply {
    let message = format!("process {pid} has taken over, with the tunnels to {}; ask it", drain.name());
    let remaining_ms = u64::try_from(drain.remaining(now).as_millis()).unwrap_or(u64::MAX);
    HandedOver { pid, remaining_ms }.reply(message)
}

/// Interval of progress reports to clients that follow a drain.
pub(super) const REPORT: Duration = Duration::from_millis(200);
