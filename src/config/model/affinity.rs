//! Values of `affinity`: the sources of ring keys, and the cookie that Longhaul sets.

use std::time::Duration;

/// A source of the ring key of a request; sources are asked in the order written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinitySource {
    /// `cookie`: the value of a cookie that the application sets, and that is known before the backend is picked.
    Cookie(String),
    /// `cookie` with `born_on: backend`: the key's place on the ring, which Longhaul puts before the value of this
    /// cookie when the backend sets it.
    BackendCookie(String),
    /// `header`: the value of a request header (its name in lower case).
    Header(String),
    /// `query`: the value of a query argument as the request target has it, not decoded (nginx's `$arg_…`).
    Query(String),
    /// `issue_cookie`: the value of a cookie that Longhaul sets where the client has none.
    IssueCookie(IssueCookie),
    /// `client_certificate`: SHA-256 of the certificate that the client presented (`client_auth`), in hexadecimal
    /// digits.
    ClientCertificate,
    /// `client_ip`: the client's address, cut to a prefix.
    ClientIp {
        /// `ipv4_prefix`: leading bits kept of an IPv4 address, 1 to 32, default 32.
        ipv4_prefix: u8,
        /// `ipv6_prefix`: leading bits kept of an IPv6 address, 1 to 128, default 64.
        ipv6_prefix: u8,
    },
}

/// `issue_cookie`: the cookie that Longhaul sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueCookie {
    /// `name`: default `longhaul`.
    pub name: String,
    /// `max_age`: `None` (the default, `session`) ends it with the browser's session.
    pub max_age: Option<Duration>,
    /// `same_site`: default `lax`.
    pub same_site: SameSite,
    /// `path`: default `/`.
    pub path: String,
    /// `domain`: the host that set the cookie and its subdomains get it; only the host itself where left out.
    pub domain: Option<String>,
    /// `secure`: default `auto`.
    pub secure: Secure,
    /// `partitioned`: the browser keeps a cookie for each site that the answer is embedded in (CHIPS), default `false`.
    pub partitioned: bool,
}

/// The `Secure` attribute of an issued cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// `auto`: set for clients that came by TLS, as far as a trusted proxy says so.
    Auto,
    /// `always`: set for all clients; browsers then keep the cookie only where they see TLS.
    Always,
}

/// The `SameSite` attribute of an issued cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// The browser sends the cookie with requests from the same site only.
    Strict,
    /// The browser sends the cookie with top-level navigation from other sites too.
    Lax,
    /// The browser sends the cookie always; it must be `Secure`.
    None,
}
