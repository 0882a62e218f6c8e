//! Places in a source, notes about them, and the problems of a source that cannot be read.

use std::fmt;
use std::sync::Arc;

/// A line of a source's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePlace {
    /// The file, as the command line or an `include` names it.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", visible(&self.file), self.line)
    }
}

/// A fault of the source that prevents the conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProblem {
    /// The line it was noticed at.
    pub place: SourcePlace,
    /// The fault, in words.
    pub message: String,
    /// Text that is read there.
    pub expected: String,
}

impl SourceProblem {
    pub(super) fn new(place: &SourcePlace, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), expected: expected.into() }
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, message, expected } = self;
        write!(f, "{place}: {}\n  expected: {}", visible(message), visible(expected))
    }
}

/// Weight of a [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A protection that the source has is not carried: the way is closed where that is possible, and open elsewhere.
    Unprotected,
    /// The line has no equivalent.
    LeftOut,
    /// The line has an equivalent with another meaning.
    Changed,
}

impl Weight {
    /// The word for it in comments and summaries.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unprotected => "CHECK THIS",
            Self::LeftOut => "left out",
            Self::Changed => "changed",
        }
    }
}

/// A line of the source that does not mean the same afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Importance of the difference.
    pub weight: Weight,
    /// The line of the source.
    pub place: SourcePlace,
    /// The line's text, shortened; header values are left out, for they may be secrets.
    pub line: String,
    /// The difference, in words.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weight, place, line, text } = self;
        write!(f, "{place}: `{line}`: {}: {}", weight.word(), visible(text))
    }
}

/// `text` with characters escaped that a terminal would obey or that would end a comment.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\'' | '"' | '\\' => visible.push(character),
            _ => visible.extend(character.escape_debug()),
        }
    }
    visible
}

/// Most characters of a source's line that a note repeats.
const MAX_SHOWN: usize = 72;

/// Words of a line that begin values which are shown to nobody.
const SECRETS: [&str; 6] = ["authorization", "password", "passwd", "secret", "token", "cookie:"];

/// A line of the source as notes show it: on one line, shortened, without control characters and secrets.
pub(super) fn shown(words: &[&str]) -> String {
    let mut line = String::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        let lower = word.to_ascii_lowercase();
        line.push_str(&visible(word).replace('`', "'"));
        if SECRETS.iter().any(|secret| lower.contains(secret)) && words.len() > 1 {
            line.push_str(" …");
            break;
        }
        if line.chars().count() > MAX_SHOWN {
            break;
        }
    }
    if line.chars().count() > MAX_SHOWN {
        line = line.chars().take(MAX_SHOWN - 1).collect();
        line.push('…');
    }
    line
}

/// A line of the source, for notes about it.
#[derive(Clone, Debug)]
pub(super) struct SourceLine {
    pub(super) place: SourcePlace,
    pub(super) text: String,
}

impl SourceLine {
    pub(super) fn new(place: &SourcePlace, words: &[&str]) -> Self {
        Self { place: place.clone(), text: shown(words) }
    }

    pub(super) fn changed(&self, text: impl Into<String>) -> Note {
        self.note(Weight::Changed, text)
    }

    pub(super) fn left_out(&self, text: impl Into<String>) -> Note {
        self.note(Weight::LeftOut, text)
    }

    pub(super) fn unprotected(&self, text: impl Into<String>) -> Note {
        self.note(Weight::Unprotected, text)
    }

    fn note(&self, weight: Weight, text: impl Into<String>) -> Note {
        Note { weight, place: self.place.clone(), line: self.text.clone(), text: text.into() }
    }
}
