//! The settings of a hook: a part of the file that only the hook's own type can judge.

mod error;
mod parts;
mod quantity;
mod read;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::config::yaml::node::{self, Content, Mark, Node};
use crate::config::yaml::problem::{Problem, Problems, Severity, shown};
use crate::config::yaml::value::Value;

pub use quantity::{Cidr, Period, Size};

/// What stands under `with:` in an entry of a route's `hooks`, with its place in the file.
///
/// Equal to other settings that mean the same, wherever both stand and in whatever order their keys are. A copy is
/// cheap. In the [`Debug`](fmt::Debug) form every value can be read: have secrets read from files rather than written
/// here.
#[derive(Clone)]
pub struct Settings {
    root: Arc<Node>,
    /// Of `root` in the file; empty where this is a text of its own.
    path: Arc<str>,
}

impl Settings {
    /// Those of a hook that has none: a mapping without keys.
    pub fn empty() -> Self {
        Self { root: Arc::new(Node::empty(Mark::START)), path: "".into() }
    }

    /// Reads a YAML text that is the block itself, as it would stand under `with:`.
    ///
    /// # Errors
    /// The first thing that keeps `text` from being one YAML document.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let root = node::read(text)?.filter(|root| !root.is_null());
        Ok(root.map_or_else(Self::empty, |root| Self { root, path: "".into() }))
    }

    /// The settings that `value` is.
    pub(crate) fn of(value: &Value<'_>) -> Self {
        Self { root: Arc::clone(value.node()), path: value.path().into() }
    }

    /// [`Settings::empty`] of what begins at `mark`, where they would stand at `path`.
    pub(crate) fn left_out(mark: Mark, path: String) -> Self {
        Self { root: Arc::new(Node::empty(mark)), path: path.into() }
    }

    /// The settings as a `T`, read as strictly as the rest of the file.
    ///
    /// Scalars are those of YAML's core schema; a quoted one is text and nothing else, and where text is wanted every
    /// scalar is. A key that `T` or a structure in it does not have is a problem even if serde would pass over it. The
    /// exceptions are structures with `#[serde(flatten)]` and the variants of tagged and untagged enums, whose keys
    /// serde keeps to itself: such an enum needs `#[serde(deny_unknown_fields)]`, and what is wrong in either is told
    /// at the mapping as a whole.
    ///
    /// [`Period`], [`Size`] and [`Cidr`] read what the file's own keys read. A message by `serde::de::Error::custom` is
    /// told at the innermost value that was being read; lines of it that begin with `  expected: ` and with two spaces
    /// become the problem's `expected` and `remedy`.
    ///
    /// # Errors
    /// Unknown keys, values that do not fit, keys given twice, and of each mapping the first key that is missing, in
    /// the order of their positions. Of values that do not fit up to 32 are told, fewer of very large settings.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        read::all(&self.value())
    }

    /// A problem that shows only when the settings are put to use: a file that is missing, a key that is no key.
    ///
    /// `field` is where, below these settings: `secret_file`, `keys[1].file`, or nothing for the whole of them. What
    /// was left out is placed at what it was left out of.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        let dot = if self.path.is_empty() || field.is_empty() || field.starts_with('[') { "" } else { "." };
        let path = format!("{}{dot}{}", self.path, shown(field));
        Problem::new(Severity::Error, below(&self.root, field).mark, path, shown(&message.into()))
    }

    fn value(&self) -> Value<'_> {
        Value::at(&self.path, &self.root)
    }
}

/// The value at `field` below `node`, or the last one on the way there.
fn below<'n>(node: &'n Arc<Node>, field: &str) -> &'n Arc<Node> {
    let mut reached = node;
    for step in field.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match &reached.content {
            Content::Scalar { .. } => None,
            Content::Sequence(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            Content::Mapping(entries) => {
                let named = |key: &Node| matches!(&key.content, Content::Scalar { text, .. } if text == step);
                entries.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
            }
        };
        match next {
            Some(next) => reached = next,
            None => break,
        }
    }
    reached
}

impl Default for Settings {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.root.means_the_same_as(&other.root)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        content(&self.root).fmt(f)
    }
}

fn content(node: &Node) -> impl fmt::Debug {
    fmt::from_fn(move |f| match &node.content {
        Content::Scalar { text, plain: true } => f.write_str(&shown(text)),
        Content::Scalar { text, plain: false } => write!(f, "{text:?}"),
        Content::Sequence(items) => f.debug_list().entries(items.iter().map(|item| content(item))).finish(),
        Content::Mapping(entries) => {
            f.debug_map().entries(entries.iter().map(|(key, value)| (content(key), content(value)))).finish()
        }
    })
}

#[cfg(test)]
mod tests;
