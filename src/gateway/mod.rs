//! The gateway: requests by Pingora's `ProxyHttp`, and WebSocket handshakes by an engine of its own.

mod admission;
mod arrival;
mod as_written;
mod cause;
mod connector;
mod handshake;
mod head_reader;
mod held;
mod hold;
mod lent;
mod pace;
mod refusal;
mod request;
pub(crate) mod requests;
mod rewind;
mod runtimes;
mod span;
mod waits;

use std::sync::Arc;

use log::warn;

use crate::dial::{Dialer, TryError};
use crate::snapshot::{Destination, Running};
use crate::socket::descriptors::Descriptors;
use crate::upstream::{Blame, FailedStep, FailedTry};
pub use handshake::{HandshakeHost, offer};
pub use request::Ctx;
pub use runtimes::Runtimes;

/// Serves every request.
#[derive(Clone)]
pub struct Gateway {
    /// The running gateway: snapshot, tunnels, metrics, access log.
    pub running: Arc<Running>,
    /// Begins connections to backends, for handshakes.
    pub dialer: Arc<Dialer>,
}

impl Gateway {
    /// A gateway over what runs.
    pub fn new(running: Arc<Running>) -> Self {
        let dialer = Arc::new(running.snapshot().dialer().within(Descriptors::of_process()));
        Self { running, dialer }
    }

    /// Charges a failed try to the party it is blamed on, and gives up the backend at work. `step` is the one that
    /// follows the connect.
    fn try_failed(&self, ctx: &mut Ctx, to: &Destination, step: FailedStep, error: &TryError) {
        ctx.timed_out = error.is_timeout();
        let (reason, connect) = (error.to_string(), FailedStep::Connect);
        if let Some(failure) = error.tls() {
            to.metrics.tls_failure(failure);
        }
        match error {
            TryError::Local(shortage, _) => self.backend_failed(ctx, to, connect, Blame::Gateway(*shortage), &reason),
            TryError::Connect(_) => {
                self.backend_failed(ctx, to, connect, Blame::Backend(connect), &reason);
                ctx.wait_for_the_last_tried(to);
            }
            TryError::Exchange(_) => self.doubt(ctx, to, step, &reason),
        }
    }

    /// Notes that the backend at work failed after a request was sent, and gives it up. A request charges one backend
    /// at most: where several fail over it, the request may be the reason.
    fn doubt(&self, ctx: &mut Ctx, to: &Destination, step: FailedStep, reason: &str) {
        ctx.sent += 1;
        let blame = if ctx.sent > 1 { Blame::Client } else { Blame::Backend(step) };
        self.backend_failed(ctx, to, step, blame, reason);
    }

    /// Charges a failure at `step` to the party it is blamed on, and gives up the backend at work.
    fn backend_failed(&self, ctx: &mut Ctx, to: &Destination, step: FailedStep, blame: Blame, reason: &str) {
        let on_trial = ctx.pick.as_ref().is_some_and(|pick| pick.guard.is_on_trial());
        let Some(index) = ctx.give_up_on_pick() else { return };
        let (step, backend) = (step.as_str(), &to.upstream.states()[index]);
        warn!("{step} to backend {backend} failed: {reason} (request {})", ctx.id());
        ctx.short = matches!(blame, Blame::Gateway(_));
        ctx.failure = Some(reason.to_owned());
        to.try_failed(index, &FailedTry { blame, client: ctx.client_address(), on_trial, reason });
    }

    /// Notes that the backend at work answered.
    fn backend_succeeded(&self, ctx: &Ctx, to: &Destination) {
        if let Some(pick) = &ctx.pick {
            to.try_succeeded(pick.index, ctx.client_address());
        }
    }
}
