//! Connections that were accepted and are not closed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use crate::admin::ServerBounds;
use crate::tunnel::{Activity, ChangeSignal, UnderWay};

/// The connections of this process.
pub(super) struct Connections {
    /// Applications of clients that accept, or have a connection open.
    applications: Arc<Activity>,
    /// The same of operators.
    operators: Arc<Activity>,
    /// Connections of operators that have asked something.
    asked: Arc<Activity>,
}

impl Connections {
    /// No connections yet. The end of the last one is told to `changes`.
    pub(super) fn new(changes: ChangeSignal) -> Self {
        let [applications, operators, asked] = [changes.clone(), changes.clone(), changes].map(Activity::new);
        Self { applications, operators, asked }
    }

    /// True when nothing accepts and every connection is closed. Those of operators who wait for a command that ends
    /// the process are left out after a while.
    pub(super) fn are_gone(&self) -> bool {
        self.applications.count() == 0 && self.operators.count() == 0
    }

    /// Bounds and counts of an application of operators, which may have so many connections.
    pub(super) fn for_operators(&self, connections: usize) -> ServerBounds {
        ServerBounds { connections, under_way: self.operators.begin(), asked: Arc::clone(&self.asked) }
    }

    /// Waits until no application of operators accepts, and whoever asked has the answer; for [`LAST_ANSWERS`] at the
    /// most, once nothing accepts.
    pub(super) async fn operators_gone(&self) {
        self.operators.idle().await;
        // Late is late: what is left is dropped.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.asked.idle()).await;
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

/// Time for which an operator is waited for who does not take the answer to the command that ended the process.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
