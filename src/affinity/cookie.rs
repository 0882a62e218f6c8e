//! The cookie that Longhaul issues: value and `Set-Cookie` line.

use cookie::time;

use crate::config::{IssueCookie, SameSite, Secure};

/// A new cookie value: 128 random bits from the operating system's generator (by way of `rand`), in 32 hex digits.
///
/// The value names a client: it is as hard to guess as a session id, but grants nothing by itself.
pub fn mint() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The `Set-Cookie` value (RFC 6265 §4.1) that gives `value` to the client.
///
/// `HttpOnly`, because no script needs it; `Secure` where the client came by TLS (`secure`), or always; `Path`,
/// `Domain`, `SameSite`, `Partitioned` and, but for `session`, `Max-Age` as configured. Browsers drop a cookie with
/// `SameSite=None` or `Partitioned` that is not `Secure`.
pub fn set_cookie(issue: &IssueCookie, value: &str, secure: bool) -> String {
    let same_site = match issue.same_site {
        SameSite::Strict => cookie::SameSite::Strict,
        SameSite::Lax => cookie::SameSite::Lax,
        SameSite::None => cookie::SameSite::None,
    };
    let mut cookie = cookie::Cookie::build((issue.name.as_str(), value))
        .path(issue.path.as_str())
        .http_only(true)
        .secure(secure || issue.secure == Secure::Always)
        .same_site(same_site)
        .partitioned(issue.partitioned);
    if let Some(domain) = &issue.domain {
        cookie = cookie.domain(domain.as_str());
    }
    if let Some(max_age) = issue.max_age {
        cookie = cookie.max_age(time::Duration::seconds(max_age.as_secs().try_into().unwrap_or(i64::MAX)));
    }
    cookie.to_string()
}
