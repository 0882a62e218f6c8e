//! Connections in hand: known until the last one is closed, and given time for a request that is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

/// What this process has accepted and not closed.
#[derive(Clone, Default)]
pub(super) struct Connections {
    /// One more for each application that still accepts or has a connection open.
    applications: Arc<()>,
}

impl Connections {
    /// Whether nobody accepts and every connection is closed.
    pub(super) fn are_gone(&self) -> bool {
        Arc::strong_count(&self.applications) == 1
    }

    /// An application that is known of until it has stopped accepting and its last connection is closed.
    pub(super) fn of<A>(&self, app: A) -> Known<A> {
        Known { app: Arc::new(app), at_work: AtomicUsize::new(0), _application: Arc::clone(&self.applications) }
    }
}

/// An application whose connections are known.
///
/// Pingora holds it for as long as it accepts, and with every connection from the moment that one is accepted.
pub(super) struct Known<A> {
    app: Arc<A>,
    /// Connections that are at work.
    at_work: AtomicUsize,
    _application: Arc<()>,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Known<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _at_work = AtWork::begin(&self.at_work);
        self.app.process_new(stream, shutdown).await
    }

    /// Called once nothing is accepted any more. Pingora then drops every connection whose request it has not read to
    /// the end, even one that was accepted a moment ago; so it is told a little later. Requests that come until then
    /// are served, and each is its connection's last.
    async fn cleanup(&self) {
        let until = Instant::now() + LAST_REQUESTS;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if self.at_work.load(SeqCst) == 0 || Instant::now() >= until {
                break;
            }
        }
        self.app.cleanup().await;
    }
}

/// Counts a connection while it lives, however it ends.
struct AtWork<'a>(&'a AtomicUsize);

impl<'a> AtWork<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// How long a connection that was accepted in time is given for its request.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// Also how long a connection may take from being accepted to being at work.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
