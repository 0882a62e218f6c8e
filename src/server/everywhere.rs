//! Drains of a backend that are told to every gateway, by way of the source of its members.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::info;
use tokio::sync::watch;

use super::follow::{self, Whereabouts};
use crate::control::{CommandFailure, Reply, Responder};
use crate::discovery::{NotTold, Sources};
use crate::drain::{self, BackendDrain, UnknownBackend};
use crate::snapshot::Running;
use crate::upstream::{Closing, Member};

/// A backend that every gateway is told of.
pub(super) struct Everywhere {
    pub(super) running: Arc<Running>,
    pub(super) sources: Arc<Sources>,
    pub(super) upstream: String,
    /// Its name, or its address.
    pub(super) backend: String,
}

impl Everywhere {
    /// Tells every gateway that the backend is drained, and reports the drain in this one.
    pub(super) async fn drain(
        self,
        over: Option<Duration>,
        whereabouts: watch::Receiver<Whereabouts>,
        responder: Responder,
    ) {
        match self.tell_of_drain(over).await {
            Ok(drain) => {
                info!("backend {} is drained everywhere: every gateway was told", drain.name());
                follow::follow(drain, whereabouts, responder).await;
            }
            Err(refused) => responder.finish(refused),
        }
    }

    /// Follows the drain in this process, which another process began.
    pub(super) async fn follow(self, left: Duration, whereabouts: watch::Receiver<Whereabouts>, responder: Responder) {
        match BackendDrain::by_source(&self.running, &self.upstream, &self.backend, left, Instant::now()) {
            Ok(drain) => follow::follow(drain, whereabouts, responder).await,
            Err(unknown) => responder.finish(wrong(&unknown)),
        }
    }

    /// Tells every gateway that the backend takes its share again.
    pub(super) async fn undo(self, responder: Responder) {
        let told = async {
            let (name, _) = self.name()?;
            self.tell(&name, None).await?;
            self.in_force(&name, |member| member.closing.is_none()).await
        };
        responder.finish(match told.await {
            Ok(()) => {
                info!("backend {}/{} is no longer drained everywhere", self.upstream, self.backend);
                Reply::done(format!("{}/{} takes its share again, everywhere", self.upstream, self.backend))
            }
            Err(refused) => refused,
        });
    }

    async fn tell_of_drain(&self, over: Option<Duration>) -> Result<BackendDrain, Reply> {
        let (name, window) = self.name()?;
        let over = over.unwrap_or(window);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let closing = Closing { begun_ms: millis(since_1970), over_ms: millis(over) };
        self.tell(&name, Some(closing)).await?;
        self.in_force(&name, |member| member.closing == Some(closing)).await?;
        let left = closing.left(SystemTime::now());
        BackendDrain::by_source(&self.running, &self.upstream, &name, left, Instant::now()).map_err(|e| wrong(&e))
    }

    fn name(&self) -> Result<(String, Duration), Reply> {
        drain::name_of(&self.running, &self.upstream, &self.backend).map_err(|unknown| wrong(&unknown))
    }

    async fn tell(&self, name: &str, drain: Option<Closing>) -> Result<(), Reply> {
        let snapshot = self.running.snapshot();
        let discover = snapshot.destination(&self.upstream).and_then(|to| to.upstream.config().discover.as_ref());
        let told = match discover {
            Some(discover) => self.sources.tell_everywhere(&self.upstream, discover, name, drain).await,
            None => Err(NotTold::Elsewhere(self.upstream.clone())),
        };
        told.map_err(|error| match error {
            NotTold::Elsewhere(_) | NotTold::Gone(_) | NotTold::NotDrained(_) => {
                Reply::failed(CommandFailure::WrongConfiguration, error.to_string())
            }
            _ => Reply::failed(CommandFailure::Failed, error.to_string()),
        })
    }

    /// Waits until this gateway has heard of it itself. A backend that its source names no more has left.
    async fn in_force(&self, name: &str, holds: impl Fn(&Member) -> bool + Sync) -> Result<(), Reply> {
        let settle = self.running.snapshot().destination(&self.upstream).and_then(|to| {
            let discover = to.upstream.config().discover.as_ref()?;
            Some(discover.settle)
        });
        let heard = self.running.wait_until(|snapshot| {
            let upstream = snapshot.destination(&self.upstream).map(|to| &to.upstream);
            let member = upstream.and_then(|to| Some(&to.members()[to.index_of(name)?]));
            member.is_none_or(&holds)
        });
        tokio::time::timeout(settle.unwrap_or_default() + HEARD_WITHIN, heard).await.map_err(|_| {
            let message = "etcd has taken it, and this gateway has not heard of it from there yet: see its status";
            Reply::failed(CommandFailure::Failed, message)
        })
    }
}

fn wrong(unknown: &UnknownBackend) -> Reply {
    Reply::failed(CommandFailure::WrongConfiguration, unknown.to_string())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Time in which a change comes back from etcd, beside the time for which changes are gathered.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
