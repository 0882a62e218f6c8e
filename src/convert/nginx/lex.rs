//! nginx's grammar: words, quotes and escapes as `ngx_conf_read_token` reads them, and directives in blocks.

use std::sync::Arc;

use crate::convert::place::{SourceLine, SourcePlace, SourceProblem};

/// A directive with its arguments, and what stands in its block.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
    pub(super) place: SourcePlace,
}

impl Directive {
    /// The argument at an index; empty where there is none.
    pub(super) fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).map_or("", String::as_str)
    }

    /// The line as notes show it; of header values only the names.
    pub(super) fn line(&self) -> SourceLine {
        let shown = match self.name.as_str() {
            "proxy_set_header" | "add_header" | "auth_basic" => 1,
            _ => self.arguments.len(),
        };
        let mut words = vec![self.name.as_str()];
        words.extend(self.arguments.iter().take(shown).map(String::as_str));
        SourceLine::new(&self.place, &words)
    }

    pub(super) fn below(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Most levels of blocks: nginx needs four, and locations in locations a few more.
const MAX_DEPTH: usize = 32;

/// Reads the directives of a text. Problems are added to `problems`; what could be read is returned all the same.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Vec<SourceProblem>) -> Vec<Directive> {
    let mut reader = Reader { file, rest: text.chars().peekable(), line: 1, problems };
    let mut open: Vec<Open> = Vec::new();
    let mut directives = Vec::new();
    loop {
        let (mut words, place, end) = reader.words();
        let is_deep = open.len() >= MAX_DEPTH;
        let inside = open.last_mut().map_or(&mut directives, |open| &mut open.directives);
        match end {
            End::Semicolon if !words.is_empty() => inside.push(directive(words, None, place)),
            End::Semicolon => reader.problem(&place, "`;` without a directive", "a directive, such as `listen 80;`"),
            End::Opening if words.is_empty() || is_deep => {
                let expected = format!("the name of a block before it, and at most {MAX_DEPTH} levels");
                reader.problem(&place, "unexpected `{`", &expected);
                reader.skip_block();
            }
            End::Opening if words[0].ends_with("_by_lua_block") => {
                reader.skip_block();
                inside.push(directive(words, None, place));
            }
            End::Opening => open.push(Open { words, place, directives: Vec::new() }),
            End::Closing => {
                if !words.is_empty() {
                    let name = words.swap_remove(0);
                    let message = format!("`}}` behind `{name}`");
                    reader.problem(&place, &message, "`;` at the directive's end");
                }
                match open.pop() {
                    None => reader.problem(&place, "`}` without a `{`", "a directive, or the end of the file"),
                    Some(Open { words, place, directives: block }) => {
                        let parent = open.last_mut().map_or(&mut directives, |open| &mut open.directives);
                        parent.push(directive(words, Some(block), place));
                    }
                }
            }
            End::File => {
                if !words.is_empty() {
                    let message = format!("the file ends in the directive `{}`", words[0]);
                    reader.problem(&place, &message, "`;` or `{`");
                }
                for Open { words, place, .. } in open {
                    let message = format!("the block `{}` is not closed", words[0]);
                    reader.problem(&place, &message, "`}` before the end of the file");
                }
                return directives;
            }
        }
    }
}

fn directive(mut words: Vec<String>, block: Option<Vec<Directive>>, place: SourcePlace) -> Directive {
    let arguments = words.split_off(1);
    Directive { name: words.pop().unwrap_or_default(), arguments, block, place }
}

/// A block that has begun.
struct Open {
    /// At least one.
    words: Vec<String>,
    place: SourcePlace,
    directives: Vec<Directive>,
}

/// The character that ended a list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Semicolon,
    Opening,
    Closing,
    File,
}

