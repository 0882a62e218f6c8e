//! Conversion of other programs' configurations: nginx's, HAProxy's and Envoy's.
//!
//! A reader for each source makes a `model` with notes about every line that means something else here, or nothing.
//! `finish` gives it the rules of a Longhaul file, `write` writes it down, and the configuration's own parser reads the
//! result, so that a file that the gateway would refuse is never taken for a conversion.

mod document;
mod envoy;
mod files;
mod finish;
mod fits;
mod haproxy;
mod model;
mod nginx;
mod place;
mod quantity;
mod rules;
mod summary;
mod uses;
mod write;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::model::Model;
use crate::config::{self, KnownHooks, Problems};
use crate::counted::counted;

pub use files::{Disk, Files};
pub use place::{Note, SourcePlace, SourceProblem, Weight};

/// The program that a source is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// `nginx.conf`, or a file of sites.
    Nginx,
    /// `haproxy.cfg`.
    Haproxy,
    /// A static configuration, as YAML or JSON.
    Envoy,
}

impl SourceFormat {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    /// The program that a text is for, by its first words; `None` where none of the three begins so.
    pub fn of(text: &str) -> Option<Self> {
        const HAPROXY: [&str; 9] =
            ["global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "mailers"];
        let lines = || {
            text.lines()
                .map(|line| line.trim_start_matches('\u{feff}').trim())
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
        };
        for line in lines() {
            let word = line.split(|c: char| c.is_whitespace() || c == '{' || c == ';').next().unwrap_or_default();
            if line.starts_with("static_resources:") || line.contains("\"static_resources\"") {
                return Some(Self::Envoy);
            }
            if HAPROXY.contains(&word) && !line.contains(['{', ';']) {
                return Some(Self::Haproxy);
            }
            let is_block = line.ends_with([';', '{']) || line.ends_with('}') && line.contains(['{', ';']);
            if is_block && !line.starts_with(['{', '-', '"']) && !word.ends_with(':') && !word.is_empty() {
                return Some(Self::Nginx);
            }
        }
        None
    }
}

/// A finished conversion.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The Longhaul file.
    pub text: String,
    /// The words for standard error.
    pub summary: String,
    /// The notes in the file's comments.
    pub notes: Vec<Note>,
    /// Problems that the configuration's own parser has with the file; `None` as it should be.
    pub refused: Option<Problems>,
}

/// Why nothing was converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The main file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file begins as no configuration of the three programs does.
    #[error("is no configuration of nginx, HAProxy or Envoy by its first lines; name the program with `--from`")]
    Unknown,
    /// Problems of the source, in the order of their places.
    #[error("{}", listed(.0))]
    Refused(Vec<SourceProblem>),
}

/// Most problems that are shown of one source.
const MAX_PROBLEMS: usize = 100;

fn listed(problems: &[SourceProblem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(MAX_PROBLEMS).map(ToString::to_string).collect();
    if problems.len() > MAX_PROBLEMS {
        lines.push(format!("and {}", counted(problems.len() - MAX_PROBLEMS, "more problem")));
    }
    lines.join("\n")
}

/// Converts the file at `path`, and those it includes. `hooks` are those that a Longhaul file may name.
///
/// # Errors
/// The file cannot be read, is for none of the three programs, or has problems of which none is left out.
pub fn convert(
    path: &Path,
    kind: Option<SourceFormat>,
    files: &dyn Files,
    hooks: &dyn KnownHooks,
) -> Result<Converted, ConvertError> {
    let text = files.read(path)?;
    let name: Arc<str> = path.to_string_lossy().into();
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        let place = SourcePlace { file: name, line: line + 1 };
        return Err(ConvertError::Refused(vec![SourceProblem::new(&place, "a NUL in the file", "text")]));
    }
    let kind = kind.or_else(|| SourceFormat::of(&text)).ok_or(ConvertError::Unknown)?;
    let read = match kind {
        SourceFormat::Nginx => nginx::read(path, &text, files),
        SourceFormat::Haproxy => haproxy::read(path, &text, files),
        SourceFormat::Envoy => envoy::read(path, &text),
    };
    let mut model = read.map_err(|mut problems| {
        problems.sort_by(|one, other| one.place.cmp(&other.place));
        ConvertError::Refused(problems)
    })?;
    finish::finish(&mut model);
    let missing = missing(&model, &name);
    if !missing.is_empty() {
        return Err(ConvertError::Refused(missing));
    }
    let source = format!("{} ({})", place::visible(&name), kind.name());
    let notes = summary::notes(&model);
    let text = write::text(&model, &source);
    let refused = config::parse(&text, hooks).err();
    let summary = summary::text(&model, &notes, &source);
    Ok(Converted { text, summary, notes, refused })
}

/// Problems of a source of which no gateway can be made. Its notes are told, too: there is no file to have them.
fn missing(model: &Model, name: &Arc<str>) -> Vec<SourceProblem> {
    let parts = [("listener", model.listeners.is_empty()), ("route to a backend", model.routes.is_empty())];
    let expected = "a site that proxies HTTP or WebSockets to a backend by address or name";
    let problem = |thing: &str| {
        let place = SourcePlace { file: Arc::clone(name), line: 1 };
        SourceProblem::new(&place, format!("nothing in the files becomes a {thing}"), expected)
    };
    let mut problems: Vec<SourceProblem> =
        parts.iter().filter(|(_, is_missing)| *is_missing).map(|(thing, _)| problem(thing)).collect();
    if !problems.is_empty() {
        let told = |note: &Note| {
            let message = format!("`{}`: {}", note.line, note.text);
            SourceProblem::new(&note.place, message, "a line that Longhaul has an equivalent for")
        };
        problems.extend(summary::notes(model).iter().map(told));
    }
    problems
}
