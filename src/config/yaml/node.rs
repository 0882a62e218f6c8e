//! A YAML document as a tree in which every value knows its position.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::core_schema;
use super::problem::{Problem, Severity, printable, quoted};

/// A position in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
}

/// One value with all values below it. An alias shares the value it stands for.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
    /// Values in this tree, itself included. A shared value counts once for each place, a long text as several values.
    pub(crate) size: usize,
    /// Levels of this tree; 1 for a scalar.
    height: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Scalar {
        text: String,
        /// `true` where it was written without quotes, and may stand for a number, a truth value or null.
        plain: bool,
    },
    Sequence(Vec<Arc<Node>>),
    /// Entries in the order written; a key may occur twice.
    Mapping(Vec<Entry>),
}

/// Most levels of a document. Longhaul's deepest key is on the sixth.
const MAX_HEIGHT: usize = 32;

/// Most values of a document once its aliases are resolved: a hundred times what 10,000 backends need, and still read
/// within a second. Nine levels of aliases to nine aliases would be 400 million (the "billion laughs").
const MAX_SIZE: usize = 2_000_000;

/// Bytes of a text that count as one value more. A program that copies all values of a document thus keeps at most
/// 128 MB of text.
const TEXT_UNIT: usize = 64;

impl Mark {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Mark {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl Node {
    /// Tells whether this is a scalar that YAML's core schema reads as null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if core_schema::is_null(text))
    }

    /// A scalar without quotes that does not come from a file.
    pub(crate) fn loose(text: &str) -> Self {
        let content = Content::Scalar { text: text.to_owned(), plain: true };
        Self { mark: Mark::START, content, size: 1, height: 1 }
    }

    /// A mapping without entries, for one that was left out at `mark`.
    pub(crate) fn empty(mark: Mark) -> Self {
        Self { mark, content: Content::Mapping(Vec::new()), size: 1, height: 1 }
    }

    /// Tells whether both have the same meaning, whatever their positions. The order of a mapping's keys means nothing
    /// (YAML 1.2.2 §3.2.2.1).
    pub(crate) fn means_the_same_as(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::Scalar { text, plain }, Content::Scalar { text: other, plain: other_plain }) => {
                text == other && (plain == other_plain || core_schema::is_text(text))
            }
            (Content::Sequence(items), Content::Sequence(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.means_the_same_as(other))
            }
            (Content::Mapping(entries), Content::Mapping(others)) => {
                let same = |((key, value), (other_key, other)): (&Entry, &Entry)| {
                    key.means_the_same_as(other_key) && value.means_the_same_as(other)
                };
                entries.len() == others.len() && sorted(entries).into_iter().zip(sorted(others)).all(same)
            }
            _ => false,
        }
    }
}

type Entry = (Arc<Node>, Arc<Node>);

/// The entries of a mapping, sorted by the texts of their keys. Keys without a text keep the order written.
fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|(key, _)| match &key.content {
        Content::Scalar { text, .. } => text.as_str(),
        _ => "",
    });
    sorted
}

/// Reads the one document of `text`; `None` when the text has no value in it.
///
/// # Errors
/// The text has a syntax error, a second document, a tag, or more levels or values than a document may have. Only the
/// first problem is returned.
pub(crate) fn read(text: &str) -> Result<Option<Arc<Node>>, Problem> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax_error(text, &error))?;
        tree.take(event, span)?;
    }
    Ok(tree.root)
}

/// A tree under construction, from the events of the parser.
#[derive(Default)]
struct Tree {
    root: Option<Arc<Node>>,
    documents: usize,
    open: Vec<Open>,
    anchored: HashMap<usize, Arc<Node>>,
}

/// A sequence or mapping whose end has not been read yet.
struct Open {
    mark: Mark,
    anchor: usize,
    children: Children,
    size: usize,
    height: usize,
}

