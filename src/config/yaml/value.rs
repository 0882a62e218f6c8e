//! Values of the file with their YAML paths, and mappings read by known keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::sync::Arc;

use super::node::{Content, Mark, Node};
use super::problem::{Problem, Report, Severity, quoted};

/// The merge key, by which some programs take in the entries of another mapping (YAML 1.1). It is not supported.
pub(crate) const MERGE: &str = "<<";
/// Remedy for [`MERGE`].
pub(crate) const NO_MERGE: &str =
    "merge keys are not read: write the keys out, or let an alias stand for the whole value";

/// A value of the file, and the steps from the root to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'v> {
    node: &'v Arc<Node>,
    step: Step<'v>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'v> {
    /// The root of a tree, which stands at this path of the file.
    Path(&'v str),
    Key(&'v Value<'v>, &'v str),
    Index(&'v Value<'v>, usize),
}

impl<'v> Value<'v> {
    pub(crate) fn root(node: &'v Arc<Node>) -> Self {
        Self::at("", node)
    }

    /// The value at `path`; the paths of the values below it begin with `path`.
    pub(crate) fn at(path: &'v str, node: &'v Arc<Node>) -> Self {
        Self { node, step: Step::Path(path) }
    }

    pub(crate) fn node(&self) -> &'v Arc<Node> {
        self.node
    }

    pub(crate) fn mark(&self) -> Mark {
        self.node.mark
    }

    /// The position of `key` in this mapping; the position of the mapping where it has no such key.
    pub(crate) fn mark_of(&self, key: &str) -> Mark {
        let Content::Mapping(entries) = &self.node.content else { return self.mark() };
        let is_it = |node: &Node| matches!(&node.content, Content::Scalar { text, .. } if text == key);
        entries.iter().find(|(node, _)| is_it(node)).map_or(self.mark(), |(node, _)| node.mark)
    }

    /// The value under `key` of this mapping, outside of any path.
    pub(crate) fn under(&self, key: &str) -> Option<Value<'v>> {
        let Content::Mapping(entries) = &self.node.content else { return None };
        let is_it = |node: &Node| matches!(&node.content, Content::Scalar { text, .. } if text == key);
        entries.iter().find(|(node, _)| is_it(node)).map(|(_, node)| Value { node, step: Step::Path("") })
    }

    /// The YAML path, such as `upstreams.chat.backends[1].weight`. It is built for each call: only problems need it.
    pub(crate) fn path(&self) -> String {
        match self.step {
            Step::Path(path) => path.to_owned(),
            Step::Key(of, key) => join(&of.path(), key),
            Step::Index(of, index) => format!("{}[{index}]", of.path()),
        }
    }

    /// The text of a scalar, as written; `None` for a list, a mapping and a null.
    pub(crate) fn text(&self) -> Option<&'v str> {
        match &self.node.content {
            Content::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// [`Value::text`] of a scalar without quotes.
    pub(crate) fn plain_text(&self) -> Option<&'v str> {
        match &self.node.content {
            Content::Scalar { plain: true, .. } => self.text(),
            _ => None,
        }
    }

    /// Tells whether the value is YAML's null, which includes a value that was left out.
    pub(crate) fn is_null(&self) -> bool {
        self.node.is_null()
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.node.content, Content::Mapping(_))
    }

    pub(crate) fn is_sequence(&self) -> bool {
        matches!(self.node.content, Content::Sequence(_))
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Error, self.mark(), self.path(), message)
    }

    pub(crate) fn warning(&self, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Warning, self.mark(), self.path(), message)
    }

    /// The problem of a value of the wrong kind.
    pub(crate) fn wrong(&self, expected: impl Into<String>) -> Problem {
        let found = match &self.node.content {
            _ if self.is_null() => return self.error("the value is missing").expected(expected),
            Content::Scalar { text, .. } => quoted(text),
            Content::Sequence(_) => "a list".to_owned(),
            Content::Mapping(_) => "a mapping".to_owned(),
        };
        self.error(format!("{found} does not fit here")).expected(expected)
    }

    /// The items of a list; any other value is refused.
    pub(crate) fn items<'c>(&'c self, expected: &str, report: &mut Report) -> Option<Vec<Value<'c>>> {
        match &self.node.content {
            Content::Sequence(items) => {
                let place = |(index, node)| Value { node, step: Step::Index(self, index) };
                Some(items.iter().enumerate().map(place).collect())
            }
            Content::Mapping(_) => report.refuse(self.wrong(expected).remedy("begin each item of the list with `- `")),
            Content::Scalar { .. } if self.is_null() => report.refuse(self.wrong(expected)),
            Content::Scalar { .. } => {
                let problem = self.wrong(expected);
                report.refuse(problem.remedy("put each item on a line of its own, after `- `"))
            }
        }
    }

    /// The entries of a mapping whose keys are names that the user chose, each once and with its position; any other
    /// value is refused.
    pub(crate) fn entries<'c>(
        &'c self,
        expected: &str,
        report: &mut Report,
    ) -> Option<Vec<(&'c str, Mark, Value<'c>)>> {
        let pairs = self.pairs(expected, report)?;
        Some(pairs.into_iter().map(|(text, key, value)| (text, key.mark(), value)).collect())
    }

    /// [`Value::entries`] with the keys as values, for keys that may be numbers.
    pub(crate) fn pairs<'c>(
        &'c self,
        expected: &str,
        report: &mut Report,
    ) -> Option<Vec<(&'c str, Value<'c>, Value<'c>)>> {
        let mut seen = HashMap::new();
        let mut pairs = Vec::new();
        self.each_entry(expected, report, |text, key, value, report| match seen.entry(text) {
            Entry::Occupied(first) => report.push(given_twice(self, text, key.mark(), *first.get())),
            Entry::Vacant(vacant) => {
                vacant.insert(key.mark());
                pairs.push((text, key, value));
            }
        })?;
        Some(pairs)
    }

    fn each_entry<'c>(
        &'c self,
        expected: &str,
        report: &mut Report,
        mut take: impl FnMut(&'c str, Value<'c>, Value<'c>, &mut Report),
    ) -> Option<()> {
        let Content::Mapping(entries) = &self.node.content else { return report.refuse(self.wrong(expected)) };
        for (key, node) in entries {
            let Content::Scalar { text, .. } = &key.content else {
                let key = Value { node: key, step: self.step };
                report.push(
                    key.error("a list or a mapping is used as a key")
                        .expected(expected)
                        .remedy("put a value that begins with `[` or `{` in quotes, such as `\"[::1]:8080\"`"),
                );
                continue;
            };
            let step = Step::Key(self, text);
            take(text, Value { node: key, step }, Value { node, step }, report);
        }
        Some(())
    }
}

