//! The settings of `message_filter`.

use std::path::PathBuf;

use crate::config::Size;

/// Settings under `with:`. docs/hooks/message_filter.md is the reference.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Settings {
    /// Sender of the messages that are checked.
    #[serde(default)]
    pub direction: SeenDirection,
    /// The longest payload that may pass; any if left out.
    pub max_size: Option<Size>,
    /// The types that may pass; by default both, and with `deny` or `replace` text alone.
    pub types: Option<Vec<Type>>,
    /// Demand that messages are JSON; none if left out.
    pub json: Option<JsonDemand>,
    /// A file with the JSON Schema that messages have to fit; none if left out.
    pub schema_file: Option<PathBuf>,
    /// Patterns of which none may be found in a text message.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Replacements in text messages, one after the other.
    #[serde(default)]
    pub replace: Vec<Replace>,
    /// Fate of a message that may not pass.
    #[serde(default)]
    pub on_violation: OnViolation,
    /// The code that `on_violation: close` closes with, in place of that of the violation.
    pub code: Option<u16>,
}

/// Sender of the messages that are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenDirection {
    /// Clients.
    #[default]
    ToBackend,
    /// Backends.
    ToClient,
    /// Everybody's.
    Both,
}

/// A type of messages (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Text, which is UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// Demand on messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonDemand {
    /// Messages are JSON (RFC 8259).
    Required,
}

/// A pattern, and what is put in place of what it finds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Replace {
    /// A regular expression, in the syntax of the crate `regex`.
    pub pattern: String,
    /// Replacement; `$1` and `${name}` are groups of the match, `$$` is `$`.
    pub with: String,
}

/// Fate of a message that may not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// The tunnel ends with Close.
    #[default]
    Close,
    /// Drops the message. The tunnel goes on.
    Drop,
    /// Drops the message, and sends this text back to its sender.
    Reply(String),
}
