//! Readers of host patterns, paths, and names of cookies, headers, query arguments and upstreams.

use crate::config::model::{HostPattern, Upstream};
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Report, Severity, quoted};
use crate::config::yaml::value::Value;

/// Length of the longest host name (RFC 1035 §3.1) and of its longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Length of the longest path. No useful route or check has a longer one, and other proxies refuse such requests.
const MAX_PATH: usize = 2_048;

/// Length of the longest name of a cookie, header, argument or upstream: names are kept per route and shown in log
/// lines.
const MAX_TOKEN: usize = 128;

/// Reads a route's `host`: an exact name, or `*.` and a name; the result is in lower case.
pub(crate) fn host_pattern(value: &Value<'_>, report: &mut Report) -> Option<HostPattern> {
    const EXPECTED: &str = "a host name such as `chat.example.com`, or `*.` and a name such as `\"*.example.com\"`";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    let lower = text.to_ascii_lowercase();
    let (name, wildcard) = match lower.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    match wrong_with_name(name, wildcard) {
        None if wildcard => Some(HostPattern::Wildcard(name.to_owned())),
        None => Some(HostPattern::Exact(name.to_owned())),
        Some((wrong, remedy)) => {
            let problem = value.error(format!("{} {wrong}", quoted(text))).expected(EXPECTED);
            report.refuse(if remedy.is_empty() { problem } else { problem.remedy(remedy) })
        }
    }
}

/// Reads a host name without a wildcard; the result is in lower case.
pub(crate) fn host_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "a host name such as `example.com`";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    let name = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
    match wrong_with_name(&name, false) {
        None => Some(name),
        Some((wrong, _)) => report.refuse(value.error(format!("{} {wrong}", quoted(text))).expected(EXPECTED)),
    }
}

/// The fault of a host name in lower case, and the remedy; `None` where it is right.
fn wrong_with_name(name: &str, wildcard: bool) -> Option<(&'static str, String)> {
    if name == "*" {
        return Some(("is not a host name", "leave `host` out: the route then takes every host".into()));
    }
    if name.contains("://") {
        return Some(("has a scheme in it", "write the host name alone".into()));
    }
    if is_ipv6_literal(name) && !wildcard {
        return None;
    }
    if name.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(("is an IPv6 address without brackets", format!("write `\"[{name}]\"`")));
    }
    if let Some(wrong) = wrong_with_brackets(name) {
        return Some(wrong);
    }
    if name.contains(':') {
        return Some(("has a port in it", "leave the port out: a route takes every port".into()));
    }
    if name.contains('/') {
        return Some(("has a path in it", "write the path under `path`".into()));
    }
    if name.contains('*') {
        return Some((
            "has a `*` elsewhere than at its beginning",
            "a wildcard stands for whole labels at the front: `*.name`".into(),
        ));
    }
    if name.starts_with('~') || name.contains(['(', '^', '$', '\\']) {
        return Some(("is a regular expression, which is not supported", String::new()));
    }
    if !name.is_ascii() {
        return Some(("has letters beyond ASCII", "write the name as DNS has it, in Punycode (`xn--…`)".into()));
    }
    if let Some(without) = name.strip_suffix('.').filter(|without| !without.is_empty()) {
        let stars = if wildcard { "*." } else { "" };
        return Some(("ends in a dot", format!("write `{stars}{}`", without.escape_debug())));
    }
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let fits = name.len() <= MAX_NAME && name.split('.').all(label);
    if fits { None } else { Some(("is not a host name", String::new())) }
}

/// The fault of a host name with brackets, and the remedy; `None` where it has none, or a port behind a right address.
fn wrong_with_brackets(name: &str) -> Option<(&'static str, String)> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    let brackets = |inner: &str| format!("write `\"[{inner}]\"`");
    match (name.strip_prefix('['), name.find(']')) {
        (None, _) => {
            let inner = name.strip_suffix(']').filter(|inner| address(inner))?;
            Some(("has a `]` without a `[` at its beginning", brackets(inner)))
        }
        // Whether the last number is a port cannot be told.
        (Some(_), None) => Some(("has a `[` that is not closed", "put a `]` behind the address: `\"[::1]\"`".into())),
        (Some(_), Some(end)) => match (&name[1..end], &name[end + 1..]) {
            (inner, rest) if address(inner) && rest.starts_with(':') => None,
            (inner, "") if address(inner) => Some(("has a wildcard before an IPv6 address", brackets(inner))),
            (inner, _) if address(inner) => Some(("has more than an IPv6 address in it", brackets(inner))),
            (inner, _) if inner.contains(':') => Some(("has no IPv6 address between its brackets", String::new())),
            _ => None,
        },
    }
}

