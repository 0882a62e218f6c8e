//! Request targets: the forms that RFC 9112 §3.2 knows, and the path and host in them.

use super::host;

/// The form of a request's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTarget<'b> {
    /// A path and query, or the `*` of `OPTIONS`: `Host` names the host.
    Own,
    /// An absolute URI. Its host counts, whatever `Host` says (RFC 9112 §3.2.2).
    Absolute {
        /// Host and port, as they came.
        host: &'b str,
        /// Path and query; may lack the slash, and may be empty.
        path: &'b str,
        /// The path that stands for an empty one.
        empty: &'static str,
    },
}

impl<'b> RequestTarget<'b> {
    /// Reads the target of a request; `None` where it has no form that the method allows.
    ///
    /// A scheme other than `http` and `https`, a URI with user information (RFC 9110 §4.2.4) or with another authority
    /// that is no [host](host::is_valid), and the `host:port` of `CONNECT` are no targets here.
    pub fn of(method: &str, target: &'b str) -> Option<Self> {
        if target.starts_with('/') || target == "*" && method == "OPTIONS" {
            return Some(Self::Own);
        }
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if host.is_empty() || host.starts_with(':') || !host::is_valid(host) {
            return None;
        }
        // RFC 9112 §3.2.4: an empty path asks about the server as a whole.
        let empty = if method == "OPTIONS" { "*" } else { "/" };
        Some(Self::Absolute { host, path, empty })
    }

    /// The path and query alone, of a target that came as `whole`.
    pub fn path(&self, whole: &str) -> String {
        match *self {
            Self::Own => whole.to_owned(),
            Self::Absolute { path: "", empty, .. } => empty.to_owned(),
            Self::Absolute { path, .. } if path.starts_with('/') => path.to_owned(),
            Self::Absolute { path, .. } => format!("/{path}"),
        }
    }
}

/// Tells whether the path of a target has an encoded NUL in it. Programs written in C take that for the path's end, so
/// that `/admin%00` is `/admin` to them; nginx refuses it. The query is left out: nobody looks for a route in it.
pub fn has_nul(target: &str) -> bool {
    let Some(first) = target.find('%') else { return false };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    path.get(first..).is_some_and(|path| path.contains("%00"))
}

/// The target with the characters percent-encoded that stand in no URI, though programs send them; `None` where there
/// are none.
pub fn encoded(target: &str) -> Option<String> {
    let is_foreign = |character: &char| matches!(character, '<' | '>' | '"' | '`');
    if !target.chars().any(|character| is_foreign(&character)) {
        return None;
    }
    let encode = |character: char| match is_foreign(&character) {
        true => format!("%{:02X}", u32::from(character)),
        false => character.to_string(),
    };
    Some(target.chars().map(encode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_stand_in_no_uri_are_encoded() {
        assert_eq!(encoded("/a?b=%20&c"), None);
        assert_eq!(encoded("/<a>\u{e9}?\"").as_deref(), Some("/%3Ca%3E\u{e9}?%22"));
    }

    #[test]
    fn an_encoded_nul_counts_in_the_path_alone() {
        for target in ["/%00", "/admin%00", "/admin%00/x", "/%41%00?q", "http://h/%00", "/%%00"] {
            assert!(has_nul(target), "{target}");
        }
        for target in ["/", "/%", "/%0", "/?q=%00", "/a%41?q=%00", "/a#%00", "/%2500", "/%0a0"] {
            assert!(!has_nul(target), "{target}");
        }
    }

    fn read(method: &str, target: &str) -> Option<(Option<String>, String)> {
        let read = RequestTarget::of(method, target)?;
        let host = if let RequestTarget::Absolute { host, .. } = read { Some(host.to_owned()) } else { None };
        Some((host, read.path(target)))
    }

    #[test]
    fn a_target_is_a_path_or_an_absolute_uri_with_its_host() {
        let own = |path: &str| Some((None, path.to_owned()));
        let absolute = |host: &str, path: &str| Some((Some(host.to_owned()), path.to_owned()));
        assert_eq!(read("GET", "/a?b"), own("/a?b"));
        assert_eq!(read("GET", "//a"), own("//a"));
        assert_eq!(read("OPTIONS", "*"), own("*"));
        assert_eq!(read("GET", "http://h"), absolute("h", "/"));
        assert_eq!(read("OPTIONS", "http://h"), absolute("h", "*"));
        assert_eq!(read("OPTIONS", "http://h/"), absolute("h", "/"));
        assert_eq!(read("GET", "HTTPS://h:1?q=http://x/"), absolute("h:1", "/?q=http://x/"));
        assert_eq!(read("GET", "http://[::1]:80//x"), absolute("[::1]:80", "//x"));
    }

    #[test]
    fn other_forms_are_no_targets() {
        for target in ["*", "", "a", "h:80", "ftp://h/", "http:/h/", "http:///x", "http://u@h/", "http://:80/", "?q"] {
            assert_eq!(read("GET", target), None, "{target}");
        }
        for host in ["a%2f", "user%40h", "h:443:80", "h:x", "[h", "h[::1]", "a..b", "u:p@h", "h@", "a,b"] {
            assert_eq!(read("GET", &format!("http://{host}/")), None, "{host}");
        }
        for target in ["**", "*/", "h:80", "http://a\\b/"] {
            assert_eq!(read("OPTIONS", target), None, "{target}");
        }
    }
}
