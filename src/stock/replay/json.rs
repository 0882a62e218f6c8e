//! Rules for messages that are JSON objects with a type.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::memory::{Keep, MemoryNote, MessageKey};
use crate::hook::Direction;

/// Rules for JSON, by the type of a message.
#[derive(Debug)]
pub(super) struct JsonRules {
    /// Path of the type, then of the id.
    paths: [Vec<Box<str>>; 2],
    rules: Vec<JsonRule>,
}

/// Types of messages that belong together.
#[derive(Debug)]
pub(super) struct JsonRule {
    pub(super) keep: Vec<Box<str>>,
    pub(super) until: Vec<Box<str>>,
    pub(super) answers: Vec<Box<str>>,
    pub(super) greets: bool,
}

impl JsonRules {
    /// `kind` and `id` name fields; a dot leads into an object.
    pub(super) fn new(kind: &str, id: &str, rules: Vec<JsonRule>) -> Self {
        let path = |dotted: &str| dotted.split('.').map(Box::from).collect();
        Self { paths: [path(kind), path(id)], rules }
    }

    /// Adds to `notes` what a message means. A message that is not a JSON object with a type means nothing.
    pub(super) fn read(&self, direction: Direction, payload: &[u8], notes: &mut Vec<MemoryNote>) {
        let [Some(kind), id] = skim(payload, &self.paths) else { return };
        let has = |types: &[Box<str>]| types.iter().any(|known| kind.strip_prefix('"') == Some(known));
        for (place, rule) in self.rules.iter().enumerate() {
            let key = || MessageKey::new(place, id.as_deref().unwrap_or_default());
            if has(&rule.until) {
                notes.push(MemoryNote::Forget(key()));
            }
            match direction {
                Direction::ToBackend if has(&rule.keep) => {
                    let answer = (!rule.answers.is_empty()).then(key);
                    notes.push(MemoryNote::Keep(Keep { key: key(), answer, greets: rule.greets }));
                }
                Direction::ToClient if has(&rule.answers) => notes.push(MemoryNote::Answer(key())),
                _ => {}
            }
        }
    }
}

/// Values at two paths of a JSON text. A text has a quotation mark before it and a number has none, so that `"1"` is
/// not `1`. Reads no further than the second value.
fn skim(payload: &[u8], paths: &[Vec<Box<str>>; 2]) -> [Option<String>; 2] {
    let mut found = [None, None];
    let wanted = [Some(&paths[0][..]), Some(&paths[1][..])];
    let mut reader = serde_json::Deserializer::from_slice(payload);
    // Reading stops with an error once both are found. Values found before any error count, because senders write whole
    // messages.
    let _ = At { found: &mut found, wanted }.deserialize(&mut reader);
    found
}

/// Place in a JSON text, and the rest of each path that leads on from there.
struct At<'s> {
    found: &'s mut [Option<String>; 2],
    wanted: [Option<&'s [Box<str>]>; 2],
}

impl At<'_> {
    fn take(self, value: &str) {
        for (found, wanted) in self.found.iter_mut().zip(self.wanted) {
            if wanted.is_some_and(<[_]>::is_empty) {
                *found = Some(value.to_owned());
            }
        }
    }
}

impl<'d> DeserializeSeed<'d> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'d>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'d, str>>()? {
            let wanted = self.wanted.map(|path| {
                let (first, rest) = path?.split_first()?;
                (**first == *name).then_some(rest)
            });
            if wanted == [None, None] {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(At { found: &mut *self.found, wanted })?;
            }
            if self.found.iter().all(Option::is_some) {
                return Err(A::Error::custom("both are found"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.take(&format!("\"{text}"));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.take(&number.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.take(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.take(&number.to_string());
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skimmed(text: &str) -> [Option<String>; 2] {
        let path = |dotted: &str| dotted.split('.').map(Box::from).collect::<Vec<Box<str>>>();
        skim(text.as_bytes(), &[path("type"), path("data.id")])
    }

    #[test]
    fn type_and_id_are_found_wherever_they_stand() {
        let both = [Some("\"a".to_owned()), Some("7".to_owned())];
        assert_eq!(skimmed(r#"{"type":"a","data":{"id":7}}"#), both);
        assert_eq!(skimmed(r#"{"x":[1,{"type":"b"}],"data":{"y":null,"id":7,"z":1},"type":"a"}"#), both);
        assert_eq!(skimmed(r#"{"type":"\u0061","data":{"id":7}}"#), both);
        assert_eq!(skimmed(r#"{"type":"a","id":7,"data":{"data":{"id":7}}}"#), [both[0].clone(), None]);
        assert_eq!(skimmed(r#"{"type":true,"data":{"id":"7"}}"#), [None, Some("\"7".to_owned())]);
        assert_eq!(skimmed("[]"), [None, None]);
        assert_eq!(skimmed("not JSON"), [None, None]);
    }

    #[test]
    fn nothing_is_read_behind_the_second_of_them() {
        assert_eq!(skimmed(r#"{"type":"a","data":{"id":7},"payload":"#)[1].as_deref(), Some("7"));
    }
}
