//! Connections that were accepted and are not closed.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use crate::tunnel::{Activity, ChangeSignal, UnderWay};

/// The connections of this process.
pub(super) struct Connections {
    /// Applications of clients that accept, or have a connection open.
    applications: Arc<Activity>,
    /// The same of operators.
    operators: Arc<Activity>,
}

impl Connections {
    /// No connections yet. The end of the last one is told to `changes`.
    pub(super) fn new(changes: ChangeSignal) -> Self {
        let [applications, operators] = [changes.clone(), changes].map(Activity::new);
        Self { applications, operators }
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
        CountedApp { app: Arc::new(app), _application: self.applications.begin() }
    }
}

/// An application that is counted for as long as anything of it is left: whatever accepts for it holds it, and so does
/// each of its connections from the moment at which it is accepted.
pub(super) struct CountedApp<A> {
    app: Arc<A>,
    _application: UnderWay,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for CountedApp<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.app.process_new(stream, shutdown).await
    }

    /// Called once nothing is accepted any more. Connections that wait for a request are not Pingora's (`Requests`), so
    /// that its cleanup drops none of them.
    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
