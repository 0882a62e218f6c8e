//! `affinity`: the sources that a request's ring key may come from.

use super::issue_cookie;
use super::keys;
use super::matching::{cookie_name, header_name, query_name};
use crate::config::model::AffinitySource;
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{choice, whole};
use crate::config::yaml::value::Value;

/// Values of the rest of the file that affinity depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AffinityScope {
    /// `true` where a proxy in front may tell that the client came by TLS (`X-Forwarded-Proto`).
    pub(crate) tls_possible: bool,
    /// `true` where request headers with `_` in their names are dropped.
    pub(crate) drops_underscores: bool,
}

const EXPECTED: &str = "a list of sources, such as `- cookie: session_id`";

/// Reads `affinity`. An empty list turns affinity off.
pub(crate) fn read(value: &Value<'_>, scope: AffinityScope, report: &mut Report) -> Option<Vec<AffinitySource>> {
    if let Some(name @ ("client_certificate" | "client_ip" | "issue_cookie")) = value.text() {
        return report.refuse(value.wrong(EXPECTED).remedy(format!("write it as a list: `[{name}]`")));
    }
    if value.text().is_some_and(|text| text == "off" || text == "none") {
        return report.refuse(value.wrong(EXPECTED).remedy("for no affinity write an empty list: `[]`"));
    }
    let problem = value.wrong(EXPECTED);
    if value.is_mapping() {
        return report.refuse(problem.remedy("begin each source with `- `, for their order matters"));
    }
    let items = value.items(EXPECTED, report)?;
    let mut answered_by = None;
    let mut sources = Vec::with_capacity(items.len());
    for item in &items {
        if let Some((name, line)) = answered_by {
            let problem = item.warning(format!("never asked: `{name}` on line {line} always gives a key"));
            report.push(problem.remedy("move it further up, or remove it"));
        }
        let source = read_source(item, scope, report);
        match &source {
            Some(AffinitySource::IssueCookie(_)) => {
                answered_by = answered_by.or(Some(("issue_cookie", item.mark().line)))
            }
            Some(AffinitySource::ClientIp { .. }) => {
                answered_by = answered_by.or(Some(("client_ip", item.mark().line)))
            }
            _ => {}
        }
        if let Some(problem) = source.as_ref().and_then(|source| named_before(source, &sources, item)) {
            report.push(problem);
        }
        sources.push(source);
    }
    sources.into_iter().collect()
}

/// The problem of a cookie that an earlier source reads too, where one of the two is born on the backend.
fn named_before(source: &AffinitySource, before: &[Option<AffinitySource>], item: &Value<'_>) -> Option<Problem> {
    let name = cookie_of(source)?;
    let is_born = |source: &AffinitySource| matches!(source, AffinitySource::BackendCookie(_));
    let mut same = before.iter().flatten().filter(|earlier| cookie_of(earlier) == Some(name));
    let earlier = same.find(|earlier| is_born(earlier) || is_born(source))?;
    let problem = item.error(format!("the cookie {} is a source twice", quoted(name))).expected("each cookie once");
    Some(match (earlier, source) {
        (AffinitySource::IssueCookie(_), AffinitySource::BackendCookie(_))
        | (AffinitySource::BackendCookie(_), AffinitySource::IssueCookie(_)) => {
            problem.remedy("give the cookie that Longhaul issues a name of its own: it would replace the backend's")
        }
        _ => problem.remedy("remove one"),
    })
}

/// The cookie that a source reads.
fn cookie_of(source: &AffinitySource) -> Option<&str> {
    match source {
        AffinitySource::Cookie(name) | AffinitySource::BackendCookie(name) => Some(name),
        AffinitySource::IssueCookie(issue) => Some(&issue.name),
        AffinitySource::Header(_)
        | AffinitySource::Query(_)
        | AffinitySource::ClientCertificate
        | AffinitySource::ClientIp { .. } => None,
    }
}

fn read_source(value: &Value<'_>, scope: AffinityScope, report: &mut Report) -> Option<AffinitySource> {
    match value.text() {
        Some("client_certificate") => return Some(AffinitySource::ClientCertificate),
        Some("client_ip") => return Some(client_ip(32, 64)),
        Some("issue_cookie") => return Some(AffinitySource::IssueCookie(issue_cookie::default())),
        Some(name @ ("cookie" | "header" | "query")) => {
            let problem = value.error(format!("`{name}` needs a name")).expected(format!("`{name}: NAME`"));
            return report.refuse(problem);
        }
        Some(text) => {
            let problem = value.error(format!("{} is not a source", quoted(text)));
            return report.refuse(problem.expected(format!("one of {}", keys::AFFINITY.keys.join(", "))));
        }
        None => {}
    }
    let mut fields = keys::AFFINITY.fields(value, report)?;
    let given: Vec<_> = keys::AFFINITY.keys.iter().filter_map(|key| Some((*key, fields.take(key)?))).collect();
    match given.as_slice() {
        [(key, source)] => read_named(key, source, scope, report),
        // Unknown keys alone have been reported already.
        [] if fields.had_unknown() => None,
        [] => report.refuse(value.error("an empty source").expected(EXPECTED)),
        [(first, _), (second, _), ..] => {
            let problem =
                value.error(format!("`{first}` and `{second}` in one item")).expected("one source in each item");
            report.refuse(problem.remedy("begin each source with a `- ` of its own, for their order matters"))
        }
    }
}

