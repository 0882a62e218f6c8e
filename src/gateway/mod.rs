//! The gateway: requests by Pingora's `ProxyHttp`, and WebSocket handshakes by an engine of its own.

mod handshake;
mod request;
mod rewind;
mod runtimes;

use std::sync::Arc;

use log::warn;

use crate::dial::{Dialer, TryError};
use crate::snapshot::{Destination, Running};
use crate::upstream::{Blame, FailedTry, FailureKind};
pub use handshake::Handshakes;
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
        let dialer = Arc::new(running.snapshot().dialer());
        Self { running, dialer }
    }

    /// Charges a failed try to the party it is blamed on, and gives up the backend at work.
    fn try_failed(&self, ctx: &mut Ctx, to: &Destination, error: &TryError) {
        ctx.timed_out = error.is_timeout();
        let blame = match error {
            TryError::Local(shortage, _) => Blame::Gateway(*shortage),
            TryError::Connect(_) => Blame::Backend(FailureKind::Connect),
            TryError::Exchange(_) => Blame::Backend(FailureKind::Handshake),
        };
        self.backend_failed(ctx, to, blame, &error.to_string());
    }

    /// Charges a failure to the party it is blamed on, and gives up the backend at work.
    fn backend_failed(&self, ctx: &mut Ctx, to: &Destination, blame: Blame, reason: &str) {
        let Some(index) = ctx.give_up_on_pick() else { return };
        let address = to.upstream.states()[index].address();
        let what = match blame {
            Blame::Backend(kind) => kind.as_str(),
            Blame::Gateway(failure) => failure.as_str(),
            Blame::Client => "request",
        };
        warn!("{what} to backend {}/{address} failed: {reason} (request {})", to.upstream.config().name, ctx.id());
        to.try_failed(index, &FailedTry { blame, client: ctx.client_address(), reason });
    }

    /// Notes that the backend at work answered.
    fn backend_succeeded(&self, ctx: &Ctx, to: &Destination) {
        if let Some(pick) = &ctx.pick {
            to.try_succeeded(pick.index, ctx.client_address());
        }
    }
}
