//! `affinity`: the sources that a request's ring key may come from.

use std::time::Duration;

use super::keys;
use super::matching::{cookie_name, header_name, query_name};
use crate::config::model::{AffinitySource, IssueCookie, SameSite};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{Span, choice, duration, whole};
use crate::config::yaml::value::Value;

/// Values of the rest of the file that affinity depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// `true` where a proxy in front may tell that the client came by TLS (`X-Forwarded-Proto`).
    pub(crate) tls_possible: bool,
}

/// Life of an issued cookie. Browsers cut it to 400 days (RFC 6265bis §5.5).
const MAX_AGE: Span = Span { least: Duration::from_secs(1), most: Duration::from_secs(400 * 86_400), example: "30d" };

const EXPECTED: &str = "a list of sources, such as `- cookie: session_id`";

/// Reads `affinity`. An empty list turns affinity off.
pub(crate) fn read(value: &Value<'_>, scope: Scope, report: &mut Report) -> Option<Vec<AffinitySource>> {
    if let Some(name @ ("client_ip" | "issue_cookie")) = value.text() {
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
        sources.push(source);
    }
    sources.into_iter().collect()
}

fn read_source(value: &Value<'_>, scope: Scope, report: &mut Report) -> Option<AffinitySource> {
    match value.text() {
        Some("client_ip") => return Some(client_ip(32, 64)),
        Some("issue_cookie") => return Some(AffinitySource::IssueCookie(default_cookie())),
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

fn read_named(key: &str, value: &Value<'_>, scope: Scope, report: &mut Report) -> Option<AffinitySource> {
    match key {
        "cookie" => cookie_name(value, report).map(AffinitySource::Cookie),
        "header" => header_name(value, report).map(AffinitySource::Header),
        "query" => query_name(value, report).map(AffinitySource::Query),
        "issue_cookie" => read_cookie(value, scope, report).map(AffinitySource::IssueCookie),
        _ => read_client_ip(value, report),
    }
}

fn read_cookie(value: &Value<'_>, scope: Scope, report: &mut Report) -> Option<IssueCookie> {
    let defaults = default_cookie();
    if value.is_null() {
        return Some(defaults);
    }
    if let Some(name) = value.text() {
        let problem = value.wrong("a mapping with the keys name, max_age and same_site");
        return report.refuse(problem.remedy(format!("write `issue_cookie: {{ name: {} }}`", name.escape_debug())));
    }
    let mut fields = keys::ISSUE_COOKIE.fields(value, report)?;
    let name = fields.take_or("name", defaults.name, |v| cookie_name(v, report));
    let max_age = fields.take_or("max_age", defaults.max_age, |v| max_age(v, report));
    let words = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let same_site = fields.take_or("same_site", defaults.same_site, |v| {
        let same_site = choice(v, &words, report)?;
        if same_site == SameSite::None && !scope.tls_possible {
            let problem = v.warning(
                "browsers drop a `SameSite=None` cookie that is not `Secure`, and Longhaul sets \
                `Secure` only for clients that came by TLS",
            );
            report.push(problem.remedy("name what ends TLS in front of Longhaul in `trusted_proxies`, or write `lax`"));
        }
        Some(same_site)
    });
    Some(IssueCookie { name: name?, max_age: max_age?, same_site: same_site? })
}

fn max_age(value: &Value<'_>, report: &mut Report) -> Option<Option<Duration>> {
    match value.text() {
        Some("session") => Some(None),
        Some("off") => {
            report.refuse(value.wrong("`session`, or ".to_owned() + &MAX_AGE.expected()).remedy("write `session`"))
        }
        _ => duration(value, &MAX_AGE, report).map(Some),
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

fn default_cookie() -> IssueCookie {
    IssueCookie { name: "longhaul".to_owned(), max_age: None, same_site: SameSite::Lax }
}