enum Children {
    Sequence(Vec<Arc<Node>>),
    Mapping { entries: Vec<Entry>, key: Option<Arc<Node>> },
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark::from(&span.start);
        match event {
            Event::DocumentStart(_) => self.start_document(mark),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err(problem(mark, "tags (`!…`) are not supported")
                    .expected("a value without a tag")
                    .remedy("remove the tag"))
            }
            Event::Scalar(text, style, anchor, None) => {
                let plain = style == ScalarStyle::Plain;
                let mark = self.mark_of_scalar(mark, &text);
                let size = 1 + text.len() / TEXT_UNIT;
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.close(Node { mark, content, size, height: 1 }, anchor)
            }
            Event::SequenceStart(anchor, None) => self.open(mark, anchor, Children::Sequence(Vec::new())),
            Event::MappingStart(anchor, None) => {
                self.open(mark, anchor, Children::Mapping { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchored.get(&anchor) {
                Some(node) => self.attach(Arc::clone(node), mark),
                None => Err(problem(mark, "an alias inside of what it stands for")
                    .expected("an anchor (`&name`) that ends before its alias (`*name`)")),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start_document(&mut self, mark: Mark) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(problem(mark, "a second YAML document")
                .expected("one document in one file")
                .remedy("remove the line `---` before it, or what follows it"));
        }
        Ok(())
    }

    fn open(&mut self, mark: Mark, anchor: usize, children: Children) -> Result<(), Problem> {
        if self.open.len() >= MAX_HEIGHT {
            return Err(too_deep(mark));
        }
        self.open.push(Open { mark, anchor, children, size: 1, height: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { mark, anchor, children, size, height }) = self.open.pop() else { return Ok(()) };
        let content = match children {
            Children::Sequence(items) => Content::Sequence(items),
            Children::Mapping { entries, .. } => Content::Mapping(entries),
        };
        self.close(Node { mark, content, size, height }, anchor)
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let mark = node.mark;
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchored.insert(anchor, Arc::clone(&node));
        }
        self.attach(node, mark)
    }

    fn attach(&mut self, node: Arc<Node>, mark: Mark) -> Result<(), Problem> {
        if self.open.len() + node.height > MAX_HEIGHT {
            return Err(too_deep(mark));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(node.size);
        parent.height = parent.height.max(node.height + 1);
        if parent.size > MAX_SIZE {
            return Err(problem(mark, "too many values, those repeated by aliases included").expected(format!(
                "at most {MAX_SIZE} values in one file, {TEXT_UNIT} bytes of text counting as one more"
            )));
        }
        match &mut parent.children {
            Children::Sequence(items) => items.push(node),
            Children::Mapping { entries, key } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
        }
        Ok(())
    }

    /// The position to report for a scalar. The parser places a value that was left out where the next token begins,
    /// which may be lines below; the position of its key is of more use.
    fn mark_of_scalar(&self, mark: Mark, text: &str) -> Mark {
        match self.open.last() {
            Some(Open { children: Children::Mapping { key: Some(key), .. }, .. }) if text.is_empty() => key.mark,
            _ => mark,
        }
    }
}

fn problem(mark: Mark, message: impl Into<String>) -> Problem {
    Problem::new(Severity::Error, mark, String::new(), message)
}

fn too_deep(mark: Mark) -> Problem {
    problem(mark, "values nested too deeply").expected(format!("at most {MAX_HEIGHT} levels"))
}

/// Explains the parser's message to the author of the file, as far as the mistake can be guessed.
fn syntax_error(text: &str, error: &ScanError) -> Problem {
    let info = error.info();
    let from_here: String = text.chars().skip(error.marker().index()).take_while(|c| !"\n,]}#".contains(*c)).collect();
    let word = from_here.split_whitespace().next().unwrap_or_default();
    let found = problem(error.marker().into(), format!("not YAML: {}", printable(info)));
    if info.contains("unknown anchor") {
        return problem(
            error.marker().into(),
            format!("{} is read as a YAML alias, and there is no such anchor", quoted(word)),
        )
        .remedy(format!("put a value that begins with `*` in quotes: `\"{}\"`", word.escape_debug()));
    }
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let bracket_and_port = line.split("]:").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    let remedy = if line.contains('\0') {
        "remove the NUL from this line: the file is no text, or was cut off while it was written"
    } else if bracket_and_port {
        "put an address that begins with `[` in quotes, such as `\"[::1]:8080\"`"
    } else if info.contains("tab") {
        "indent with spaces; a tab cannot be used for that"
    } else if info.contains("unexpected character") || info.contains("alphabetic or numeric character") {
        "put a value that begins with a special character in quotes"
    } else if info.contains("quoted scalar") {
        "close the quote, and mind that `\\` begins an escape inside double quotes"
    } else if info.contains("flow") || info.contains("bracket") || info.contains("placement") {
        "close every `[` with `]` and every `{` with `}`, and put `, ` between what they hold"
    } else {
        "look at this line and the one before: keys of one mapping begin in the same column, each ends with `: `, \
         and a value with `: `, ` #`, `[` or `{` in it needs quotes"
    };
    found.remedy(remedy)
}