fn is_ipv6_literal(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Reads a route's `path`: a prefix; the result has no `/` at its end.
pub(crate) fn path_prefix(value: &Value<'_>, report: &mut Report) -> Option<String> {
    const EXPECTED: &str = "a path that begins with `/`, such as `/ws`";
    let text = path(value, EXPECTED, report)?;
    if text.contains('?') {
        let problem = value.error(format!("{} has a query in it", quoted(text))).expected(EXPECTED);
        return report.refuse(problem.remedy("leave out the `?` and what follows: a route looks at the path alone"));
    }
    if let Some(prefix) = text.strip_suffix('*') {
        let problem = value.error(format!("{} ends in `*`", quoted(text))).expected(EXPECTED);
        let prefix = if prefix == "/" { prefix } else { prefix.trim_end_matches('/') };
        return report.refuse(problem.remedy(format!("a path is a prefix as it is: write {}", quoted(prefix))));
    }
    let trimmed = text.trim_end_matches('/');
    Some(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

/// Reads a health check's `path`, which may have a query.
pub(crate) fn request_path(value: &Value<'_>, report: &mut Report) -> Option<String> {
    path(value, "a path that begins with `/`, such as `/health`", report).map(str::to_owned)
}

fn path<'v>(value: &Value<'v>, expected: &str, report: &mut Report) -> Option<&'v str> {
    let Some(text) = value.text() else { return report.refuse(value.wrong(expected)) };
    let shown = quoted(text);
    let problem = |message: String| value.error(message).expected(expected);
    let refused = if text.starts_with('~') || text.starts_with('^') {
        problem(format!("{shown} is a regular expression, which is not supported"))
    } else if text.contains("://") {
        problem(format!("{shown} is a URL")).remedy("write the path alone")
    } else if !text.starts_with('/') {
        problem(format!("{shown} does not begin with `/`")).remedy(format!("write {}", quoted(&format!("/{text}"))))
    } else if text.contains('#') {
        problem(format!("{shown} has a fragment in it"))
            .remedy("leave out the `#` and what follows: clients never send it")
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        problem(format!("{shown} has a character that no request has in its path"))
            .remedy("write spaces and letters beyond ASCII as `%` and two hexadecimal digits per byte, such as `%20`")
    } else if text.contains("%00") {
        problem(format!("{shown} has a zero byte in it, for which requests are refused"))
    } else if text.len() > MAX_PATH {
        problem(format!("the path is {} bytes long", text.len())).expected(format!("at most {MAX_PATH} bytes"))
    } else {
        return Some(text);
    };
    report.refuse(refused)
}

/// Reads a cookie's name: a token (RFC 6265 §4.1.1).
pub(crate) fn cookie_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    token(value, "the name of a cookie, such as `session_id`", report).map(str::to_owned)
}

/// Reads a header's name: a token (RFC 9110 §5.1); the result is in lower case.
pub(crate) fn header_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    token(value, "the name of a request header, such as `x-room`", report).map(str::to_ascii_lowercase)
}

/// Reads a query argument's name, as a request target has it.
pub(crate) fn query_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let expected = "the name of a query argument, such as `room`";
    name(value, expected, report, |byte| byte.is_ascii_graphic() && !b"&=#?".contains(&byte)).map(str::to_owned)
}

/// Reads a health check's `host`: a name or IP address, with or without a port.
pub(crate) fn host_header(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let expected = "the value of a `Host` header, such as `chat.example.com`";
    name(value, expected, report, |byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)).map(str::to_owned)
}

/// Reads a WebSocket subprotocol's name: a token (RFC 6455 §4.1).
pub(crate) fn subprotocol(value: &Value<'_>, expected: &str, report: &mut Report) -> Option<String> {
    token(value, expected, report).map(str::to_owned)
}

/// Reads a backend's name, which stands on the ring, in metric labels and in logs.
pub(crate) fn backend_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let expected = format!("1 to {MAX_TOKEN} of the letters a-z and A-Z, digits, `.`, `_`, `-`, `:`, `[` and `]`");
    name(value, &expected, report, fits_backend_name).map(str::to_owned)
}

/// The problem of `text` as the name of a backend from another source than the configuration, of `most` bytes at most;
/// `None` where it is right. Without `most` the limit is that of a configuration.
pub(crate) fn wrong_with_backend_name(text: &str, most: Option<usize>) -> Option<String> {
    wrong_with_chars(text, most.unwrap_or(MAX_TOKEN), fits_backend_name)
}

fn fits_backend_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte)
}

/// The problem of `name` as the name of an upstream, which logs and metric labels show; `None` where it is right.
pub(crate) fn wrong_with_upstream_name(name: &str, mark: Mark, path: String) -> Option<Problem> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let message = match name {
        "" => "the name is empty".to_owned(),
        _ if name.len() > MAX_TOKEN => format!("the name is {} bytes long", name.len()),
        _ if !name.bytes().all(fits) => format!("{} cannot be a name", quoted(name)),
        Upstream::NOWHERE => "`-` stands for no upstream".to_owned(),
        _ => return None,
    };
    let problem = Problem::new(Severity::Error, mark, path, message);
    Some(problem.expected(format!("1 to {MAX_TOKEN} of the letters a-z and A-Z, digits, `.`, `_` and `-`")))
}

fn token<'v>(value: &Value<'v>, expected: &str, report: &mut Report) -> Option<&'v str> {
    name(value, expected, report, |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn name<'v>(value: &Value<'v>, expected: &str, report: &mut Report, fits: impl Fn(u8) -> bool) -> Option<&'v str> {
    let Some(text) = value.text() else { return report.refuse(value.wrong(expected)) };
    match wrong_with_chars(text, MAX_TOKEN, fits) {
        Some(wrong) => report.refuse(value.error(wrong).expected(expected)),
        None => Some(text),
    }
}

fn wrong_with_chars(text: &str, most: usize, fits: impl Fn(u8) -> bool) -> Option<String> {
    Some(match text.chars().find(|character| !u8::try_from(*character).is_ok_and(&fits)) {
        _ if text.is_empty() => "empty text".to_owned(),
        Some(' ' | '\t' | '\n') => format!("{} has a space in it", quoted(text)),
        Some(character) => {
            let character = quoted(character.encode_utf8(&mut [0; 4]));
            format!("{} has {character} in it", quoted(text))
        }
        None if text.len() > most => format!("the name is longer than {most} bytes"),
        None => return None,
    })
}
