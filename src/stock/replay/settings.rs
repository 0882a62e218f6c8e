//! The settings of `replay`.

use super::json;
use super::memory::MemoryBound;
use crate::config::Size;
use crate::hook::SetupError;

/// Settings under `with:`. docs/hooks/replay.md is the reference.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Settings {
    /// Ready rules for a protocol; rules of one's own where it is left out.
    pub protocol: Option<Protocol>,
    /// Number of the client's first messages that are kept, whatever they say. Default 0, at most 64.
    #[serde(default)]
    pub first: u8,
    /// Number of a backend's first messages that answer those, and that the client gets once. Default 0, at most 64.
    #[serde(default)]
    pub first_answers: u8,
    /// Rules for messages that are JSON objects.
    pub json: Option<JsonSettings>,
    /// The most bytes kept of one tunnel. Default 64 KiB, from 1 KiB to 128 KiB.
    #[serde(default = "default_max_size")]
    pub max_size: Size,
    /// The most messages kept of one tunnel. Default 256, from 1 to 4,096.
    #[serde(default = "default_max_messages")]
    pub max_messages: u16,
}

/// A protocol whose rules are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum Protocol {
    /// GraphQL over WebSocket, subprotocol `graphql-transport-ws`.
    #[serde(rename = "graphql-ws")]
    GraphqlWs,
    /// MQTT 3.1, 3.1.1 and 5.0.
    #[serde(rename = "mqtt")]
    Mqtt,
    /// STOMP 1.0 to 1.2.
    #[serde(rename = "stomp")]
    Stomp,
    /// Phoenix channels, version 2 of their messages.
    #[serde(rename = "phoenix")]
    Phoenix,
}

/// Rules for messages that are JSON objects.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct JsonSettings {
    /// Field with the type of a message; a dot leads into an object.
    #[serde(default = "default_type", rename = "type")]
    pub kind: String,
    /// Field that tells messages of one type apart.
    #[serde(default = "default_id")]
    pub id: String,
    /// The rules.
    pub keep: Vec<KeepSettings>,
}

/// Messages that are kept, by type.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct KeepSettings {
    /// Types of the client's messages that are kept.
    pub types: Vec<String>,
    /// Types of messages, from either side, that end it.
    #[serde(default)]
    pub until: Vec<String>,
    /// Types of the backend's answers, which the client gets once.
    #[serde(default)]
    pub answers: Vec<String>,
    /// Nothing else is sent to a backend before it has answered. Needs `answers`.
    #[serde(default)]
    pub greets: bool,
}

fn default_type() -> String {
    "type".into()
}

fn default_id() -> String {
    "id".into()
}

fn default_max_size() -> Size {
    Size(64 * 1024)
}

fn default_max_messages() -> u16 {
    256
}

impl Settings {
    /// The bound on what is kept.
    pub(super) fn bound(&self) -> Result<MemoryBound, SetupError> {
        if !(1024..=MOST_BYTES).contains(&self.max_size.0) {
            return Err(SetupError::at("max_size", "it is 1KiB to 128KiB: it travels with its tunnel in a handover"));
        }
        if !(1..=MOST_MESSAGES).contains(&self.max_messages) {
            return Err(SetupError::at("max_messages", format!("it is 1 to {MOST_MESSAGES}")));
        }
        let bytes = usize::try_from(self.max_size.0).unwrap_or(usize::MAX);
        Ok(MemoryBound { messages: self.max_messages.into(), bytes })
    }

    /// Checks that there are rules, and that they do not contradict each other.
    pub(super) fn check(&self) -> Result<(), SetupError> {
        if self.protocol.is_some() && (self.first > 0 || self.json.is_some()) {
            return Err(SetupError::at("protocol", "it brings its rules: leave `first` and `json` out beside it"));
        }
        if self.protocol.is_none() && self.first == 0 && self.json.is_none() {
            return Err(SetupError::new("nothing would be kept: give `protocol`, `first` or `json`"));
        }
        if self.first_answers > 0 && self.first == 0 {
            return Err(SetupError::at("first_answers", "nothing is answered: `first` is 0"));
        }
        for (name, value) in [("first", self.first), ("first_answers", self.first_answers)] {
            if value > MOST_FIRST {
                return Err(SetupError::at(name, format!("it is at most {MOST_FIRST}")));
            }
        }
        Ok(())
    }
}

impl JsonSettings {
    pub(super) fn rules(&self) -> Result<json::JsonRules, SetupError> {
        for (name, path) in [("json.type", &self.kind), ("json.id", &self.id)] {
            if path.split('.').any(str::is_empty) {
                return Err(SetupError::at(name, "it names a field, such as `type` or `data.type`"));
            }
        }
        if self.kind == self.id {
            return Err(SetupError::at("json.id", "it is the field with the type"));
        }
        if self.keep.is_empty() || self.keep.len() > MOST_RULES {
            return Err(SetupError::at("json.keep", format!("it has 1 to {MOST_RULES} rules")));
        }
        for (index, rule) in self.keep.iter().enumerate() {
            if rule.greets && rule.answers.is_empty() {
                return Err(SetupError::at(format!("json.keep[{index}].greets"), "nothing answers it: give `answers`"));
            }
            if rule.types.is_empty() {
                return Err(SetupError::at(format!("json.keep[{index}].types"), "nothing would be kept by it"));
            }
        }
        let boxed = |types: &[String]| types.iter().map(|text| text.as_str().into()).collect();
        let rules = self.keep.iter().map(|rule| json::JsonRule {
            keep: boxed(&rule.types),
            until: boxed(&rule.until),
            answers: boxed(&rule.answers),
            greets: rule.greets,
        });
        Ok(json::JsonRules::new(&self.kind, &self.id, rules.collect()))
    }

    /// Rules for `graphql-transport-ws` (enisdenjo/graphql-ws, PROTOCOL.md).
    pub(super) fn graphql_ws() -> Self {
        let types = |types: &[&str]| types.iter().map(|&text| text.to_owned()).collect();
        let (init, ack) = (types(&["connection_init"]), types(&["connection_ack"]));
        let (subscribe, ends) = (types(&["subscribe"]), types(&["complete", "error"]));
        let keep = vec![
            KeepSettings { types: init, until: vec![], answers: ack, greets: true },
            KeepSettings { types: subscribe, until: ends, answers: vec![], greets: false },
        ];
        Self { kind: default_type(), id: default_id(), keep }
    }
}

/// A context travels as base64 in at most 256 KiB, together with the identities of what it holds.
const MOST_BYTES: u64 = 128 * 1024;
/// Each is sent before the conversation goes on.
const MOST_MESSAGES: u16 = 4_096;
/// A greeting is short.
const MOST_FIRST: u8 = 64;
/// Every message is compared with all of them.
const MOST_RULES: usize = 64;
