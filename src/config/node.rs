//! A YAML document as a tree in which every value knows its position.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::problem::{Problem, Severity, printable, quoted};

/// A position in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

/// One value with all below it. What an alias stands for is shared, not copied.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) content: Content,
    /// Values in this tree, itself included, counting what is shared as often as it is seen.
    size: usize,
    /// Levels of this tree: 1 for a scalar.
    height: usize,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar {
        text: String,
        /// Written without quotes, so that it may stand for a number, a truth value or nothing.
        plain: bool,
    },
    Sequence(Vec<Rc<Node>>),
    /// In the order written; a key may stand there twice.
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

/// Levels a document may have. The deepest key of ours is on the sixth.
const MAX_HEIGHT: usize = 32;

/// Values a document may have once its aliases are resolved: a hundred times what 10,000 backends need, and still
/// read within a second. Nine levels of aliases to nine aliases would be 400 million (the "billion laughs").
const MAX_SIZE: usize = 2_000_000;

impl Mark {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Mark {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl Node {
    /// Whether this is a plain scalar that YAML reads as nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads the one document of `text`; `None` when there is nothing in it.
///
/// # Errors
/// The first syntax error; a second document; a tag; more levels or values than a document may have.
pub(super) fn read(text: &str) -> Result<Option<Rc<Node>>, Problem> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax_error(text, &error))?;
        tree.take(event, span)?;
    }
    Ok(tree.root)
}

/// A tree while its events come in.
#[derive(Default)]
struct Tree {
    root: Option<Rc<Node>>,
    documents: usize,
    open: Vec<Open>,
    anchored: HashMap<usize, Rc<Node>>,
}

/// A sequence or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    children: Children,
    size: usize,
    height: usize,
}

enum Children {
    Sequence(Vec<Rc<Node>>),
    Mapping { entries: Vec<(Rc<Node>, Rc<Node>)>, key: Option<Rc<Node>> },
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
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.close(Node { mark, content, size: 1, height: 1 }, anchor)
            }
            Event::SequenceStart(anchor, None) => self.open(mark, anchor, Children::Sequence(Vec::new())),
            Event::MappingStart(anchor, None) => {
                self.open(mark, anchor, Children::Mapping { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchored.get(&anchor) {
                Some(node) => self.attach(Rc::clone(node), mark),
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
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchored.insert(anchor, Rc::clone(&node));
        }
        self.attach(node, mark)
    }

    fn attach(&mut self, node: Rc<Node>, mark: Mark) -> Result<(), Problem> {
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
            return Err(problem(mark, "too many values, those repeated by aliases included")
                .expected(format!("at most {MAX_SIZE} values in one file")));
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

    /// The parser puts a value that is left out where the next thing begins, which may be lines below: the key it
    /// belongs to says more.
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

/// Says what the parser's words mean for whoever wrote the file, as far as they can be guessed.
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
    let remedy = if bracket_and_port {
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
