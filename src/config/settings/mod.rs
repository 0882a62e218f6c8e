//! Settings of a hook: a part of the file that is read as a type of the hook's own.

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

/// The block under `with:` in an entry of a route's `hooks`, with its position in the file.
///
/// Settings are equal when they have the same meaning; positions and the order of keys do not count. A clone is cheap.
/// The [`Debug`](fmt::Debug) form shows every value: a secret belongs in a file that the settings name.
#[derive(Clone)]
pub struct Settings {
    root: Arc<Node>,
    /// Path of `root` in the file; empty where the settings are a text of their own.
    path: Arc<str>,
}

impl Settings {
    /// A mapping without keys, for a hook that has no settings.
    pub fn empty() -> Self {
        Self { root: Arc::new(Node::empty(Mark::START)), path: "".into() }
    }

    /// Reads a YAML text that is the block itself, as it would be written under `with:`.
    ///
    /// # Errors
    /// `text` is not one YAML document: the first problem.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let root = node::read(text)?.filter(|root| !root.is_null());
        Ok(root.map_or_else(Self::empty, |root| Self { root, path: "".into() }))
    }

    /// Takes `value` as settings.
    pub(crate) fn of(value: &Value<'_>) -> Self {
        Self { root: Arc::clone(value.node()), path: value.path().into() }
    }

    /// [`Settings::empty`] for an entry at `mark` whose settings were left out; they would have had this `path`.
    pub(crate) fn left_out(mark: Mark, path: String) -> Self {
        Self { root: Arc::new(Node::empty(mark)), path: path.into() }
    }

    /// Reads the settings as a `T`, as strictly as the rest of the file.
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
    /// The settings have unknown keys, keys given twice, values that do not fit, or a mapping without a required key
    /// (the first such key of each mapping is reported). At most 32 values that do not fit are reported, fewer for very
    /// large settings. Problems are in the order of their positions.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        read::all(&self.value())
    }

    /// A problem that shows only when the settings are put to use: a file is missing, a secret is too short.
    ///
    /// `field` is the path below these settings: `secret_file`, `keys[1].file`, or empty for the whole block. A field
    /// that was left out is reported at the position of the mapping around it.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        let dot = if self.path.is_empty() || field.is_empty() || field.starts_with('[') { "" } else { "." };
        let path = format!("{}{dot}{}", self.path, shown(field));
        Problem::new(Severity::Error, below(&self.root, field).mark, path, shown(&message.into()))
    }

    fn value(&self) -> Value<'_> {
        Value::at(&self.path, &self.root)
    }
}

/// The value at `field` below `node`, or the last value on the way there.
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
