//! Values of `tracing`: the trace context of requests, and the export of spans.

use std::time::Duration;

/// `tracing`: requests carry a W3C trace context to backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// `sample`: share of the traces that are recorded, from 0 to 1, default 1. Of traces that a trusted proxy began,
    /// the proxy decides.
    pub sample: f64,
    /// `export`: the receiver of spans; none are exported if left out.
    pub export: Option<TraceExport>,
}

/// `tracing.export`: the receiver of spans, by OTLP over HTTP in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceExport {
    /// `url`: where spans are posted to, `http` or `https`.
    pub url: String,
    /// `service`: name under which the gateway appears, default `longhaul`.
    pub service: String,
    /// `queue`: most spans that wait to be sent, 1 to 1 000 000, default 4 096; further ones are dropped.
    pub queue: usize,
    /// `timeout`: longest time for one request to the receiver, 100 ms to 1 min, default 10 s.
    pub timeout: Duration,
}
