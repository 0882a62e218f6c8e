//! Origins (RFC 6454), as pages have them and as settings name them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// An entry of `allow`: `same`, `https://app.example.com`, `https://app.example.com:8443` or `https://*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The host and port that the request asks for.
    Same,
    /// One origin, or those of every host below a name.
    Site(Allowed),
}

/// Origins that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    scheme: String,
    /// With a dot before it where it stands for every name below.
    host: String,
    port: Option<u16>,
}

/// An origin as a browser sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site<'o> {
    pub(super) scheme: &'o str,
    /// Nothing but ASCII.
    pub(super) host: &'o str,
    /// As sent, or the scheme's.
    pub(super) port: Option<u16>,
}

impl<'o> Site<'o> {
    /// The parts of an origin; `None` for `null` and for whatever else no browser sends for a page of a site.
    pub(super) fn parse(origin: &'o str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        let (host, port) = host_and_port(rest);
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
            }
        };
        // What is no port is left at the host.
        (is_scheme && is_host).then(|| Self { scheme, host, port: port.or(port_of(scheme)) })
    }
}

impl Allowed {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (dot, rest) = rest.strip_prefix("*.").map_or(("", rest), |below| (".", below));
        let origin = format!("{scheme}://{rest}");
        let Site { scheme, host, port } = Site::parse(&origin)?;
        Some(Self { scheme: scheme.to_owned(), host: format!("{dot}{host}"), port })
    }

    pub(super) fn covers(&self, site: &Site<'_>) -> bool {
        let below = site.host.len().saturating_sub(self.host.len());
        let covers_host = if self.host.starts_with('.') {
            below > 0 && site.host[below..].eq_ignore_ascii_case(&self.host)
        } else {
            site.host.eq_ignore_ascii_case(&self.host)
        };
        covers_host && site.scheme.eq_ignore_ascii_case(&self.scheme) && site.port == self.port
    }
}

/// A host and its port, where there is one.
pub(super) fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let split = authority.rsplit_once(':');
    let with_port = split.and_then(|(host, port)| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        Some((host, port.parse().ok().filter(|_| digits)?))
    });
    with_port.map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// The port that a scheme has where none is written.
pub(super) fn port_of(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;

        impl Visitor<'_> for Of {
            type Value = Pattern;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
                let says = |what: &str| Err(E::custom(format!("{what}\n  expected: {EXPECTED}")));
                if text == "same" {
                    return Ok(Pattern::Same);
                }
                match Allowed::parse(text) {
                    Some(allowed) => Ok(Pattern::Site(allowed)),
                    None if text == "*" => says("every page could connect\n  leave the hook out for that"),
                    None if text == "null" => says("`null` is what any sandboxed page sends"),
                    None if text.ends_with('/') || text.split("://").nth(1).is_some_and(|rest| rest.contains('/')) => {
                        says(&format!("`{text}` has a path, which no origin has"))
                    }
                    None => says(&format!("`{text}` is not an origin")),
                }
            }
        }

        deserializer.deserialize_str(Of)
    }
}

const EXPECTED: &str = "`same`, or an origin such as `https://app.example.com` or `https://*.example.com`";