fn read_named(key: &str, value: &Value<'_>, scope: AffinityScope, report: &mut Report) -> Option<AffinitySource> {
    match key {
        "cookie" => read_cookie(value, report),
        "header" => read_header(value, scope, report),
        "query" => query_name(value, report).map(AffinitySource::Query),
        "issue_cookie" => issue_cookie::read(value, scope, report).map(AffinitySource::IssueCookie),
        "client_certificate" => read_client_certificate(value, report),
        _ => read_client_ip(value, report),
    }
}

/// Reads `header`, and warns of one that never comes.
fn read_header(value: &Value<'_>, scope: AffinityScope, report: &mut Report) -> Option<AffinitySource> {
    let name = header_name(value, report)?;
    if scope.drops_underscores && name.contains('_') {
        let problem = value
            .warning(format!("never has a value: headers with `_` in their names are dropped, {} too", quoted(&name)));
        let dashed = name.replace('_', "-");
        report.push(
            problem.remedy(format!("write `{dashed}` where clients send that, or `underscores_in_headers: keep`")),
        );
    }
    Some(AffinitySource::Header(name))
}

/// Reads `cookie`: a name, or a mapping with the name and the place of the cookie's birth.
fn read_cookie(value: &Value<'_>, report: &mut Report) -> Option<AffinitySource> {
    if !value.is_mapping() {
        let name = cookie_name(value, report)?;
        warn_of_session(&name, value, report);
        return Some(AffinitySource::Cookie(name));
    }
    let mut fields = keys::COOKIE.fields(value, report)?;
    let name = fields.required("name", "the name of a cookie, such as `JSESSIONID`", report);
    let name = name.and_then(|v| cookie_name(&v, report));
    let born_on = fields.take_or("born_on", None, |v| choice(v, &[("backend", ())], report).map(Some));
    Some(match born_on? {
        Some(()) => AffinitySource::BackendCookie(name?),
        None => AffinitySource::Cookie(name?),
    })
}

/// Warns of a cookie that application servers make on their first answer, which leads elsewhere once it comes back.
fn warn_of_session(name: &str, value: &Value<'_>, report: &mut Report) {
    if SESSIONS.contains(&name) {
        let message = format!(
            "a backend makes {} on its first answer, and the session is lost where the cookie then leads to \
             another one",
            quoted(name)
        );
        report.push(value.warning(message).remedy(format!(
            "write `cookie: {{ name: {name}, born_on: backend }}`, or `cookie: {{ name: {name} }}` where backends \
             share their sessions"
        )));
    }
}

/// Reads `client_certificate`, which has no settings.
fn read_client_certificate(value: &Value<'_>, report: &mut Report) -> Option<AffinitySource> {
    let is_empty = value.is_null() || value.is_mapping() && value.pairs("", report)?.is_empty();
    match is_empty {
        true => Some(AffinitySource::ClientCertificate),
        false => report.refuse(value.wrong("`client_certificate` alone: it has no settings")),
    }
}

fn read_client_ip(value: &Value<'_>, report: &mut Report) -> Option<AffinitySource> {
    if value.is_null() {
        return Some(client_ip(32, 64));
    }
    let mut fields = keys::CLIENT_IP.fields(value, report)?;
    // The bounds keep both within a byte.
    let ipv4_prefix = fields.take_or("ipv4_prefix", 32, |v| whole(v, 1..=32, report));
    let ipv6_prefix = fields.take_or("ipv6_prefix", 64, |v| whole(v, 1..=128, report));
    Some(client_ip(u8::try_from(ipv4_prefix?).ok()?, u8::try_from(ipv6_prefix?).ok()?))
}

fn client_ip(ipv4_prefix: u8, ipv6_prefix: u8) -> AffinitySource {
    AffinitySource::ClientIp { ipv4_prefix, ipv6_prefix }
}

/// Session cookies of Java, PHP, Express and ASP.NET by their default names.
const SESSIONS: [&str; 4] = ["JSESSIONID", "PHPSESSID", "connect.sid", "ASP.NET_SessionId"];
