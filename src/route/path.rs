//! Paths as routes compare them: normalised by RFC 3986 §6.2.2, so that one resource has one spelling.
//!
//! Percent-encoded unreserved characters are decoded, `.` and `..` are resolved, `//` counts as `/`. The backend gets
//! the path as the client wrote it; only the choice of the route looks at this form.

use std::borrow::Cow;

/// Brings a path into the form that routes compare: `/%61dmin`, `//admin` and `/x/../admin` all become `/admin`.
///
/// `..` above the root is ignored (RFC 3986 §5.2.4). Other percent-encodings stay, their digits in upper case, and a
/// `%` that encodes nothing becomes `%25`. A target that does not begin with `/` (`*`) stays as it is.
pub fn normalized(path: &str) -> Cow<'_, str> {
    if is_surely_normal(path) { Cow::Borrowed(path) } else { read(path, |_| None) }
}

/// Tells by one look at each byte that nothing in a path is encoded, and that no segment is empty or begins with a dot.
fn is_surely_normal(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let is_normal = byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        is_normal
    })
}

/// The path as a careless backend may read it, in the form of [`normalized`]: encoded slashes and backslashes separate
/// segments, a `;` ends one (RFC 3986 §3.3 allows parameters there), and encoded control characters are left out, as
/// whoever trims a path does. `None` where the path has one reading only.
pub fn other_reading(path: &str) -> Option<Cow<'_, str>> {
    let may_differ = path.contains([';', '\\', '%']);
    may_differ.then(|| {
        let careless = |byte: u8| match byte {
            b'/' | b'\\' => Some(b'/'),
            _ => byte.is_ascii_control().then_some(byte),
        };
        let separators = decoded(path, careless).replace('\\', "/");
        let visible = separators.replace(|character: char| character.is_ascii_control(), "");
        let without_parameters: Vec<_> = visible.split('/').map(|segment| cut(segment, ';')).collect();
        Cow::Owned(resolved(&without_parameters.join("/")).into_owned())
    })
}

/// Tells whether the path can be read in two ways by slashes in it: it has an encoded slash, a backslash, an encoded
/// backslash, or a `..` above the root.
pub fn is_ambiguous(path: &str) -> bool {
    let encoded = |code: &[u8]| path.as_bytes().windows(3).any(|window| window.eq_ignore_ascii_case(code));
    path.contains('\\') || encoded(b"%2f") || encoded(b"%5c") || climbs_out(&decoded(path, |_| None))
}

/// Decodes unreserved characters, and those that `more` translates, and resolves the segments.
fn read(path: &str, more: impl Fn(u8) -> Option<u8>) -> Cow<'_, str> {
    match decoded(path, more) {
        Cow::Borrowed(path) => resolved(path),
        Cow::Owned(path) => Cow::Owned(resolved(&path).into_owned()),
    }
}

/// Decodes percent-encoded unreserved characters (RFC 3986 §2.3), and encoded characters for which `more` has another.
/// A `%` that encodes nothing stands for itself, and is encoded: what is decoded behind it must not make an encoding of
/// it.
fn decoded(path: &str, more: impl Fn(u8) -> Option<u8>) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(byte) = encoded_byte(rest) else {
            text.push_str("%25");
            rest = &rest[1..];
            continue;
        };
        match more(byte).or(is_unreserved(byte).then_some(byte)) {
            Some(byte) => text.push(char::from(byte)),
            None => text.push_str(&rest[..3].to_ascii_uppercase()),
        }
        rest = &rest[3..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The byte that the percent-encoding at the beginning of `text` stands for; `None` where it is not well-formed.
fn encoded_byte(text: &str) -> Option<u8> {
    let digits = text.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Resolves `.` and `..`, and leaves out empty segments but for the last.
fn resolved(path: &str) -> Cow<'_, str> {
    let Some(rest) = path.strip_prefix('/') else { return Cow::Borrowed(path) };
    let is_plain = |segment: &str| !matches!(segment, "." | "..") && !segment.is_empty();
    let mut segments = rest.split('/');
    let last = segments.next_back().unwrap_or_default();
    if segments.all(is_plain) && !matches!(last, "." | "..") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in rest.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in &kept {
        text.push('/');
        text.push_str(segment);
    }
    if kept.is_empty() || matches!(last, "" | "." | "..") {
        text.push('/');
    }
    Cow::Owned(text)
}

/// Tells whether `..` leads above the root.
fn climbs_out(path: &str) -> bool {
    let mut depth = 0_usize;
    path.split('/').any(|segment| {
        match segment {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
        false
    })
}

fn cut(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for spelling in [
            "/admin",
            "/%61dmin",
            "/%61%64%6d%69%6E",
            "//admin",
            "///admin",
            "/x/../admin",
            "/./admin",
            "/%2e/admin",
            "/x/%2E%2e/admin",
            "/x/y/../../admin",
            "/x//../admin",
            "/../admin",
        ] {
            assert_eq!(normalized(spelling), "/admin", "{spelling}");
        }
    }

    #[test]
    fn other_paths_stay_apart() {
        for (path, expected) in [
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/..", "/"),
            ("/admin/", "/admin/"),
            ("/admin/.", "/admin/"),
            ("/a/b/..", "/a/"),
            ("/Admin", "/Admin"),
            ("/admin%2fx", "/admin%2Fx"),
            ("/%2561dmin", "/%2561dmin"),
            ("/a%20b%C3%a4", "/a%20b%C3%A4"),
            ("/100%", "/100%25"),
            ("/%zz/%4", "/%25zz/%254"),
            ("/%%32f/%2%66", "/%252f/%252f"),
            ("/...", "/..."),
            ("/a;v=1", "/a;v=1"),
        ] {
            assert_eq!(normalized(path), expected, "{path}");
        }
    }

    #[test]
    fn a_careless_backend_may_read_a_path_otherwise() {
        for (path, expected) in [
            ("/admin%2fx", "/admin/x"),
            ("/x%2f..%2fadmin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/admin%5Cx", "/admin/x"),
            ("/admin;a=1/x;b", "/admin/x"),
            ("/x/..;/admin", "/admin"),
            ("/%2561", "/%2561"),
            ("/admin%0a", "/admin"),
            ("/%09admin%7F/%0d%0Ax", "/admin/x"),
            ("/x/.%01./admin", "/admin"),
            ("/%2%0a5", "/%2525"),
        ] {
            assert_eq!(other_reading(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(other_reading("/x/../admin"), None);
    }

    #[test]
    fn slashes_in_disguise_and_steps_above_the_root_are_ambiguous() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/..", "/a/../../b", "/%2e%2e/b", "/a/..//../b"] {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in ["/", "/a/b", "/a/../b", "/a/./b//c/", "/a%20b", "/a;b", "/...", "*", "/%"] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_its_own_form(path in "/[ab./%25eEfF;\\\\]{0,20}") {
            let once = normalized(&path).into_owned();
            let twice = normalized(&once);
            prop_assert_eq!(&*twice, &*once);
            prop_assert!(!once.contains("//") && !once.contains("/./") && !once.contains("/../"));
        }
    }
}
