//! `webhook`: tells an HTTP endpoint of tunnels that open and end, and lets it refuse them. See docs/hooks/webhook.md.

mod endpoint;
mod event;
mod queue;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time;

use self::endpoint::{NotTaken, WebhookEndpoint};
use self::event::{EventKind, WebhookEvent};
use self::queue::{EventQueue, Ledger};
use crate::hook::{Closed, Hook, Injector, Result, Setup, SetupError, Tunnel};

pub use self::settings::Settings;

/// The hook `webhook`.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Arc<WebhookEndpoint>,
    events: Vec<EventKind>,
    queue: EventQueue,
    ledger: Arc<Ledger>,
    timeout: Duration,
    gate: Option<Gate>,
    /// Permits, one for each call of `gate` that may be under way.
    calls: Semaphore,
}

/// Settings of `gate`, by which the endpoint decides which tunnels may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gate {
    /// Close code of tunnels that the endpoint refuses.
    code: u16,
    on_failure: OnFailure,
}

/// Fate of a tunnel about which the endpoint did not decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnFailure {
    #[default]
    Close,
    Pass,
}

impl Hook for Webhook {
    type Settings = Settings;
    type Context = ();

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let endpoint = Arc::new(settings.endpoint()?);
        let ledger = Arc::new(Ledger::new(setup.name(), setup.route(), &endpoint));
        Ok(Self {
            events: settings.events()?,
            queue: EventQueue::new(Arc::clone(&endpoint), settings.queue()?, Arc::clone(&ledger)),
            timeout: settings.timeout()?,
            gate: settings.gate()?,
            calls: Semaphore::new(settings.queue()?),
            endpoint,
            ledger,
        })
    }

    fn start(self: &Arc<Self>, _: &Injector) {
        self.queue.start();
    }

    async fn on_open(&self, tunnel: &Tunnel, (): &mut ()) -> Result<()> {
        if !self.events.contains(&EventKind::Open) {
            return Ok(());
        }
        let event = WebhookEvent::open(tunnel);
        match self.gate {
            Some(gate) => self.ask(gate, tunnel, &event).await,
            None => drop(self.queue.push(tunnel.id, event)),
        }
        Ok(())
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, (): &mut ()) {
        if !self.events.contains(&EventKind::Close) {
            return;
        }
        if let Some(done) = self.queue.push(tunnel.id, WebhookEvent::close(tunnel, closed)) {
            // A process that ends waits for this call, and not for the queue. After a while the event is left to the
            // queue.
            let _ = time::timeout(self.timeout, done).await;
        }
    }
}

impl Webhook {
    /// Lets the endpoint decide about a tunnel. The tunnel's messages wait meanwhile.
    async fn ask(&self, gate: Gate, tunnel: &Tunnel, event: &WebhookEvent) {
        let outcome = match self.calls.try_acquire() {
            Ok(_under_way) => self.endpoint.send(event).await,
            Err(_) => Err(NotTaken::Busy),
        };
        match &outcome {
            // It decided, and that is what it was asked for.
            Err(NotTaken::Refused(_)) => {
                self.ledger.enter(event.kind, &Ok(()));
                tunnel.close(gate.code, "refused");
            }
            Err(NotTaken::Failed(_) | NotTaken::Busy) if gate.on_failure == OnFailure::Close => {
                self.ledger.enter(event.kind, &outcome);
                // RFC 6455's registry of close codes: try again later.
                tunnel.close(1013, "try again later");
            }
            outcome => self.ledger.enter(event.kind, outcome),
        }
    }
}

#[cfg(test)]
mod tests;
