//! A bound on the open connections of an application: the oldest one ends for a new one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::oneshot;

/// An application that serves its newest connections.
///
/// Whoever opens connections and says nothing is the first to go, so a request that comes is answered however many
/// there are.
pub(super) struct Newest<A> {
    app: Arc<A>,
    most: usize,
    open: Mutex<Open>,
}

/// Open connections, the oldest first: at most [`Newest::most`]. A dropped sender ends its connection.
#[derive(Default)]
struct Open {
    next: u64,
    connections: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl<A> Newest<A> {
    /// Serves at most `most` connections of `app` at once.
    pub(super) fn of(app: A, most: usize) -> Self {
        Self { app: Arc::new(app), most: most.max(1), open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a connection; returns its number, and what resolves when it is to end for a newer one.
    fn begin(&self) -> (u64, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.connections.push_back((number, end));
        if open.connections.len() > self.most {
            open.connections.pop_front();
        }
        (number, ended)
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Newest<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let (number, ended) = self.begin();
        let kept = tokio::select! {
            kept = self.app.process_new(stream, shutdown) => kept,
            _ = ended => None,
        };
        self.open().connections.retain(|(other, _)| *other != number);
        kept
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
