//! `Cache-Control` of answers that set the issued cookie: a cache must not give one client's cookie to others.

/// Statuses that caches may keep without being told to (RFC 9110 §15.1).
const KEPT_BY_DEFAULT: [u16; 11] = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414];

/// The `Cache-Control` of an answer with an issued cookie, or `None` where the answer is to keep the one it has.
///
/// `lines` are the values of its `Cache-Control` lines. An answer to `GET` or `HEAD` that a shared cache may keep gains
/// `private` and loses `public`, which says the opposite. As in HAProxy (`cookie … nocache`) an answer with `private`,
/// `no-store` or `no-cache` is left alone.
pub fn made_private<'l>(method: &str, status: u16, lines: impl Iterator<Item = &'l [u8]>) -> Option<String> {
    let text: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    let directives = || text.iter().flat_map(|line| directives(line)).map(str::trim).filter(|text| !text.is_empty());
    let named = |name: &str| directives().any(|directive| name_of(directive).eq_ignore_ascii_case(name));
    let kept = matches!(method, "GET" | "HEAD")
        && (KEPT_BY_DEFAULT.contains(&status) || named("public") || named("max-age") || named("s-maxage"));
    if !kept || named("private") || named("no-store") || named("no-cache") {
        return None;
    }
    let others = directives().filter(|directive| !name_of(directive).eq_ignore_ascii_case("public"));
    Some(std::iter::once("private").chain(others).collect::<Vec<_>>().join(", "))
}

/// The name of a directive, without its value.
fn name_of(directive: &str) -> &str {
    directive.split('=').next().unwrap_or_default().trim()
}

/// The directives of one line; a comma in quotes ends none.
fn directives(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(status: u16, line: &str) -> Option<String> {
        made_private("GET", status, std::iter::once(line.as_bytes()).filter(|line| !line.is_empty()))
    }

    #[test]
    fn a_publicly_cacheable_answer_becomes_private() {
        assert_eq!(made(200, "public, max-age=3600").as_deref(), Some("private, max-age=3600"));
        assert_eq!(made(200, "").as_deref(), Some("private"));
        assert_eq!(made(404, "max-age=60").as_deref(), Some("private, max-age=60"));
        assert_eq!(
            made(302, "S-MaxAge=60, ext=\"a, no-store\"").as_deref(),
            Some("private, S-MaxAge=60, ext=\"a, no-store\"")
        );
    }

    #[test]
    fn an_answer_that_no_shared_cache_keeps_is_left_alone() {
        for line in ["private", "no-store", "max-age=5, NO-CACHE", "no-cache=\"set-cookie\"", "Private=\"x\", public"] {
            assert_eq!(made(200, line), None, "{line}");
        }
        assert_eq!(made(302, ""), None);
        assert_eq!(made(101, ""), None);
        assert_eq!(made_private("POST", 200, std::iter::once(b"public".as_slice())), None);
    }
}
