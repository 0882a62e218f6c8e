//! Traces: the context that requests carry to backends, and spans of what the gateway did, exported by OTLP.
//!
//! A span is of one request or one handshake, never of a tunnel. A task (`export`) sends spans, so that a receiver that
//! is slow or gone slows no request. When its queue is full a span is dropped and counted.

mod context;
mod export;
mod otlp;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::config::TraceExport;
pub use context::{SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId};
use export::ExportQueue;
pub use export::SpanCounts;

/// A handle to the exporter of spans. Clones export to the same receiver.
#[derive(Clone)]
pub struct Tracer {
    queue: Option<ExportQueue>,
}

/// A request or a handshake, as it is exported.
#[derive(Clone, Debug)]
pub struct Span {
    context: TraceContext,
    name: String,
    ended: SystemTime,
    took: Duration,
    attributes: Vec<(&'static str, Value)>,
    /// The gateway or a backend failed.
    failed: bool,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(u64),
}

impl Tracer {
    /// A tracer that exports nothing.
    pub fn off() -> Self {
        Self { queue: None }
    }

    /// Starts the exporter on the Tokio runtime of the caller.
    ///
    /// # Errors
    /// No HTTP client can be made: a reason for people.
    pub fn start(settings: &TraceExport, counts: SpanCounts) -> Result<Self, String> {
        export::start(settings, counts).map(|queue| Self { queue: Some(queue) })
    }

    /// Exports the span that `build` makes, where the trace is sampled; `build` is not called otherwise. Never waits.
    pub fn record(&self, context: Option<&TraceContext>, build: impl FnOnce(TraceContext) -> Span) {
        if let (Some(queue), Some(context)) = (&self.queue, context)
            && context.is_sampled
        {
            queue.put(build(*context));
        }
    }

    /// Waits until the spans so far were sent, for a second at the most.
    pub async fn flush(&self) {
        if let Some(queue) = &self.queue {
            queue.flush(FLUSH_WITHIN).await;
        }
    }
}

impl Span {
    /// A span of this context that took so long, and ends now.
    pub fn ending_now(context: TraceContext, name: String, took: Duration) -> Self {
        Self { context, name, ended: SystemTime::now(), took, attributes: Vec::with_capacity(18), failed: false }
    }

    /// Adds a text attribute, of which the first 1,024 bytes are kept.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let mut value = value.into();
        let end = value.floor_char_boundary(LONGEST_TEXT);
        value.truncate(end);
        self.attributes.push((name, Value::Text(value)));
        self
    }

    /// Adds a text attribute where there is a value.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        self.attributes.push((name, Value::Number(value)));
        self
    }

    /// Adds an address and a port, named as OpenTelemetry names those of a `peer`.
    #[must_use]
    pub fn peer(self, peer: SocketAddr) -> Self {
        self.text("network.peer.address", peer.ip().to_canonical().to_string())
            .number("network.peer.port", peer.port().into())
    }

    /// Adds the status of the answer. One of 500 and more makes the span a failed one.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.failed = status >= 500;
        self.number("http.response.status_code", status.into())
    }
}

/// Bytes kept of a text, so that no client decides what a queue of spans takes.
const LONGEST_TEXT: usize = 1_024;
/// Time that the end of the process may take for a slow receiver.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
