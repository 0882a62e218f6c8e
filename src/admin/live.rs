//! The live stream: server-sent events for dashboards, made once for all viewers, and not at all while nobody looks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use hyper::body::Frame;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::status::{Reporter, StatusSource, Update};

/// Updates for everybody who follows the gateway live. One task makes them; it begins with the first viewer and ends
/// with the last.
pub(super) struct Feed {
    source: StatusSource,
    /// The latest update. A viewer that reads slowly misses the ones in between.
    updates: watch::Sender<Option<Arc<Frames>>>,
    /// Set while the task is there.
    is_made: Mutex<bool>,
}

/// The events of one update, as they are sent.
struct Frames {
    update: Bytes,
    /// The histories, which change seldom: a viewer is sent them once for each revision.
    histories: Bytes,
    revision: u64,
}

/// Somebody who follows the gateway.
struct Viewer {
    updates: watch::Receiver<Option<Arc<Frames>>>,
    /// Told when the server stops; `None` where nothing tells it.
    stopped: Option<watch::Receiver<bool>>,
    ends: Instant,
    /// Revision of the histories that were sent.
    revision: Option<u64>,
    waiting: VecDeque<Bytes>,
    is_done: bool,
    _counted: Counted,
}

/// Counts a viewer for as long as this lives.
struct Counted(IntGauge);

/// The task that makes updates, until it has said that it is over.
struct Making<'f>(Option<&'f Feed>);

impl Feed {
    pub(super) fn new(source: StatusSource) -> Arc<Self> {
        Arc::new(Self { source, updates: watch::Sender::new(None), is_made: Mutex::new(false) })
    }

    /// Events for one viewer, for a minute at most: whoever goes on is admitted anew, so that a token or a certificate
    /// that is taken away ends what it began. `None` where there are too many viewers.
    ///
    /// To be called on a Tokio runtime.
    pub(super) fn follow(
        self: &Arc<Self>,
        stopped: Option<watch::Receiver<bool>>,
    ) -> Option<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<>> {
        let mut is_made = self.is_made();
        if self.updates.receiver_count() >= MOST_VIEWERS {
            return None;
        }
        let mut updates = self.updates.subscribe();
        if std::mem::replace(&mut *is_made, true) {
            // The latest one is there already, if any is.
            updates.mark_changed();
        } else {
            tokio::spawn(Arc::clone(self).make());
        }
        let counted = Counted(self.metrics().viewers.clone());
        counted.0.inc();
        let viewer = Viewer {
            updates,
            stopped,
            ends: Instant::now() + LONGEST_STREAM,
            revision: None,
            waiting: VecDeque::new(),
            is_done: false,
            _counted: counted,
        };
        Some(stream::unfold(viewer, |mut viewer| async move {
            let event = viewer.next().await?;
            Some((Ok(Frame::data(event)), viewer))
        }))
    }

    /// Makes updates until the last viewer is gone.
    async fn make(self: Arc<Self>) {
        let mut making = Making(Some(&self));
        let mut reporter = Reporter::new(self.source.clone());
        let mut histories = None;
        while !self.is_over() {
            let (update, pause) = reporter.update().await;
            self.metrics().live_updates.inc();
            let frames = self.frames(&update, histories.take());
            histories = Some((frames.revision, frames.histories.clone()));
            self.updates.send_replace(Some(Arc::new(frames)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.updates.closed() => {}
            }
        }
        // The next task may be there by now.
        making.0 = None;
    }

    /// Tells whether the last viewer has left. The next one then starts another task.
    fn is_over(&self) -> bool {
        let mut is_made = self.is_made();
        let is_over = self.updates.receiver_count() == 0;
        if is_over {
            *is_made = false;
            self.updates.send_replace(None);
        }
        is_over
    }

    fn frames(&self, update: &Update, known: Option<(u64, Bytes)>) -> Frames {
        // Read before the events: one that comes in between is sent with the next revision once more.
        let revision = self.source.revision();
        let histories = match known {
            Some((same, histories)) if same == revision => histories,
            _ => event("history", &self.source.histories()),
        };
        Frames { update: event("update", update), histories, revision }
    }

    fn metrics(&self) -> &Metrics {
        &self.source.running.metrics
    }

    fn is_made(&self) -> MutexGuard<'_, bool> {
        // Nothing under this lock panics.
        self.is_made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_done {
                return None;
            }
            let changed = tokio::select! {
                changed = self.updates.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(self.ends) => false,
                () = told(&mut self.stopped) => false,
            };
            if changed {
                self.take_update();
            } else {
                // Tells a stream that has ended from one that broke: the page comes back at once.
                self.waiting.push_back(Bytes::from_static(b"event: end\ndata: {}\n\n"));
                self.is_done = true;
            }
        }
    }

    fn take_update(&mut self) {
        let Some(frames) = self.updates.borrow_and_update().clone() else { return };
        if self.revision != Some(frames.revision) {
            self.revision = Some(frames.revision);
            self.waiting.push_back(frames.histories.clone());
        }
        self.waiting.push_back(frames.update.clone());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(feed) = self.0 {
            *feed.is_made() = false;
        }
    }
}

/// A server-sent event. JSON has no line breaks, which would end its data.
fn event(name: &str, data: &impl serde::Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned());
    format!("event: {name}\ndata: {data}\n\n").into()
}

async fn told(stopped: &mut Option<watch::Receiver<bool>>) {
    match stopped {
        Some(stopped) => drop(stopped.wait_for(|stopped| *stopped).await),
        None => pending().await,
    }
}

/// Viewers at a time: each has a connection, and is sent some 10 KiB a second.
pub(super) const MOST_VIEWERS: usize = 32;
const LONGEST_STREAM: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
