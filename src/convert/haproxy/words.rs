//! HAProxy's grammar: words, quotes, escapes and environment variables (configuration manual, 2.2 to 2.4), and lines
//! in sections.

use std::sync::Arc;

use crate::convert::files::Files;
use crate::convert::place::{SourceLine, SourcePlace, SourceProblem};

/// A line of a section.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    pub(super) place: SourcePlace,
}

impl Statement {
    /// The word at an index; empty where there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The words as notes show them; of header values only the names.
    pub(super) fn line(&self) -> SourceLine {
        let is_header = matches!(self.word(1), "set-header" | "add-header" | "send");
        let shown = if is_header { 3 } else { self.words.len() };
        SourceLine::new(&self.place, &self.words.iter().take(shown).map(String::as_str).collect::<Vec<_>>())
    }

    /// Tells whether the line begins with these words.
    pub(super) fn begins(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(word, wanted)| word == wanted)
    }
}

/// A section with its lines.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    /// The name behind `from`.
    pub(super) from: Option<String>,
    pub(super) statements: Vec<Statement>,
    pub(super) place: SourcePlace,
}

const SECTIONS: [&str; 17] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "program",
    "http-errors",
    "ring",
    "cache",
    "fcgi-app",
    "log-forward",
    "crt-store",
    "traces",
];

/// Reads all sections of a file; problems are added to `problems`.
pub(super) fn sections(
    file: &Arc<str>,
    text: &str,
    files: &dyn Files,
    problems: &mut Vec<SourceProblem>,
) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut set: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = SourcePlace { file: Arc::clone(file), line: index + 1 };
        let line = line.trim_start_matches('\u{feff}');
        let variable = |name: &str| {
            let own = set.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            own.or_else(|| files.variable(name))
        };
        let words = match words(line, &variable) {
            Ok(words) => words,
            Err((message, expected)) => {
                problems.push(SourceProblem::new(&place, message, expected));
                continue;
            }
        };
        let Some(first) = words.first() else { continue };
        if SECTIONS.contains(&first.as_str()) {
            sections.push(begun(first, &words, place, problems));
            continue;
        }
        if first.starts_with('.') {
            let expected = "a file without conditions: they are decided by the HAProxy that reads them";
            problems.push(SourceProblem::new(&place, format!("`{first}` is not evaluated"), expected));
            continue;
        }
        let Some(section) = sections.last_mut() else {
            let expected = "a section first: `global`, `defaults`, `frontend NAME`, `backend NAME`, `listen NAME`";
            problems.push(SourceProblem::new(&place, format!("`{first}` outside of a section"), expected));
            continue;
        };
        if section.kind == "global" && matches!(first.as_str(), "setenv" | "presetenv") && words.len() > 2 {
            set.push((words[1].clone(), words[2].clone()));
        }
        section.statements.push(Statement { words, place });
    }
    sections
}

/// The section that the line `words` begins, without statements.
fn begun(kind: &str, words: &[String], place: SourcePlace, problems: &mut Vec<SourceProblem>) -> Section {
    let word = |index: usize| words.get(index).cloned();
    if matches!(kind, "frontend" | "backend" | "listen") && word(1).is_none() {
        let message = format!("`{kind}` without a name");
        problems.push(SourceProblem::new(&place, message, "a name, such as `frontend web`"));
    }
    let from = words.iter().position(|word| word == "from").and_then(|at| word(at + 1));
    let name = word(1).filter(|name| name != "from").unwrap_or_default();
    Section { kind: kind.to_owned(), name, from, statements: Vec::new(), place }
}

/// The fault of a line, and what is expected there.
type Wrong = (String, &'static str);

/// The words of a line.
fn words(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    let mut quote = None;
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\'', None) | ('"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => escaped(&mut rest, word.get_or_insert_default())?,
            ('$', Some('"')) => expanded(&mut rest, variable, word.get_or_insert_default())?,
            ('#', None) => break,
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(("a quote is not closed".to_owned(), "the same quote at the word's end, on the same line"));
    }
    words.extend(word);
    Ok(words)
}

type Rest<'r> = std::iter::Peekable<std::str::Chars<'r>>;

fn escaped(rest: &mut Rest<'_>, word: &mut String) -> Result<(), Wrong> {
    match rest.next() {
        Some('n') => word.push('\n'),
        Some('r') => word.push('\r'),
        Some('t') => word.push('\t'),
        Some('x') => {
            let digits: String = rest.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
            let byte = byte.ok_or_else(|| (format!("`\\x{digits}` is no byte"), "`\\x` and two hexadecimal digits"))?;
            word.push(char::from(byte));
        }
        Some(c @ (' ' | '#' | '\\' | '"' | '\'' | '$')) => word.push(c),
        Some(c) => word.extend(['\\', c]),
        None => return Err(("the line ends in `\\`".to_owned(), "a character behind the backslash")),
    }
    Ok(())
}

/// The value of a variable behind its `$`.
fn expanded(rest: &mut Rest<'_>, variable: &dyn Fn(&str) -> Option<String>, word: &mut String) -> Result<(), Wrong> {
    let braced = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let mut default = None;
    if braced {
        let mut tail = String::new();
        loop {
            match rest.next() {
                Some('}') => break,
                Some(c) => tail.push(c),
                None => return Err((format!("`${{{name}` is not closed"), "`}` behind the variable's name")),
            }
        }
        default = tail.strip_prefix('-').map(str::to_owned);
    }
    if name.is_empty() {
        word.push('$');
        return Ok(());
    }
    match variable(&name).or(default) {
        Some(value) => {
            word.push_str(&value);
            Ok(())
        }
        None => Err((format!("the environment variable `{name}` is not set"), "the environment that HAProxy runs in")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_escapes_are_haproxys() {
        let variable = |name: &str| (name == "PORT").then(|| "80".to_owned());
        let read = |line| words(line, &variable);
        for (line, expected) in [
            ("  a b\tc # d", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"f", vec!["a", "b c", "d ef"]),
            (r"a b\ c \# \\", vec!["a", "b c", "#", "\\"]),
            (r#"a "\"x\"" '\"'"#, vec!["a", "\"x\"", "\\\""]),
            (r"a HTTP/1.1\r\nHost:\ x", vec!["a", "HTTP/1.1\r\nHost: x"]),
            ("bind \":${PORT}\" \"$PORT\" $PORT", vec!["bind", ":80", "80", "$PORT"]),
            ("a \"${NONE-x}\" ''", vec!["a", "x", ""]),
            (r"a \x41\d", vec!["a", "A\\d"]),
            ("", vec![]),
        ] {
            assert_eq!(read(line), Ok(expected.into_iter().map(str::to_owned).collect()), "{line}");
        }
        for line in ["a 'b", "a \"b", "a \\", "a \\xZ1", "a \"$NONE\"", "a \"${PORT\""] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
