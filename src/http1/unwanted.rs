//! Request header fields that backends do not get.

/// Kinds of request header fields that are taken out of a request before anybody looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwanted {
    /// Fields with `_` in their names.
    pub underscores: bool,
    /// Fields that say where a request came from, of a peer that is not believed.
    pub origins: bool,
}

impl Unwanted {
    /// Tells if no field is unwanted.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Tells if a field of this name, in any letter case, is unwanted.
    pub fn holds(self, name: &str) -> bool {
        self.underscores && name.contains('_') || self.origins && tells_origin(name)
    }
}

/// Tells if a field of this name says where a request came from: `Forwarded`, every `X-Forwarded-…`, and the names that
/// proxies and content networks have for a client's address.
pub fn tells_origin(name: &str) -> bool {
    let begins_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins_with("x-forwarded-") || ORIGINS.iter().any(|origin| name.eq_ignore_ascii_case(origin))
}

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
        for name in ["X-Forwarded-For", "x-forwarded-ssl", "FORWARDED", "X-Real-IP", "True-Client-IP"] {
            assert!(origins.holds(name), "{name}");
        }
        for name in ["x-forwarded", "forwarded-for", "x-room", "host", "via", "x_real_ip", "x-r\u{e9}al-ip"] {
            assert!(!origins.holds(name), "{name}");
        }
        let underscores = Unwanted { underscores: true, ..Unwanted::default() };
        assert!(underscores.holds("x_real_ip") && !underscores.holds("x-real-ip"));
        assert!(Unwanted::default().is_empty() && !origins.is_empty());
    }
}
