//! The cookie that Longhaul issues: value and `Set-Cookie` line.

use cookie::time;

use crate::config::{IssueCookie, SameSite};

/// A new cookie value: 128 random bits from the operating system's generator (by way of `rand`), in 32 hex digits.
///
/// The value names a client: it is as hard to guess as a session id, but grants nothing by itself.
pub fn mint() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The `Set-Cookie` value (RFC 6265 §4.1) that gives `value` to the client.
///
/// `Path=/`, because the key is the same for every route of an upstream; `HttpOnly`, because no script needs it;
/// `Secure` where the client came by TLS; `SameSite` and, but for `session`, `Max-Age` as configured. Browsers drop a
/// cookie with `SameSite=None` that is not `Secure`.
pub fn set_cookie(issue: &IssueCookie, value: &str, secure: bool) -> String {
    let mut cookie =
        cookie::Cookie::build((issue.name.as_str(), value)).path("/").http_only(true).secure(secure).same_site(
            match issue.same_site {
                SameSite::Strict => cookie::SameSite::Strict,
                SameSite::Lax => cookie::SameSite::Lax,
                SameSite::None => cookie::SameSite::None,
            },
        );
    if let Some(max_age) = issue.max_age {
        cookie = cookie.max_age(time::Duration::seconds(max_age.as_secs().try_into().unwrap_or(i64::MAX)));
    }
    cookie.to_string()
}
