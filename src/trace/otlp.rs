//! Spans in OTLP's JSON encoding (OpenTelemetry protocol 1.x, `opentelemetry/proto/trace/v1`).

use std::time::UNIX_EPOCH;

use serde_json::{Value as Json, json};

use super::{Span, Value};

/// The body of a request that exports `spans` in the name of `service`; `instance` tells gateways apart.
pub(super) fn body(spans: &[Span], service: &str, instance: &str) -> Vec<u8> {
    let resource = [("service.name", service), ("service.version", VERSION), ("service.instance.id", instance)];
    let resource = resource.map(|(key, value)| attribute(key, &Value::Text(value.to_owned())));
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({ "scope": { "name": "longhaul", "version": VERSION }, "spans": spans });
    let body = json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [scope] }] });
    serde_json::to_vec(&body).expect("strings and numbers always serialise into memory")
}

/// Number of spans that the receiver took none of, as its answer says.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let Ok(answer) = serde_json::from_slice::<Json>(answer) else { return 0 };
    let count = &answer["partialSuccess"]["rejectedSpans"];
    // A number of 64 bits is text in this encoding, and a number with some receivers.
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

fn span(span: &Span) -> Json {
    let ended = span.ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = ended.saturating_sub(span.took);
    let attributes: Vec<_> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut json = json!({
        "traceId": span.context.trace.to_string(),
        "spanId": span.context.span.to_string(),
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": began.as_nanos().to_string(),
        "endTimeUnixNano": ended.as_nanos().to_string(),
        "attributes": attributes,
        "status": if span.failed { json!({ "code": FAILED }) } else { json!({}) },
    });
    if let Some(parent) = span.context.parent {
        json["parentSpanId"] = parent.to_string().into();
    }
    json
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": key, "value": value })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const FAILED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_took_a_part_says_how_many_it_did_not() {
        for (answer, expected) in [
            ("", 0),
            ("{}", 0),
            ("[1]", 0),
            (r#"{"partialSuccess":{}}"#, 0),
            (r#"{"partialSuccess":{"rejectedSpans":"3"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":4,"errorMessage":"no"}}"#, 4),
            (r#"{"partialSuccess":{"rejectedSpans":-1}}"#, 0),
        ] {
            assert_eq!(rejected(answer.as_bytes()), expected, "{answer}");
        }
    }
}
