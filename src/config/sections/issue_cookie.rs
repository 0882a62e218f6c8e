//! `issue_cookie`: the cookie that Longhaul sets, and warnings about cookies that browsers drop.

use std::time::Duration;

use super::affinity::AffinityScope;
use super::keys;
use super::matching::{cookie_name, host_name, request_path};
use crate::config::model::{IssueCookie, SameSite, Secure};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, boolean, choice, duration};
use crate::config::yaml::value::Value;

/// Life of an issued cookie. Browsers cut it to 400 days (RFC 6265bis §5.5).
const MAX_AGE: DurationBounds =
    DurationBounds { least: Duration::from_secs(1), most: Duration::from_secs(400 * 86_400), example: "30d" };

const SAME_SITE: [(&str, SameSite); 3] =
    [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
const SECURE: [(&str, Secure); 2] = [("auto", Secure::Auto), ("always", Secure::Always)];

/// The cookie of `issue_cookie` without settings.
pub(super) fn default() -> IssueCookie {
    IssueCookie {
        name: "longhaul".to_owned(),
        max_age: None,
        same_site: SameSite::Lax,
        path: "/".to_owned(),
        domain: None,
        secure: Secure::Auto,
        partitioned: false,
    }
}

/// Reads `issue_cookie`.
pub(super) fn read(value: &Value<'_>, scope: AffinityScope, report: &mut Report) -> Option<IssueCookie> {
    let defaults = default();
    if value.is_null() {
        return Some(defaults);
    }
    if let Some(name) = value.text() {
        let problem = value.wrong(format!("a mapping with the keys {}", keys::ISSUE_COOKIE.keys.join(", ")));
        return report.refuse(problem.remedy(format!("write `issue_cookie: {{ name: {} }}`", name.escape_debug())));
    }
    let mut fields = keys::ISSUE_COOKIE.fields(value, report)?;
    let name = fields.take_or("name", defaults.name, |v| cookie_name(v, report));
    let max_age = fields.take_or("max_age", defaults.max_age, |v| max_age(v, report));
    let same_site = fields.take_or("same_site", defaults.same_site, |v| choice(v, &SAME_SITE, report));
    let path = fields.take_or("path", defaults.path, |v| path(v, report));
    let domain = fields.take_or("domain", None, |v| host_name(v, report).map(Some));
    let secure = fields.take_or("secure", defaults.secure, |v| secure(v, report));
    let partitioned = fields.take_or("partitioned", false, |v| boolean(v, report));
    let issue = IssueCookie {
        name: name?,
        max_age: max_age?,
        same_site: same_site?,
        path: path?,
        domain: domain?,
        secure: secure?,
        partitioned: partitioned?,
    };
    warn_if_dropped(&issue, value, scope, report);
    Some(issue)
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

/// Reads the cookie's `path`. A `;` would end the attribute.
fn path(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let path = request_path(value, report)?;
    if path.contains([';', '?']) {
        let problem = value.error(format!("{} cannot be the path of a cookie", quoted(&path)));
        return report.refuse(problem.expected("a path that begins with `/`, without `;` and `?`"));
    }
    Some(path)
}

fn secure(value: &Value<'_>, report: &mut Report) -> Option<Secure> {
    match value.plain_text() {
        Some("true" | "on" | "yes") => report.refuse(value.wrong("one of auto, always").remedy("write `always`")),
        Some("false" | "off" | "no") => report.refuse(value.wrong("one of auto, always").remedy("write `auto`")),
        _ => choice(value, &SECURE, report),
    }
}

/// Warns of a cookie that browsers drop (RFC 6265bis §4.1.3 for the prefixes of names, §5.7 for `SameSite=None`; CHIPS
/// for `Partitioned`).
fn warn_if_dropped(issue: &IssueCookie, value: &Value<'_>, scope: AffinityScope, report: &mut Report) {
    let has_prefix =
        |prefix: &str| issue.name.get(..prefix.len()).is_some_and(|name| name.eq_ignore_ascii_case(prefix));
    let (host, secure) = (has_prefix("__Host-"), has_prefix("__Secure-"));
    if host && (issue.path != "/" || issue.domain.is_some()) {
        let problem = value.warning("browsers drop a `__Host-` cookie with another path than `/`, or with a domain");
        report.push(problem.remedy("remove `path` and `domain`, or choose another name"));
    }
    let needs_secure = match issue {
        _ if host => "a `__Host-` cookie",
        _ if secure => "a `__Secure-` cookie",
        IssueCookie { same_site: SameSite::None, .. } => "a `SameSite=None` cookie",
        IssueCookie { partitioned: true, .. } => "a `Partitioned` cookie",
        _ => return,
    };
    if issue.secure == Secure::Auto && !scope.tls_possible {
        let problem = value.warning(format!(
            "browsers drop {needs_secure} that is not `Secure`, and Longhaul sets `Secure` only for clients that came \
            by TLS"
        ));
        report
            .push(problem.remedy(
                "name the proxy that ends TLS in `trusted_proxies`, or write `secure: always` if there is one",
            ));
    }
}
