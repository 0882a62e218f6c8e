//! The request of a health check: its path, host, subprotocols and further header fields.

use http::{HeaderName, header};

use super::matching::{host_header, request_path, subprotocol};
use crate::config::model::CheckRequest;
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Report, Severity, quoted};
use crate::config::yaml::value::{Mapping, Value};

/// Most header fields of a check, and the longest value: together they stay below the head that any server reads.
const MAX_HEADERS: usize = 32;
const MAX_VALUE: usize = 2_048;

/// The keys that describe a check's request, not read yet.
pub(super) struct CheckRequestKeys<'v> {
    path: Option<Value<'v>>,
    host: Option<Value<'v>>,
    origin: Option<Value<'v>>,
    headers: Option<Value<'v>>,
}

impl<'v> CheckRequestKeys<'v> {
    pub(super) fn take(fields: &mut Mapping<'v, '_>) -> Self {
        Self {
            path: fields.take("path"),
            host: fields.take("host"),
            origin: fields.take("origin"),
            headers: fields.take("headers"),
        }
    }

    /// Refuses every key, for a check that sends no request.
    pub(super) fn warn_unread(&self, report: &mut Report) {
        let keys = [("path", &self.path), ("host", &self.host), ("origin", &self.origin), ("headers", &self.headers)];
        for (key, value) in keys {
            if let Some(value) = value {
                report.push(unread(value, key, "a `tcp` check sends nothing", "`check: http` or `check: websocket`"));
            }
        }
    }

    pub(super) fn read(&self, report: &mut Report) -> Option<CheckRequest> {
        let path = self.path.as_ref().map_or(Some("/".to_owned()), |v| request_path(v, report));
        let host = self.host.as_ref().map_or(Some(None), |v| host_header(v, report).map(Some));
        let headers = self.headers.as_ref().map_or(Some(Vec::new()), |v| read_headers(v, report));
        let origin = self.origin.as_ref().map_or(Some(None), |v| read_origin(v, report).map(Some));
        let mut headers = headers?;
        if let Some(origin) = origin? {
            headers.push(("Origin".to_owned(), origin));
        }
        Some(CheckRequest { path: path?, host: host?, headers })
    }
}

/// The problem of a key that the kind of check has no use for.
pub(super) fn unread(value: &Value<'_>, key: &str, why: &str, instead: &str) -> Problem {
    value.error(format!("{why}, so `{key}` would not be read")).remedy(format!("add {instead}, or remove `{key}`"))
}

/// Reads `subprotocols`: one name, or a list of names, each once.
pub(super) fn subprotocols(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    const EXPECTED: &str = "the name of a subprotocol such as `mqtt`, or a list of these";
    if !value.is_sequence() {
        return Some(vec![subprotocol(value, EXPECTED, report)?]);
    }
    let items = value.items(EXPECTED, report)?;
    let mut offered: Vec<Option<String>> = Vec::with_capacity(items.len());
    for item in &items {
        let name = subprotocol(item, EXPECTED, report);
        if name.is_some() && offered.contains(&name) {
            // RFC 6455 §4.1: the elements of the list are unique.
            report.push(item.error("a subprotocol twice").expected("each subprotocol once").remedy("remove one"));
        }
        offered.push(name);
    }
    offered.into_iter().collect()
}

/// Reads `origin`: the value of an `Origin` header (RFC 6454 §7.1).
fn read_origin(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "a scheme and a host such as `https://chat.example.com`, or `\"null\"`";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
    match host {
        _ if text == "null" => Some(text.to_owned()),
        Some(host) if host.contains('/') => {
            let problem = value.error(format!("{} has a path in it", quoted(text))).expected(EXPECTED);
            let origin = text.split('/').take(3).collect::<Vec<_>>().join("/");
            report.refuse(problem.remedy(format!("write {}: browsers send no path", quoted(&origin))))
        }
        Some(host) if !host.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => Some(text.to_owned()),
        _ => report.refuse(value.error(format!("{} is not an origin", quoted(text))).expected(EXPECTED)),
    }
}

/// Reads `headers`: names and values of header fields.
fn read_headers(value: &Value<'_>, report: &mut Report) -> Option<Vec<(String, String)>> {
    const EXPECTED: &str = "a mapping of header names to values, such as `Authorization: Bearer abc`";
    let entries = value.entries(EXPECTED, report)?;
    if entries.len() > MAX_HEADERS {
        let problem = value.error(format!("{} headers", entries.len()));
        return report.refuse(problem.expected(format!("at most {MAX_HEADERS} headers in one check")));
    }
    let read = |(name, mark, value): &(&str, Mark, Value<'_>)| {
        if let Some(problem) = wrong_with_name(name, *mark, value) {
            return report.refuse(problem);
        }
        header_value(value, report).map(|text| ((*name).to_owned(), text))
    };
    let headers: Vec<_> = entries.iter().map(read).collect();
    headers.into_iter().collect()
}

fn wrong_with_name(name: &str, mark: Mark, value: &Value<'_>) -> Option<Problem> {
    let problem = |message: String| Problem::new(Severity::Error, mark, value.path(), message);
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let problem = problem(format!("{} is not the name of a header", quoted(name)));
        return Some(problem.expected("letters, digits and `-`, such as `Authorization`"));
    };
    let key = match &parsed {
        name if name == header::HOST => "host",
        name if name == header::ORIGIN => "origin",
        name if name == header::SEC_WEBSOCKET_PROTOCOL => "subprotocols",
        _ if MADE_BY_THE_CHECK.contains(&parsed.as_str()) => {
            return Some(
                problem(format!("the check itself writes `{name}`, or has no use for it")).remedy("remove it"),
            );
        }
        _ => return None,
    };
    Some(problem(format!("`{name}` is a key of its own")).remedy(format!("write it as `{key}`, beside `headers`")))
}

fn header_value(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "the value of a header: visible ASCII characters and spaces";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    if text.len() > MAX_VALUE {
        let problem = value.error(format!("the value is {} bytes long", text.len()));
        return report.refuse(problem.expected(format!("at most {MAX_VALUE} bytes")));
    }
    if text.trim() != text || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        let problem = value.error("a character that no header value has there").expected(EXPECTED);
        return report.refuse(problem.remedy("there is no space at its ends, and no line break in it"));
    }
    Some(text.to_owned())
}

/// Fields of the handshake and of a body, which a check does not have.
const MADE_BY_THE_CHECK: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "te",
    "transfer-encoding",
    "upgrade",
];
