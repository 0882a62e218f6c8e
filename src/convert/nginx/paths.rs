//! The paths of a location, as prefixes.

use super::lex::Directive;
use crate::convert::fits;

/// The prefixes that a location takes.
pub(super) enum Paths {
    /// The same as the location, but for the border of segments.
    Same(Vec<String>),
    /// More than the location, in words.
    Wider(Vec<String>, &'static str),
    /// A location that others lead to by name.
    Named,
    /// Nothing that a prefix could stand for.
    Unknown,
}

/// Most prefixes that one regular expression stands for.
const MAX_PREFIXES: usize = 32;

pub(super) fn of(location: &Directive) -> Paths {
    let one = |text: &str| fits::path(text).map(|path| vec![path]);
    let (modifier, text) = match location.arguments.as_slice() {
        [text] => {
            let begin = ["^~", "~*", "=", "~"].into_iter().find(|begin| text.starts_with(begin));
            begin.map_or(("", text.as_str()), |begin| (begin, &text[begin.len()..]))
        }
        [modifier, text] => (modifier.as_str(), text.as_str()),
        _ => return Paths::Unknown,
    };
    match modifier {
        "" if text.starts_with('@') => Paths::Named,
        "" | "^~" => one(text).map_or(Paths::Unknown, Paths::Same),
        "=" => one(text)
            .map_or(Paths::Unknown, |paths| Paths::Wider(paths, "a prefix: it takes what is below that path, too")),
        "~" => prefixes(text).map_or(Paths::Unknown, |paths| {
            Paths::Wider(paths, "prefixes in place of the regular expression; the longest one that fits decides")
        }),
        "~*" => prefixes(text).map_or(Paths::Unknown, |paths| {
            Paths::Wider(paths, "prefixes in place of the regular expression, and in this letter case alone")
        }),
        _ => Paths::Unknown,
    }
}

/// The prefixes of an expression such as `^/(api|ws)/`: plain text from the beginning on, with one choice in it.
fn prefixes(expression: &str) -> Option<Vec<String>> {
    let mut rest = expression.strip_prefix('^')?;
    let ends = ["$", "/(.*)", "/.*", "(.*)", ".*", "/(.+)", "/.+", "(/|$)", "(?:/|$)", "/?", "(/.*)?"];
    while let Some(shorter) = ends.iter().find_map(|end| rest.strip_suffix(end)) {
        // A `\` before the end makes a letter of it.
        if shorter.ends_with('\\') {
            return None;
        }
        rest = shorter;
    }
    let mut found = vec![String::new()];
    let mut rest = rest.chars();
    while let Some(c) = rest.next() {
        match c {
            '(' => {
                let (group, behind) = rest.as_str().split_once(')')?;
                let options: Option<Vec<String>> =
                    group.strip_prefix("?:").unwrap_or(group).split('|').map(literal).collect();
                let options = options?;
                found = found.iter().flat_map(|begin| options.iter().map(move |end| format!("{begin}{end}"))).collect();
                rest = behind.chars();
            }
            '\\' => {
                let letter = rest.next().filter(char::is_ascii_punctuation)?;
                found.iter_mut().for_each(|path| path.push(letter));
            }
            c if is_plain(c) => found.iter_mut().for_each(|path| path.push(c)),
            _ => return None,
        }
        if found.len() > MAX_PREFIXES {
            return None;
        }
    }
    let paths: Option<Vec<String>> =
        found.iter().map(|path| fits::path(if path.is_empty() { "/" } else { path })).collect();
    paths
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/_-".contains(c)
}

fn literal(text: &str) -> Option<String> {
    let unescaped = text.replace("\\.", ".").replace("\\/", "/").replace("\\-", "-");
    let dots = text.matches('.').count() - text.matches("\\.").count();
    (dots == 0 && !text.is_empty() && unescaped.chars().all(|c| is_plain(c) || c == '.')).then_some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_expressions_become_prefixes() {
        for (expression, expected) in [
            ("^/(api|ws)/", Some(vec!["/api", "/ws"])),
            ("^/socket\\.io/", Some(vec!["/socket.io"])),
            ("^/api/(?:events|stream)$", Some(vec!["/api/events", "/api/stream"])),
            ("^/(.*)$", Some(vec!["/"])),
            ("^/user/[0-9]+", None),
            ("\\.php$", None),
            ("^/a.c", None),
            ("^/(a|", None),
            ("", None),
        ] {
            let found = prefixes(expression);
            assert_eq!(found, expected.map(|paths| paths.into_iter().map(str::to_owned).collect()), "{expression}");
        }
    }
}