struct Reader<'r> {
    file: &'r Arc<str>,
    rest: std::iter::Peekable<std::str::Chars<'r>>,
    line: usize,
    problems: &'r mut Vec<SourceProblem>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn place(&self) -> SourcePlace {
        SourcePlace { file: Arc::clone(self.file), line: self.line }
    }

    fn problem(&mut self, place: &SourcePlace, message: &str, expected: &str) {
        self.problems.push(SourceProblem::new(place, message, expected));
    }

    /// Words up to the end of a directive or to a brace, the place of the first one, and that end.
    fn words(&mut self) -> (Vec<String>, SourcePlace, End) {
        let mut words = Vec::new();
        let mut place = None;
        loop {
            let Some(&next) = self.rest.peek() else {
                return (words, place.unwrap_or_else(|| self.place()), End::File);
            };
            let end = match next {
                ';' => End::Semicolon,
                '{' => End::Opening,
                '}' => End::Closing,
                '#' => {
                    while self.rest.peek().is_some_and(|&c| c != '\n') {
                        self.next();
                    }
                    continue;
                }
                c if c.is_ascii_whitespace() || c == '\u{feff}' => {
                    self.next();
                    continue;
                }
                _ => {
                    let at = self.place();
                    words.push(self.word(&at));
                    place.get_or_insert(at);
                    continue;
                }
            };
            let at = place.unwrap_or_else(|| self.place());
            self.next();
            return (words, at, end);
        }
    }

    fn word(&mut self, at: &SourcePlace) -> String {
        match self.rest.peek().copied() {
            Some(quote @ ('"' | '\'')) => {
                self.next();
                self.quoted(quote, at)
            }
            _ => self.bare(),
        }
    }

    /// A word in quotes, up to the quote that closes it.
    fn quoted(&mut self, quote: char, at: &SourcePlace) -> String {
        let mut word = String::new();
        loop {
            match self.next() {
                None => {
                    self.problem(at, "a quote is not closed", &format!("`{quote}` at the word's end"));
                    return word;
                }
                Some('\\') => self.escaped(&mut word),
                Some(c) if c == quote => break,
                Some(c) => word.push(c),
            }
        }
        let follows = self.rest.peek().copied();
        if follows.is_some_and(|c| !c.is_ascii_whitespace() && !";{)".contains(c)) {
            let at = self.place();
            self.problem(&at, "a character right behind a quote", "a space, `;` or `{` behind the quote");
        }
        word
    }

    /// A word without quotes: `${` does not begin a block.
    fn bare(&mut self) -> String {
        let mut word = String::new();
        while let Some(&next) = self.rest.peek() {
            if next.is_ascii_whitespace() || next == ';' || next == '{' && !word.ends_with('$') {
                break;
            }
            self.next();
            match next {
                '\\' => self.escaped(&mut word),
                c => word.push(c),
            }
        }
        word
    }

    /// Adds what a backslash and the character behind it stand for. A backslash stays before others than nginx's own.
    fn escaped(&mut self, word: &mut String) {
        match self.next() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c) => word.extend(['\\', c]),
            None => word.push('\\'),
        }
    }

    /// Skips what no reader of directives understands, up to the brace that closes it.
    fn skip_block(&mut self) {
        let mut depth = 1_u32;
        while let Some(c) = self.next() {
            match c {
                '{' => depth = depth.saturating_add(1),
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> String {
        fn one(directive: &Directive) -> String {
            let Directive { name, arguments, block, place } = directive;
            let below = block.as_ref().map(|block| block.iter().map(one).collect::<Vec<_>>().join(" "));
            let below = below.map(|below| format!(" {{{below}}}")).unwrap_or_default();
            format!("{}:{name}{arguments:?}{below}", place.line)
        }
        let mut problems = Vec::new();
        let read = read(&"f".into(), text, &mut problems);
        let problems: Vec<_> =
            problems.iter().map(|problem| format!(" !{}: {}", problem.place.line, problem.message)).collect();
        read.iter().map(one).collect::<Vec<_>>().join(" ") + &problems.concat()
    }

    #[test]
    fn words_quotes_and_escapes_are_nginxs() {
        for (text, expected) in [
            ("a;", "1:a[]"),
            ("a 'b c' \"d;{}\" ;", r#"1:a["b c", "d;{}"]"#),
            (r#"a "\"\\\n" b\;c '\d';"#, r#"1:a["\"\\\n", "b\\;c", "\\d"]"#),
            ("a ${x}y$z{b;}", r#"1:a["${x}y$z"] {1:b[]}"#),
            ("a # no; {\n b;", r#"1:a["b"]"#),
            ("a b#c;", r#"1:a["b#c"]"#),
            ("a{\nb{}\n}\nc 1\n2;", r#"1:a[] {2:b[] {}} 4:c["1", "2"]"#),
            ("x_by_lua_block { if a then {} end; }\nb;", "1:x_by_lua_block[] 2:b[]"),
        ] {
            assert_eq!(flat(text), expected, "{text}");
        }
    }

    #[test]
    fn every_broken_place_is_named() {
        for (text, expected) in [
            ("a", " !1: the file ends in the directive `a`"),
            ("a {\n b;\n", " !1: the block `a` is not closed"),
            ("a;\n}\nb;", "1:a[] 3:b[] !2: `}` without a `{`"),
            ("a 'b;\n", " !1: a quote is not closed !1: the file ends in the directive `a`"),
            ("a { b }", "1:a[] {} !1: `}` behind `b`"),
            ("a 'b'c; ;", "1:a[\"b\", \"c\"] !1: a character right behind a quote !1: `;` without a directive"),
            ("{ a; } b;", "1:b[] !1: unexpected `{`"),
        ] {
            assert_eq!(flat(text), expected, "{text}");
        }
    }
}
