//! The exporter: a bounded queue of spans, and the task that sends them to the receiver.

use std::time::Duration;

use bytes::Bytes;
use log::{info, warn};
use prometheus::IntCounter;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Span, otlp};
use crate::causes::with_causes;
use crate::config::TraceExport;

/// Counts of spans by outcome.
#[derive(Clone, Debug)]
pub struct SpanCounts {
    /// Taken by the receiver.
    pub exported: IntCounter,
    /// Not taken into the queue, which was full.
    pub dropped: IntCounter,
    /// Refused by the receiver, or lost because it did not answer.
    pub failed: IntCounter,
}

impl SpanCounts {
    /// The counts, of which `count` gives the one with an outcome.
    pub fn of(count: impl Fn(&'static str) -> IntCounter) -> Self {
        Self { exported: count("exported"), dropped: count("dropped"), failed: count("failed") }
    }
}

/// The way to the exporter.
#[derive(Clone)]
pub(super) struct ExportQueue {
    spans: mpsc::Sender<Span>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    dropped: IntCounter,
}

/// Starts the exporter on the Tokio runtime of the caller.
pub(super) fn start(settings: &TraceExport, counts: SpanCounts) -> Result<ExportQueue, String> {
    let builder = Client::builder().redirect(Policy::none()).no_proxy().timeout(settings.timeout);
    // Where nothing is to be verified, a system without certificates must not be a problem.
    let builder = if settings.url.starts_with("http:") { builder.tls_certs_only([]) } else { builder };
    let client =
        builder.build().map_err(|error| format!("no HTTP client can be made for `tracing.export`: {error}"))?;
    let (spans, queue) = mpsc::channel(settings.queue);
    let (flushes, to_flush) = mpsc::channel(1);
    let dropped = counts.dropped.clone();
    let exporter = Exporter { settings: settings.clone(), instance: instance(), client, counts, failing: false };
    tokio::spawn(exporter.run(queue, to_flush));
    Ok(ExportQueue { spans, flushes, dropped })
}

impl ExportQueue {
    /// Puts a span in, or drops it where the queue is full.
    pub(super) fn put(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until the spans so far were sent, for `longest` at most.
    pub(super) async fn flush(&self, longest: Duration) {
        let (done, is_done) = oneshot::channel();
        let sent = async {
            if self.flushes.send(done).await.is_ok() {
                // An exporter that is gone sends nothing more.
                let _ = is_done.await;
            }
        };
        if timeout(longest, sent).await.is_err() {
            warn!("spans are left that were not exported: their receiver is too slow");
        }
    }
}

/// Sends spans to the receiver.
struct Exporter {
    settings: TraceExport,
    instance: String,
    client: Client,
    counts: SpanCounts,
    /// The last export failed, and that was logged.
    failing: bool,
}

/// Why spans were not exported.
struct Refused {
    why: String,
    /// The receiver may take them at another time (OTLP: retryable answers).
    for_now: bool,
}

impl Exporter {
    /// Sends spans in batches until every [`ExportQueue`] is gone. An exporter without spans sleeps.
    async fn run(mut self, mut queue: mpsc::Receiver<Span>, mut flushes: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        loop {
            let flushed = tokio::select! {
                is_open = gather(&mut queue, &mut batch) => match is_open {
                    true => None,
                    false => return,
                },
                Some(done) = flushes.recv() => Some(done),
            };
            match flushed {
                None => self.send(&mut batch).await,
                Some(done) => {
                    self.send_all(&mut batch, &mut queue).await;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
    }

    /// Sends a batch and everything behind it in the queue.
    async fn send_all(&mut self, batch: &mut Vec<Span>, queue: &mut mpsc::Receiver<Span>) {
        loop {
            while let (true, Ok(span)) = (batch.len() < MOST_IN_BATCH, queue.try_recv()) {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// Sends a batch, and sends it again after a while where the receiver may take it then. Counts the outcome.
    async fn send(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let body = Bytes::from(otlp::body(batch, &self.settings.service, &self.instance));
        let count = batch.len() as u64;
        batch.clear();
        let mut waits = RETRIES.iter();
        let sent = loop {
            let sent = self.post(body.clone()).await;
            match (&sent, waits.next()) {
                (Err(Refused { for_now: true, .. }), Some(wait)) => sleep(*wait).await,
                _ => break sent,
            }
        };
        let rejected = match &sent {
            Ok(rejected) => (*rejected).min(count),
            Err(_) => count,
        };
        self.counts.exported.inc_by(count - rejected);
        self.counts.failed.inc_by(rejected);
        self.tell(sent.err());
    }

    /// Posts a body, and returns how many of its spans the receiver rejected.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let request = self.client.post(&self.settings.url).header(CONTENT_TYPE, "application/json").body(body);
        let failed = |error: reqwest::Error| Refused { why: with_causes(&error.without_url()), for_now: true };
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            let for_now = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            return Err(Refused { why: format!("the answer is {status}"), for_now });
        }
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await
            && said.len() + chunk.len() <= LONGEST_ANSWER
        {
            said.extend_from_slice(&chunk);
        }
        Ok(otlp::rejected(&said))
    }

    /// Logs that exporting begins to fail, and that it works again.
    fn tell(&mut self, failure: Option<Refused>) {
        match failure {
            Some(Refused { why, .. }) if !self.failing => {
                warn!("spans are lost, they cannot be exported to {}: {why}", self.settings.url);
                self.failing = true;
            }
            None if self.failing => {
                info!("spans are exported to {} again", self.settings.url);
                self.failing = false;
            }
            Some(_) | None => {}
        }
    }
}

/// Gathers spans: the first one, and those that come within [`GATHERED_FOR`] of it. Returns false when none will come.
async fn gather(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    if batch.is_empty() && queue.recv_many(batch, MOST_IN_BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + GATHERED_FOR;
    while batch.len() < MOST_IN_BATCH {
        let room = MOST_IN_BATCH - batch.len();
        match timeout_at(until, queue.recv_many(batch, room)).await {
            Ok(more) if more > 0 => {}
            _ => break,
        }
    }
    true
}

/// Identity of this process among the gateways that export.
fn instance() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Spans in one request: half a mebibyte or so.
const MOST_IN_BATCH: usize = 512;
/// Time that the first span of a batch waits for others.
const GATHERED_FOR: Duration = Duration::from_secs(1);
/// Waits before a batch is sent again. Spans queue up meanwhile, and are dropped when the queue is full.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Bytes read of an answer, which is an empty object for the most part.
const LONGEST_ANSWER: usize = 64 * 1024;