/// A mapping read by known keys. Keys that are unknown or given twice have been reported.
pub(crate) struct Mapping<'v, 'k> {
    of: &'v Value<'v>,
    keys: &'k [&'k str],
    values: Vec<Option<Value<'v>>>,
    unknown: usize,
}

impl<'v, 'k> Mapping<'v, 'k> {
    /// The entries of `of` by `keys`; refuses a value that is not a mapping.
    ///
    /// `advise` adds to the problem of an unknown key, the second argument, what is expected and a remedy. It is not
    /// called once the report is full, because it takes time.
    pub(crate) fn read(
        of: &'v Value<'v>,
        keys: &'k [&'k str],
        advise: impl Fn(Problem, &str, &[&str]) -> Problem,
        report: &mut Report,
    ) -> Option<Self> {
        let mut values = vec![None; keys.len()];
        let mut marks = vec![Mark::START; keys.len()];
        if let Some(key) = of.text().and_then(|text| text.split_whitespace().next()).filter(|word| keys.contains(word))
        {
            let problem = of.error(format!("`{key}` is read as text, and not as a key"));
            return report.refuse(problem.expected(format!("`{key}:` and its value")).remedy("put a `:` after it"));
        }
        let mut unknown = 0;
        let expected = format!("a mapping with the keys {}", keys.join(", "));
        of.each_entry(&expected, report, |key, written, value, report| {
            let mark = written.mark();
            match keys.iter().position(|known| *known == key) {
                None => {
                    unknown += 1;
                    let problem = Problem::new(Severity::Error, mark, path_of(of, key), "unknown key");
                    report.push(if report.is_full() { problem } else { advise(problem, key, keys) });
                }
                Some(index) if values[index].is_some() => report.push(given_twice(of, key, mark, marks[index])),
                Some(index) => {
                    values[index] = Some(value);
                    marks[index] = mark;
                }
            }
        })?;
        Some(Self { of, keys, values, unknown })
    }

    /// The value of `key`, if it was written.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value<'v>> {
        let index = self.keys.iter().position(|known| *known == key);
        debug_assert!(index.is_some(), "{key} is missing in the table of keys");
        self.values[index?].take()
    }

    /// The value of `key`, which must have been written.
    pub(crate) fn required(&mut self, key: &str, expected: &str, report: &mut Report) -> Option<Value<'v>> {
        let value = self.take(key);
        if value.is_none() {
            let path = path_of(self.of, key);
            report.push(Problem::new(Severity::Error, self.of.mark(), path, "missing").expected(expected));
        }
        value
    }

    /// The value of `key` as `read` returns it, or `default` where the key was left out.
    pub(crate) fn take_or<T>(
        &mut self,
        key: &str,
        default: T,
        read: impl FnOnce(&Value<'v>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => read(&value),
            None => Some(default),
        }
    }

    /// Tells whether unknown keys were refused.
    pub(crate) fn had_unknown(&self) -> bool {
        self.unknown > 0
    }

    /// The entries that were not taken.
    pub(crate) fn rest(self) -> impl Iterator<Item = (&'k str, Value<'v>)> {
        self.keys.iter().copied().zip(self.values).filter_map(|(key, value)| Some((key, value?)))
    }
}

fn given_twice(of: &Value<'_>, key: &str, mark: Mark, first: Mark) -> Problem {
    Problem::new(Severity::Error, mark, path_of(of, key), "the key is given twice")
        .expected(format!("each key once; the first stands on line {}", first.line))
        .remedy("merge the two, or remove one")
}

fn path_of(of: &Value<'_>, key: &str) -> String {
    join(&of.path(), key)
}

/// The path of `key` in the mapping at `path`. A key that could be mistaken for more than one step is quoted.
pub(crate) fn join(path: &str, key: &str) -> String {
    let mut path = path.to_owned();
    if !path.is_empty() {
        path.push('.');
    }
    if !key.is_empty() && key.len() <= 100 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        path.push_str(key);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(path, "{}", quoted(key));
    }
    path
}
