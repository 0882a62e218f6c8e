//! Affinity: the rule that takes the ring key from a request. It is a pure function of request and configuration.
//!
//! Sources are asked in the order written; the first that has a value gives the key. An absent or empty value is never
//! hashed: it would put every client without one on the same backend. Values are taken raw, as nginx takes them for
//! `hash $cookie_… | $http_… | $arg_… | $remote_addr consistent`, so that the same bytes reach the same ring.

pub mod born;
mod caching;
mod cookie;
mod read;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderMap;
use sha1::{Digest as _, Sha1};

use crate::config::{AffinitySource, IssueCookie};
use crate::http1::HeaderFields;

pub use self::caching::made_private;
pub use self::cookie::{mint, set_cookie};

/// The parts of a request that affinity depends on.
#[derive(Debug)]
pub struct AffinityInput<'a, F: ?Sized = HeaderMap> {
    /// The request's header fields.
    pub headers: &'a F,
    /// The request target's query, without the `?`, not decoded.
    pub query: Option<&'a str>,
    /// The client's address, by `client::Client`.
    pub client: IpAddr,
    /// Fingerprint of the certificate that the client presented.
    pub certificate: Option<&'a str>,
}

/// The ring key of a request, and its source.
///
/// The value is often a client's secret: neither `Debug` nor [`Key::digest`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key<'s> {
    /// Bytes that are hashed; never empty.
    pub bytes: Vec<u8>,
    /// The kind of source that gave it.
    pub source: KeySource,
    /// The cookie to set on the answer, with `bytes` as its value; `None` where the client sent the value.
    pub issued: Option<&'s IssueCookie>,
}

/// Declares [`KeySource`], with the name of each kind in one table.
macro_rules! sources {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The kind of source a key came from.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum KeySource {
            $($(#[$doc])* $kind,)*
        }

        impl KeySource {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its name, as the configuration, metric labels, logs and the passports of tunnels have it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

sources! {
    /// `cookie`
    Cookie = "cookie",
    /// `header`
    Header = "header",
    /// `query`
    Query = "query",
    /// `issue_cookie`, whether the client brought it or it was minted for this request.
    IssueCookie = "issue_cookie",
    /// `client_ip`
    ClientIp = "client_ip",
    /// `client_certificate`
    ClientCertificate = "client_certificate",
    /// A hook, and not a source of the configuration.
    Hook = "hook",
}

/// The key of a request by the first of `sources` that has a value, or `None` where none has one.
///
/// If a cookie born on the backend is among the sources and none has a value, the key is drawn at random: the
/// session that the backend may begin must have a place.
///
/// `mint` draws a key and must not return an empty text; a running gateway passes [`mint`]. It is called at most once,
/// when an `issue_cookie` is reached and the client did not send one, or when a key is drawn.
pub fn key<'s>(
    sources: &'s [AffinitySource],
    request: &AffinityInput<'_, impl HeaderFields + ?Sized>,
    mint: impl FnOnce() -> String,
) -> Option<Key<'s>> {
    for at in sources {
        let (source, value) = match at {
            AffinitySource::Cookie(name) => (KeySource::Cookie, read::cookie(request.headers, name)),
            AffinitySource::BackendCookie(name) => (KeySource::Cookie, born::key(request.headers, name)),
            AffinitySource::Header(name) => (KeySource::Header, read::header(request.headers, name)),
            AffinitySource::Query(name) => (KeySource::Query, read::query(request.query, name)),
            AffinitySource::ClientIp { ipv4_prefix, ipv6_prefix } => {
                (KeySource::ClientIp, Some(read::client_ip(request.client, *ipv4_prefix, *ipv6_prefix)))
            }
            AffinitySource::ClientCertificate => {
                (KeySource::ClientCertificate, request.certificate.map(|fingerprint| fingerprint.as_bytes().to_vec()))
            }
            AffinitySource::IssueCookie(issue) => {
                let brought = read::cookie(request.headers, &issue.name);
                let issued = brought.is_none().then_some(issue);
                let bytes = brought.unwrap_or_else(|| mint().into_bytes());
                return Some(Key { bytes, source: KeySource::IssueCookie, issued });
            }
        };
        if let Some(bytes) = value {
            return Some(Key { bytes, source, issued: None });
        }
    }
    born::names(sources).next()?;
    Some(Key { bytes: mint().into_bytes(), source: KeySource::Cookie, issued: None })
}

impl Key<'_> {
    /// Stands for the value in logs.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The `Set-Cookie` value that gives a minted key to the client; `None` for other keys. See [`set_cookie`].
    pub fn set_cookie(&self, secure: bool) -> Option<String> {
        self.issued.map(|issue| set_cookie(issue, &String::from_utf8_lossy(&self.bytes), secure))
    }
}

/// Stands for a key in logs: the first 32 bits of its SHA-1, written as eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u32);

impl Digest {
    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        let [a, b, c, d, ..]: [u8; 20] = Sha1::digest(key).into();
        Self::from_bytes([a, b, c, d])
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// Its four bytes.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = f.debug_struct("Key");
        key.field("source", &self.source)
            .field("digest", &self.digest())
            .field("issued", &self.issued.is_some())
            .finish()
    }
}

impl KeySource {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|source| source.as_str() == name)
    }

    /// The name of a source, and `none` for a request without a key.
    pub fn name_of(source: Option<Self>) -> &'static str {
        source.map_or("none", Self::as_str)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
