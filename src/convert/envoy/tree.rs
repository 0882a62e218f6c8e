//! Values of an Envoy file with their places.

use std::sync::Arc;

use crate::config::{Content, Node};
use crate::convert::place::{Note, SourceLine, SourcePlace};
use crate::convert::quantity::envoy_time;

/// A value, and the key that it stands under.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'n> {
    node: &'n Arc<Node>,
    file: &'n Arc<str>,
    key: &'n str,
    /// Line of the key.
    line: usize,
}

impl<'n> At<'n> {
    pub(super) fn new(node: &'n Arc<Node>, file: &'n Arc<str>) -> Self {
        Self { node, file, key: "", line: node.mark.line }
    }

    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.content, Content::Mapping(_))
    }

    fn entries(&self) -> impl Iterator<Item = At<'n>> {
        let (file, entries) = match &self.node.content {
            Content::Mapping(entries) => (self.file, entries.as_slice()),
            _ => (self.file, [].as_slice()),
        };
        entries.iter().filter_map(move |(key, node)| match &key.content {
            Content::Scalar { text, .. } => Some(At { node, file, key: text, line: key.mark.line }),
            _ => None,
        })
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<At<'n>> {
        self.entries().find(|entry| entry.key == key)
    }

    /// The value at the end of a way of keys.
    pub(super) fn way(&self, keys: &[&str]) -> Option<At<'n>> {
        keys.iter().try_fold(*self, |at, key| at.get(key))
    }

    /// The items of the list under a key.
    pub(super) fn items(&self, key: &str) -> Vec<At<'n>> {
        let Some(list) = self.get(key) else { return Vec::new() };
        match &list.node.content {
            Content::Sequence(items) => items.iter().map(|node| At { node, line: node.mark.line, ..list }).collect(),
            _ => Vec::new(),
        }
    }

    /// The text of a scalar; empty for anything else.
    pub(super) fn text(&self) -> &'n str {
        match &self.node.content {
            Content::Scalar { text, .. } => text,
            _ => "",
        }
    }

    /// The text under a key; empty where there is none.
    pub(super) fn word(&self, key: &str) -> &'n str {
        self.get(key).map_or("", |value| value.text())
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.word(key).parse().ok()
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.word(key) == "true"
    }

    /// A time in milliseconds, within bounds.
    pub(super) fn time(&self, key: &str, least: u64, most: u64) -> Option<u64> {
        envoy_time(self.word(key)).map(|time| time.clamp(least, most))
    }

    pub(super) fn place(&self) -> SourcePlace {
        SourcePlace { file: Arc::clone(self.file), line: self.line }
    }

    /// The key and the text of a scalar behind it, for notes.
    pub(super) fn line(&self) -> SourceLine {
        let key = if self.key.is_empty() { "-".to_owned() } else { format!("{}:", self.key) };
        // A filter or a cluster is known by its name.
        let text = if self.is_mapping() { self.word("name") } else { self.text() };
        SourceLine::new(&self.place(), &[&key, text])
    }

    /// Tells of keys that no reader knows.
    pub(super) fn others(&self, known: &[&str], notes: &mut Vec<Note>, words: impl Fn(&str) -> &'static str) {
        for entry in self.entries().filter(|entry| !known.contains(&entry.key) && entry.key != "name") {
            notes.push(entry.line().left_out(words(entry.key)));
        }
    }

    /// The settings of a filter or socket whose type ends in `kind`.
    pub(super) fn typed(&self, kind: &str) -> Option<At<'n>> {
        let config = self.get("typed_config")?;
        config.word("@type").ends_with(kind).then_some(config)
    }

    /// The name of a filter: its own, or the last part of its type.
    pub(super) fn type_name(&self) -> &'n str {
        let of_type = self.way(&["typed_config", "@type"]).map_or("", |value| value.text());
        let last = of_type.rsplit('.').next().unwrap_or_default();
        if last.is_empty() { self.word("name") } else { last }
    }
}
