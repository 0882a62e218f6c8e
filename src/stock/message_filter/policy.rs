//! Rules for messages.

use std::borrow::Cow;
use std::fmt;

use regex::{Regex, RegexSet};
use serde::de::IgnoredAny;

use super::schema::{Misfit, Schema};
use super::settings::{JsonDemand, Settings, Type};
use crate::hook::{Message, SetupError};

/// Rules for messages, applied in the order of the fields.
pub(super) struct Policy {
    max_size: Option<u64>,
    text: bool,
    binary: bool,
    json: bool,
    schema: Option<Schema>,
    /// One walk through the text, however many there are.
    deny: Option<RegexSet>,
    replace: Vec<(Regex, String)>,
}

/// Fate of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Passes,
    /// This text stands in its place.
    Becomes(String),
    Violates(PolicyViolation),
}

/// Why a message may not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PolicyViolation {
    TooLong,
    WrongType,
    NotJson,
    /// The place, as a JSON Pointer; empty for the whole.
    Misfit(String),
    Denied,
    /// By what was put into it.
    GrewTooLong,
}

impl Policy {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let Settings { max_size, types, json, schema_file, deny, replace, .. } = settings;
        let searched = !deny.is_empty() || !replace.is_empty();
        let binary_by_default = !searched;
        let (text, binary) = match types {
            None => (true, binary_by_default),
            Some(types) if types.is_empty() => return Err(SetupError::at("types", "no message could ever pass")),
            Some(types) => (types.contains(&Type::Text), types.contains(&Type::Binary)),
        };
        if searched && !text {
            let why = "`deny` and `replace` are about text messages, which may not pass";
            return Err(SetupError::at("types", why));
        }
        let schema = schema_file.as_deref().map(Schema::read).transpose();
        let policy = Self {
            max_size: max_size.map(|size| size.0),
            text,
            binary,
            json: *json == Some(JsonDemand::Required),
            schema: schema.map_err(|why| SetupError::at("schema_file", why))?,
            deny: patterns(deny)?,
            replace: replacements(settings)?,
        };
        if max_size.is_none() && text && binary && !policy.reads() {
            return Err(SetupError::new(
                "every message would pass: \
                 give one of `max_size`, `types`, `json`, `schema_file`, `deny` and `replace`",
            ));
        }
        Ok(policy)
    }

    /// Returns true for rules that read payloads, which takes longer for longer ones.
    pub(super) fn reads(&self) -> bool {
        self.json || self.schema.is_some() || self.deny.is_some() || !self.replace.is_empty()
    }

    pub(super) fn judge(&self, message: &Message) -> Judgement {
        match self.violation(message) {
            Some(violation) => Judgement::Violates(violation),
            None => self.replaced(message),
        }
    }

    fn violation(&self, message: &Message) -> Option<PolicyViolation> {
        let payload = message.as_bytes();
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        if self.max_size.is_some_and(|most| length > most) {
            return Some(PolicyViolation::TooLong);
        }
        if !(if message.is_text() { self.text } else { self.binary }) {
            return Some(PolicyViolation::WrongType);
        }
        if let Some(schema) = &self.schema {
            match schema.check(payload) {
                Ok(()) => {}
                Err(Misfit::NotJson) => return Some(PolicyViolation::NotJson),
                Err(Misfit::At(place)) => return Some(PolicyViolation::Misfit(place)),
            }
        } else if self.json && serde_json::from_slice::<IgnoredAny>(payload).is_err() {
            return Some(PolicyViolation::NotJson);
        }
        let is_denied = |text| self.deny.as_ref().is_some_and(|deny| deny.is_match(text));
        message.as_text().is_some_and(is_denied).then_some(PolicyViolation::Denied)
    }

    fn replaced(&self, message: &Message) -> Judgement {
        let Some(text) = message.as_text() else { return Judgement::Passes };
        let mut text = Cow::Borrowed(text);
        for (pattern, with) in &self.replace {
            match replaced(pattern, with, &text) {
                Ok(None) => {}
                Ok(Some(replaced)) => text = Cow::Owned(replaced),
                Err(violation) => return Judgement::Violates(violation),
            }
        }
        match text {
            Cow::Borrowed(_) => Judgement::Passes,
            Cow::Owned(text) => Judgement::Becomes(text),
        }
    }
}

/// `text` with every place of a pattern replaced; `None` where it has none.
fn replaced(pattern: &Regex, with: &str, text: &str) -> Result<Option<String>, PolicyViolation> {
    let mut replaced = String::new();
    let mut copied = 0;
    for groups in pattern.captures_iter(text) {
        let found = groups.get(0).expect("a match has its whole as group 0");
        replaced.push_str(&text[copied..found.start()]);
        groups.expand(with, &mut replaced);
        copied = found.end();
        // Groups may be repeated: a short message could become one that fills the memory.
        if replaced.len() > MAX_REPLACED {
            return Err(PolicyViolation::GrewTooLong);
        }
    }
    if copied == 0 && replaced.is_empty() {
        return Ok(None);
    }
    replaced.push_str(&text[copied..]);
    Ok(Some(replaced))
}

/// Bytes of a message in which something was replaced.
const MAX_REPLACED: usize = 16 << 20;

fn patterns(deny: &[String]) -> Result<Option<RegexSet>, SetupError> {
    for (index, pattern) in deny.iter().enumerate() {
        let compiled = compiled(pattern).map_err(|why| SetupError::at(format!("deny[{index}]"), why))?;
        if compiled.is_match("") {
            return Err(SetupError::at(format!("deny[{index}]"), "it is found in every text: no message would pass"));
        }
    }
    let set = (!deny.is_empty()).then(|| RegexSet::new(deny)).transpose();
    set.map_err(|why| SetupError::at("deny", in_one_line(&why)))
}

fn replacements(settings: &Settings) -> Result<Vec<(Regex, String)>, SetupError> {
    let mut replacements = Vec::new();
    for (index, replace) in settings.replace.iter().enumerate() {
        let pattern = compiled(&replace.pattern);
        let pattern = pattern.map_err(|why| SetupError::at(format!("replace[{index}].pattern"), why))?;
        replacements.push((pattern, replace.with.clone()));
    }
    Ok(replacements)
}

/// Finds in time that grows as the text does (no backtracking), and is bounded in size.
fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|why| in_one_line(&why))
}

/// The error without the drawing of the pattern.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("it is not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
}

impl PolicyViolation {
    /// RFC 6455 §7.4.1.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::TooLong | Self::GrewTooLong => 1009,
            Self::WrongType => 1003,
            Self::NotJson => 1007,
            Self::Misfit(_) | Self::Denied => 1008,
        }
    }
}

impl fmt::Display for PolicyViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the message is too long"),
            Self::WrongType => f.write_str("messages of this type are not accepted"),
            Self::NotJson => f.write_str("the message is not JSON"),
            Self::Misfit(place) if place.is_empty() => f.write_str("the message does not fit the schema"),
            Self::Misfit(place) => write!(f, "the message does not fit the schema at {place}"),
            Self::Denied => f.write_str("the message is not acceptable"),
            Self::GrewTooLong => f.write_str("the message became too long"),
        }
    }
}
