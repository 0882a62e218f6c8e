//! Connections that were accepted and are not closed, and the time that the last ones get for their request.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use crate::tunnel::{Activity, ChangeSignal, UnderWay};

/// The connections of this process.
pub(super) struct Connections {
    changes: ChangeSignal,
    /// Applications of clients that accept, or have a connection open.
    applications: Arc<Activity>,
    /// The same of operators.
    operators: Arc<Activity>,
}

impl Connections {
    /// No connections yet. The end of the last one is told to `changes`.
    pub(super) fn new(changes: ChangeSignal) -> Self {
        let [applications, operators] = [changes.clone(), changes.clone()].map(Activity::new);
        Self { changes, applications, operators }
    }

    /// True when nothing accepts and every connection is closed.
    pub(super) fn are_gone(&self) -> bool {
        self.applications.count() == 0 && self.operators.count() == 0
    }

    /// Counts an application of operators until what it returns is dropped.
    pub(super) fn begin_for_operators(&self) -> UnderWay {
        self.operators.begin()
    }

    /// Waits until no application of operators accepts, and each has closed its last connection.
    pub(super) async fn operators_gone(&self) {
        self.operators.idle().await;
    }

    /// Counts an application until it has stopped accepting and its last connection is closed.
    pub(super) fn of<A>(&self, app: A) -> CountedApp<A> {
        let connections = Activity::new(self.changes.clone());
        CountedApp { app: Arc::new(app), connections, _application: self.applications.begin() }
    }
}

/// An application whose connections are counted.
///
/// Pingora holds it for as long as it accepts, and with every connection from the moment that one is accepted.
pub(super) struct CountedApp<A> {
    app: Arc<A>,
    /// Connections that are served.
    connections: Arc<Activity>,
    _application: UnderWay,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for CountedApp<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _served = self.connections.begin();
        self.app.process_new(stream, shutdown).await
    }

    /// Called once nothing is accepted any more. Pingora's own cleanup then drops every connection whose request it has
    /// not read to the end, even one that was accepted a moment ago; so it is called a little later. Requests that come
    /// until then are served, and each is its connection's last.
    async fn cleanup(&self) {
        let until = Instant::now() + LAST_REQUESTS;
        tokio::time::sleep(ACCEPTED_TO_SERVED).await;
        // Late is late: what is left is dropped.
        let _ = tokio::time::timeout_at(until, self.connections.idle()).await;
        self.app.cleanup().await;
    }
}

/// Time that a connection which was accepted in time gets for its request.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// Time that a connection may take from being accepted to being served.
const ACCEPTED_TO_SERVED: Duration = Duration::from_millis(20);
