//! YAML text with comments: a tree of keys and values, and how it is written.

use std::fmt::Write as _;

/// A value of the tree.
#[derive(Clone, Debug)]
pub(super) enum Yaml {
    /// Written as it is: a number, a word of Longhaul's.
    Word(String),
    /// A text of the source's; quoted where YAML needs that.
    Text(String),
    /// Items on one line, in brackets.
    Row(Vec<Yaml>),
    /// Keys on one line, in braces.
    Inline(Vec<(String, Yaml)>),
    List(Vec<DocumentEntry>),
    Map(Vec<DocumentEntry>),
}

/// A key of a mapping, or an item of a list (without a key), with comments above it.
#[derive(Clone, Debug)]
pub(super) struct DocumentEntry {
    pub(super) key: String,
    pub(super) value: Yaml,
    pub(super) comments: Vec<String>,
}

impl Yaml {
    pub(super) fn word(text: impl ToString) -> Self {
        Self::Word(text.to_string())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl DocumentEntry {
    pub(super) fn new(key: &str, value: Yaml) -> Self {
        Self { key: key.to_owned(), value, comments: Vec::new() }
    }

    pub(super) fn item(value: Yaml, comments: Vec<String>) -> Self {
        Self { key: String::new(), value, comments }
    }
}

/// The text of a document. An empty line stands before and behind each key of the top level that has others below it.
pub(super) fn written(entries: &[DocumentEntry]) -> String {
    let mut text = String::new();
    let mut after_block = false;
    for entry in entries {
        let is_block = matches!(entry.value, Yaml::List(_) | Yaml::Map(_));
        if (is_block || after_block) && !text.is_empty() {
            text.push('\n');
        }
        write_entry(&mut text, entry, 0);
        after_block = is_block;
    }
    text
}

fn write_entry(text: &mut String, entry: &DocumentEntry, depth: usize) {
    let indent = "  ".repeat(depth);
    for comment in &entry.comments {
        write_comment(text, &indent, comment);
    }
    let key = scalar(&entry.key);
    match &entry.value {
        Yaml::Map(entries) => {
            let _ = writeln!(text, "{indent}{key}:");
            entries.iter().for_each(|entry| write_entry(text, entry, depth + 1));
        }
        Yaml::List(items) => {
            let _ = writeln!(text, "{indent}{key}:");
            items.iter().for_each(|item| write_item(text, item, depth + 1));
        }
        flat => {
            let _ = writeln!(text, "{indent}{key}: {}", flow(flat));
        }
    }
}

fn write_item(text: &mut String, item: &DocumentEntry, depth: usize) {
    let indent = "  ".repeat(depth);
    for comment in &item.comments {
        write_comment(text, &indent, comment);
    }
    let Yaml::Map(entries) = &item.value else {
        let _ = writeln!(text, "{indent}- {}", flow(&item.value));
        return;
    };
    // The first key stands behind the dash, in the column of the others.
    let mut inner = String::new();
    entries.iter().for_each(|entry| write_entry(&mut inner, entry, depth + 1));
    let begins = inner.find(|c| c != ' ').unwrap_or_default();
    let starts_with_comment = inner[begins..].starts_with('#');
    if starts_with_comment {
        let _ = writeln!(text, "{indent}-");
        text.push_str(&inner);
    } else {
        let _ = write!(text, "{indent}- {}", &inner[begins..]);
    }
}

fn flow(value: &Yaml) -> String {
    match value {
        Yaml::Word(word) => word.clone(),
        Yaml::Text(text) => scalar(text),
        Yaml::Row(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Inline(entries) if entries.is_empty() => "{}".to_owned(),
        Yaml::Inline(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Yaml::List(items) => flow(&Yaml::Row(items.iter().map(|item| item.value.clone()).collect())),
        Yaml::Map(entries) => {
            flow(&Yaml::Inline(entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()))
        }
    }
}

/// A text as YAML has it: plain where nothing in it could be taken for something else.
pub(super) fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let inner = |c: char| plain(c) || c == ':';
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && text.chars().all(inner)
        && !text.ends_with(':')
        && !text.contains("::");
    let is_word = text.chars().any(|c| c.is_ascii_alphabetic() || c == '/') || text.matches([':', '.']).count() >= 3;
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let number_like = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    if fits && is_word && !number_like && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_graphic() || c == ' ' => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Columns of a comment's lines.
const WIDTH: usize = 116;

fn write_comment(text: &mut String, indent: &str, comment: &str) {
    let mut column = 0;
    for word in comment.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column == 0 {
            let _ = write!(text, "{indent}# {word}");
            column = indent.len() + 2 + length;
        } else if column + 1 + length > WIDTH {
            let _ = write!(text, "\n{indent}#   {word}");
            column = indent.len() + 4 + length;
        } else {
            let _ = write!(text, " {word}");
            column += 1 + length;
        }
    }
    text.push('\n');
}

/// A comment of the whole file, as lines of its own.
pub(super) fn comment(comment: &str) -> String {
    let mut text = String::new();
    write_comment(&mut text, "", comment);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_it_could_be_something_else() {
        let plain = ["chat.example.com", "/ws/", "127.0.0.1:9001", "x-room", "app:3000"];
        assert_eq!(plain.map(scalar), plain.map(str::to_owned));
        for (text, written) in [
            ("*.example.com", "\"*.example.com\""),
            ("[::]:80", "\"[::]:80\""),
            ("", "\"\""),
            ("12", "\"12\""),
            ("1e3", "\"1e3\""),
            ("on", "\"on\""),
            ("a\nb: \"c\" \\", "\"a\\nb: \\\"c\\\" \\\\\""),
            ("# no", "\"# no\""),
            ("\u{2028}\u{7}", "\"\\U00002028\\U00000007\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn comments_stand_above_what_they_are_about() {
        let backend = DocumentEntry::item(Yaml::text("10.0.0.1:80"), vec!["a first".into(), "b".into()]);
        let map = DocumentEntry::new("u", Yaml::Map(vec![DocumentEntry::new("backends", Yaml::List(vec![backend]))]));
        let text = written(&[
            DocumentEntry::new("version", Yaml::word(1)),
            DocumentEntry::new("upstreams", Yaml::Map(vec![map])),
        ]);
        let expected =
            "version: 1\n\nupstreams:\n  u:\n    backends:\n      # a first\n      # b\n      - 10.0.0.1:80\n";
        assert_eq!(text, expected);
    }
}
