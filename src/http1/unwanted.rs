//! Request header fields that backends do not get.

use http::HeaderName;

use super::fields::reads_as;
use super::forward::{
    CLIENT_CERT, CLIENT_CERT_CHAIN, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REATTACH, REQUEST_ID, SESSION,
};

/// Kinds of request header fields that are taken out of a request before anybody looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwanted {
    /// Fields with `_` in their names.
    pub underscores: bool,
    /// Fields that say where a request came from, of a peer that is not believed.
    pub origins: bool,
}

impl Unwanted {
    /// Tells if a field of this name, in any letter case, is unwanted. One that would pass for a field of the gateway's
    /// own always is.
    pub fn holds(self, name: &str) -> bool {
        name.contains('_') && (self.underscores || OWN.iter().any(|own| reads_as(name, own.as_str())))
            || self.origins && tells_origin(name)
    }
}

/// Tells if a field of this name says where a request came from: `Forwarded`, every `X-Forwarded-…`, and the names that
/// proxies and content networks have for a client's address; with `_` for `-`, too.
pub fn tells_origin(name: &str) -> bool {
    let begins_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| reads_as(start, prefix));
    begins_with("x-forwarded-") || ORIGINS.iter().any(|origin| reads_as(name, origin))
}

/// Fields that the gateway adds to requests.
static OWN: [&HeaderName; 8] = [
    &CLIENT_CERT,
    &CLIENT_CERT_CHAIN,
    &FORWARDED_FOR,
    &FORWARDED_HOST,
    &FORWARDED_PROTO,
    &REATTACH,
    &REQUEST_ID,
    &SESSION,
];

const ORIGINS: [&str; 10] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unwanted_by_name_in_any_letter_case() {
        let origins = Unwanted { origins: true, ..Unwanted::default() };
        for name in [
            "X-Forwarded-For",
            "x-forwarded-ssl",
            "FORWARDED",
            "X-Real-IP",
            "True-Client-IP",
            "X_Forwarded-for",
            "x_real_ip",
        ] {
            assert!(origins.holds(name), "{name}");
        }
        for name in ["x-forwarded", "forwarded-for", "x-room", "host", "via", "x-r\u{e9}al-ip"] {
            assert!(!origins.holds(name), "{name}");
        }
        let underscores = Unwanted { underscores: true, ..Unwanted::default() };
        assert!(underscores.holds("x_real_ip") && !underscores.holds("x-real-ip"));
        for name in ["X_Request-ID", "client_cert", "x_forwarded_proto", "longhaul_session"] {
            assert!(Unwanted::default().holds(name), "{name}");
        }
        for name in ["x-request-id", "client-cert", "x_room", "x_request_ids"] {
            assert!(!Unwanted::default().holds(name), "{name}");
        }
    }
}
