//! Problems of a configuration file: the fault, its position, and the remedy.

use std::fmt;

use super::node::Mark;

use crate::counted::counted;

/// Weight of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted, but a part of it cannot have the effect it seems to have.
    Warning,
}

/// One fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// An error refuses the file; a warning does not.
    pub severity: Severity,
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in the line, in characters, from 1.
    pub column: usize,
    /// YAML path, such as `upstreams.chat.backends[1].weight`; empty for a problem of the whole file.
    pub path: String,
    /// The fault, in words.
    pub message: String,
    /// Values that are accepted there.
    pub expected: Option<String>,
    /// Advice on the mending.
    pub remedy: Option<String>,
}

impl Problem {
    pub(crate) fn new(severity: Severity, mark: Mark, path: String, message: impl Into<String>) -> Self {
        let Mark { line, column } = mark;
        Self { severity, line, column, path, message: message.into(), expected: None, remedy: None }
    }

    /// Sets the description of accepted values, such as ``a duration such as `5m` ``.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Sets the advice, such as ``write `5m` ``.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Reads a text written by [`Problem::without_place`]; any other text becomes the message.
    pub(crate) fn from_text(mark: Mark, path: String, text: &str) -> Self {
        let mut lines = text.lines();
        let mut problem = Self::new(Severity::Error, mark, path, shown(lines.next().unwrap_or_default()));
        for line in lines.map(shown) {
            if let Some(expected) = line.strip_prefix(EXPECTED) {
                problem.expected = Some(expected.to_owned());
            } else if let (Some(remedy), None) = (line.strip_prefix(INDENT), &problem.remedy) {
                problem.remedy = Some(remedy.to_owned());
            } else {
                problem.message = format!("{} {}", problem.message, line.trim());
            }
        }
        problem
    }

    /// Displays message, expectation and remedy, without the position.
    pub(crate) fn without_place(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            f.write_str(&self.message)?;
            if let Some(expected) = &self.expected {
                write!(f, "\n{EXPECTED}{expected}")?;
            }
            match &self.remedy {
                Some(remedy) => write!(f, "\n{INDENT}{remedy}"),
                None => Ok(()),
            }
        })
    }

    /// Displays the problem in the form of compilers, with `file` before the position:
    ///
    /// ```text
    /// longhaul.yaml:12:5: upstreams.chat.helth: unknown key
    ///   expected: one of affinity, backends, …
    ///   did you mean `health`?
    /// ```
    ///
    /// A warning has `warning: ` before the path. There is no line break at the end.
    pub fn in_file<'p>(&'p self, file: &'p str) -> impl fmt::Display + 'p {
        fmt::from_fn(move |f| write!(f, "{file}:{self}"))
    }
}

/// [`Problem::in_file`] without the file.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.without_place().fmt(f)
    }
}

const INDENT: &str = "  ";
const EXPECTED: &str = "  expected: ";

/// All problems of a refused configuration file, in the order of their positions.
///
/// At least one is an error; there may be warnings among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    left_out: usize,
}

impl Problems {
    /// The problems, in the order of their positions.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// Number of problems found beyond the 1,000 that are kept and given by [`Problems::iter`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Displays all problems, each by [`Problem::in_file`] on lines of its own, without a line break at the end.
    pub fn in_file<'p>(&'p self, file: &'p str) -> impl fmt::Display + 'p {
        fmt::from_fn(move |f| {
            for (index, problem) in self.list.iter().enumerate() {
                let line_break = if index == 0 { "" } else { "\n" };
                write!(f, "{line_break}{}", problem.in_file(file))?;
            }
            match self.left_out {
                0 => Ok(()),
                more => write!(f, "\n{file}: and {}", counted(more, "more problem")),
            }
        })
    }
}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.in_file("configuration"))
    }
}

impl std::error::Error for Problems {}

/// Sorts a list that is not empty.
impl From<Vec<Problem>> for Problems {
    fn from(list: Vec<Problem>) -> Self {
        let mut report = Report::default();
        list.into_iter().for_each(|problem| report.push(problem));
        report.close()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { list: vec![problem], left_out: 0 }
    }
}

/// The problems found so far, while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    list: Vec<Problem>,
    errors: usize,
    left_out: usize,
}

/// Most problems kept of one file: more than anyone mends in one go, and few enough that a wrong file of any size (or
/// one value repeated by aliases) costs little memory.
const MAX_PROBLEMS: usize = 1_000;

impl Report {
    pub(crate) fn push(&mut self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.errors += 1;
        }
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Records `problem` and returns `None`, as a reader does for a refused value.
    pub(crate) fn refuse<T>(&mut self, problem: Problem) -> Option<T> {
        self.push(problem);
        None
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Tells whether further problems are only counted, so that the search for a remedy would be wasted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() == MAX_PROBLEMS
    }

    /// Sorts the problems by position.
    pub(crate) fn close(mut self) -> Problems {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        Problems { list: self.list, left_out: self.left_out }
    }
}

impl Problems {
    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}

/// Text of the file for a message: in back quotes, [`printable`].
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", printable(text))
}

/// A line from another library or from hooks, for a message: control characters escaped, cut to 1,000 characters.
pub(crate) fn shown(line: &str) -> String {
    cut_to(1_000, line)
}

/// `text` with control characters escaped, which a terminal would obey, and cut to 100 characters.
pub(crate) fn printable(text: &str) -> String {
    cut_to(100, text)
}

fn cut_to(most: usize, text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == most => {
                shown.push('…');
                break;
            }
            '\'' | '"' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}
