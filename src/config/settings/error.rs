//! Errors of types about the values they are read from, as serde reports them.

use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::config::yaml::near::likely;
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Severity, quoted, shown};
use crate::config::yaml::scalar::{not_known, one_of};
use crate::config::yaml::value::{MERGE, NO_MERGE, Value, join};

/// Failure to read a type.
#[derive(Debug)]
pub(super) struct SettingsError {
    /// The fault that is not reported yet; `None` once it is.
    pub(super) trouble: Option<Box<Trouble>>,
    /// Innermost entry of a mapping, or item of a list, that could not be read.
    pub(super) part: Option<Part>,
}

/// The value of an entry of a mapping, or an item of a list.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) mark: Mark,
    pub(super) path: String,
}

/// A fault of a value, without the value.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A message of the type's own.
    Said(String),
    /// A value of another kind than expected.
    Mismatch { found: FoundKind, expected: String },
    /// A mapping without this key.
    Missing(&'static str),
    /// A mapping with the first key, which accepts the keys of the list only.
    UnknownKey(String, &'static [&'static str]),
    /// A word that is not in the list.
    UnknownWord(String, &'static [&'static str]),
}

/// Kind of the value found, as serde names it.
#[derive(Debug)]
pub(super) enum FoundKind {
    List,
    Mapping,
    Other(String),
}

impl SettingsError {
    /// The error of a fault that has been reported.
    pub(super) fn told() -> Self {
        Self { trouble: None, part: None }
    }

    fn new(trouble: Trouble) -> Self {
        Self { trouble: Some(Box::new(trouble)), part: None }
    }
}

impl Trouble {
    /// The problem of `value` with this fault.
    pub(super) fn with(&self, value: &Value<'_>) -> Problem {
        match self {
            Self::Said(text) => Problem::from_text(value.mark(), value.path(), text),
            Self::Missing(key) => {
                let problem = Problem::new(Severity::Error, value.mark(), join(&value.path(), key), "missing");
                problem.expected(format!("`{key}:` and its value"))
            }
            Self::UnknownKey(key, known) => unknown_key(join(&value.path(), key), key, value.mark_of(key), known),
            Self::UnknownWord(word, known) => not_known(value, word, known),
            Self::Mismatch { found, expected } => match found {
                FoundKind::List if value.is_sequence() => value.wrong(expected),
                FoundKind::Mapping if value.is_mapping() => value.wrong(expected),
                // serde keeps values of some types aside (`flatten`, tagged enums) and reads them without us: then it
                // was not `value` that was found, but something in it.
                FoundKind::Other(_) if !value.is_sequence() && !value.is_mapping() => value.wrong(expected),
                found => value.error(format!("{found} does not fit here")).expected(expected),
            },
        }
    }
}

/// The problem of a `key` that is not in `known`.
pub(super) fn unknown_key(path: String, key: &str, mark: Mark, known: &[&str]) -> Problem {
    let problem = Problem::new(Severity::Error, mark, path, "unknown key").expected(one_of(known));
    match likely(key, known) {
        _ if key == MERGE => problem.remedy(NO_MERGE),
        Some(near) => problem.remedy(format!("did you mean `{near}`?")),
        None => problem,
    }
}

impl fmt::Display for FoundKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "a list",
            Self::Mapping => "a mapping",
            Self::Other(what) => what,
        })
    }
}

impl From<Unexpected<'_>> for FoundKind {
    fn from(unexpected: Unexpected<'_>) -> Self {
        match unexpected {
            Unexpected::Seq => Self::List,
            Unexpected::Map => Self::Mapping,
            other => Self::Other(shown(&other.to_string())),
        }
    }
}

impl serde::de::Error for SettingsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Trouble::Said(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Trouble::Mismatch { found: found.into(), expected: shown(&expected.to_string()) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let text = format!("the length {length} does not fit here\n  expected: {expected}");
        Self::new(Trouble::Said(text))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Trouble::UnknownWord(variant.to_owned(), expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Trouble::UnknownKey(field.to_owned(), expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Trouble::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Trouble::Said(format!("{} is given twice, perhaps by another name of it", quoted(field))))
    }
}

/// Required by serde and shown to nobody: faults are reported as [`Problem`]s.
impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            Some(trouble) => write!(f, "{trouble:?}"),
            None => f.write_str("told already"),
        }
    }
}

impl std::error::Error for SettingsError {}
